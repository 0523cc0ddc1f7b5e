"""Sending one webhook: signed, to an address that was checked, in limited time, reading little of the answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import certifi
import httpcore

from errors import WebhookUrlRefused
from webhooks.ssrf import AddressPolicy, Target, parse_url, resolve_addresses

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  a prefix
SECRET_BYTES: Final = 32  # the specification asks for 24 to 64
# For all of one attempt: name, connection, TLS, request and response.
ATTEMPT_SECONDS: Final = 15
RESOLVE_SECONDS: Final = 5.0
# Beyond it nothing is read: a receiver that never stops talking gets no more of our time.
MAX_RESPONSE_BYTES: Final = 64 * 1024
_MAX_DIGITS: Final = 6
_WRITE_BYTES: Final = 16 * 1024
USER_AGENT: Final = "rag-query-api-webhooks/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went. `status` is the receiver's, None when there was no answer; `error` then says why.

    `retry_after_seconds` is what the receiver asked for, if it did.
    """

    status: int | None
    error: str | None
    seconds: float
    retry_after_seconds: int | None = None
    timed_out: bool = False

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  any 2xx

    @property
    def gone(self) -> bool:
        """The receiver wants no more webhooks."""
        return self.status == 410  # noqa: PLR2004


def new_secret() -> str:
    """Make a secret as the specification writes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(secret: str, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the specification's headers. `timestamp` is that of the attempt, in Unix seconds."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signature = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def send(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    policy: AddressPolicy,
    timeout_seconds: float = ATTEMPT_SECONDS,
) -> Outcome:
    """POST a body with these headers and no others of ours. Never raises for what a receiver does."""
    started = time.monotonic()
    deadline = started + timeout_seconds

    def outcome(status: int | None = None, **more: Any) -> Outcome:
        return Outcome(status, more.pop("error", None), round(time.monotonic() - started, 3), **more)

    try:
        target = parse_url(url, policy)
        addresses = resolve_addresses(target, policy, timeout_seconds=min(RESOLVE_SECONDS, timeout_seconds))
        status, retry_after = _post(target, addresses, body, headers, deadline)
    except WebhookUrlRefused as error:
        return outcome(error=f"refused: the URL {error.detail}")
    except (httpcore.TimeoutException, TimeoutError):
        return outcome(error=f"no answer within {timeout_seconds:g} s", timed_out=True)
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        return outcome(error=_reason(error))
    return outcome(status, retry_after_seconds=retry_after)


def _post(
    target: Target, addresses: list[str], body: bytes, headers: dict[str, str], deadline: float
) -> tuple[int, int | None]:
    """Send the request; return the status and the seconds of Retry-After. Follows no redirect, uses no proxy."""
    sent = {"host": target.authority, "user-agent": USER_AGENT, "content-type": "application/json", "accept": "*/*"}
    sent |= {"content-length": str(len(body)), "connection": "close"} | headers
    url = httpcore.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    backend = _PinnedBackend(addresses, deadline)
    with (
        httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
    ):
        headers_back = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        received = 0
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > MAX_RESPONSE_BYTES:
                break
        return response.status, _seconds(headers_back.get(b"retry-after", ""))


def _seconds(retry_after: str) -> int | None:
    """Read the header's common form; dates are rare and clocks differ."""
    return int(retry_after) if retry_after.isdecimal() and len(retry_after) <= _MAX_DIGITS else None


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to the addresses given, whatever the URL's host is, and ends everything at the deadline.

    The host still goes into the Host header and is what the certificate is checked against.
    """

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  the name: resolved and checked before
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for place, address in enumerate(self._addresses):
            # Each address gets its share of the time: the first may be IPv6 on a network without it.
            share = _left(self._deadline) / (len(self._addresses) - place)
            try:
                stream = self._real.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline: time limits for each step would let bytes trickle for ever."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        # In pieces: within one write each send would have the whole time again.
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the attempt's time is up")
    return left


@cache
def _tls() -> ssl.SSLContext:
    """Trust what the machine trusts (SSL_CERT_FILE too), and the usual authorities where it has no list."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _reason(error: Exception) -> str:
    """Say in a few words why there was no answer; never more than the kind of failure."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate was not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore.ProtocolError):
        return "the answer was no HTTP"
    if isinstance(error, httpcore.ConnectError):
        return "no connection could be made"
    return "the name cannot be resolved" if isinstance(error, OSError) else "the connection broke"


Sender = Callable[..., Outcome]
