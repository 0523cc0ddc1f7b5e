"""The sender of one webhook: signed, to a checked address, in limited time, with a limit on the response."""

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
# The limit of a whole attempt: name, connection, TLS, request and response.
ATTEMPT_SECONDS: Final = 15
RESOLVE_SECONDS: Final = 5.0
# The rest of a longer response is not read: a receiver that never stops sending must not hold the worker.
MAX_RESPONSE_BYTES: Final = 64 * 1024
_MAX_DIGITS: Final = 6
_WRITE_BYTES: Final = 16 * 1024
USER_AGENT: Final = "rag-query-api-webhooks/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an attempt. `status` is the status of the response; None without a response: `error` says why.

    `retry_after_seconds` is the receiver's Retry-After; None without this header.
    """

    status: int | None
    error: str | None
    seconds: float
    retry_after_seconds: int | None = None
    timed_out: bool = False

    @property
    def delivered(self) -> bool:
        """True if the receiver accepted the webhook."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  any 2xx

    @property
    def gone(self) -> bool:
        """True if the receiver refuses all further webhooks."""
        return self.status == 410  # noqa: PLR2004


def new_secret() -> str:
    """Make a secret in the format of the Standard Webhooks specification."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(*secrets_: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of the specification. `timestamp` is the time of the attempt, in Unix seconds."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix(SECRET_PREFIX)) for secret in secrets_]
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def send(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    policy: AddressPolicy,
    timeout_seconds: float = ATTEMPT_SECONDS,
) -> Outcome:
    """POST a body with `headers` beside the usual headers. A failure of the receiver is an outcome, not an error."""
    started = time.monotonic()
    deadline = started + timeout_seconds

    def outcome(status: int | None = None, error: str | None = None, **details: Any) -> Outcome:
        return Outcome(status, error, round(time.monotonic() - started, 3), **details)

    try:
        target = parse_url(url, policy)
        addresses = resolve_addresses(target, policy, timeout_seconds=min(RESOLVE_SECONDS, timeout_seconds))
        status, retry_after = _post(target, addresses, body, headers, deadline)
    except WebhookUrlRefused as error:
        return outcome(error=f"refused: the URL {error.detail}")
    except (httpcore.TimeoutException, TimeoutError):
        return outcome(error=f"no answer within {timeout_seconds:g} s", timed_out=True)
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        return outcome(error=_failure_reason(error))
    return outcome(status, retry_after_seconds=retry_after)


def _post(
    target: Target, addresses: list[str], body: bytes, headers: dict[str, str], deadline: float
) -> tuple[int, int | None]:
    """Send the request; return the status and the seconds of Retry-After. Follows no redirect and uses no proxy."""
    all_headers = {
        "host": target.authority,
        "user-agent": USER_AGENT,
        "content-type": "application/json",
        "accept": "*/*",
    }
    all_headers |= {"content-length": str(len(body)), "connection": "close"} | headers
    url = httpcore.URL(
        scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
    )
    backend = _PinnedBackend(addresses, deadline)
    with (
        httpcore.ConnectionPool(ssl_context=_tls_context(), network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(all_headers.items()), content=body) as response,
    ):
        response_headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        received = 0
        for chunk in response.iter_stream():
            received += len(chunk)
            if received > MAX_RESPONSE_BYTES:
                break
        return response.status, _retry_after_seconds(response_headers.get(b"retry-after", ""))


def _retry_after_seconds(retry_after: str) -> int | None:
    """Parse a Retry-After in seconds. The form with a date is ignored: it is rare, and clocks differ."""
    return int(retry_after) if retry_after.isdecimal() and len(retry_after) <= _MAX_DIGITS else None


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to the given addresses without resolving the host again, and ends everything at the deadline.

    The host of the URL is still the Host header, and the name that the certificate is checked against.
    """

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  it was resolved and checked before
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for index, address in enumerate(self._addresses):
            # Each address gets a share of the time: the first may be IPv6 on a network without IPv6.
            share = _remaining_seconds(self._deadline) / (len(self._addresses) - index)
            try:
                stream = self._backend.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline. With a limit for each step, bytes could trickle forever."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _remaining_seconds(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        # Each piece gets the remaining time. In one large write, each `send` of the socket would get the time again.
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], _remaining_seconds(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _remaining_seconds(self._deadline))
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining_seconds(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the attempt reached its time limit")
    return remaining


@cache
def _tls_context() -> ssl.SSLContext:
    """Trust the authorities of the machine (SSL_CERT_FILE too) and those of certifi, for machines without a list."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _failure_reason(error: Exception) -> str:
    """Return a few words on why there was no response: the kind of failure, without details."""
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
        return "the response was not HTTP"
    if isinstance(error, httpcore.ConnectError):
        return "no connection could be made"
    return "the name cannot be resolved" if isinstance(error, OSError) else "the connection broke"


Sender = Callable[..., Outcome]
