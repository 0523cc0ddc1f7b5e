"""Limits on the size, the pace and the encoding of a request, enforced before any of it is parsed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import error_response
from errors import AppError, InvalidRequest, PayloadTooLarge, RequestError, RequestTimedOut

MAX_BODY_BYTES = 64 * 1024
# Names of query parameters that an error may repeat: all of the API's parameters look like this.
_PARAMETER_NAME = re.compile(rb"([a-z_]{1,30})=")


@dataclass(frozen=True, slots=True)
class BodyPace:
    """The slowest accepted pace of a body. Only the time spent waiting for the client counts.

    No gap may be longer than `gap_seconds`. A body begins with a credit of `credit_seconds`. Waiting uses up the
    credit, and each `bytes_per_second` bytes earn a second, up to `credit_seconds`: a fast start pays for no slow end.
    """

    gap_seconds: float = 15.0
    credit_seconds: float = 15.0
    bytes_per_second: float = 1024.0


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit, declared or streamed, and 408 to a slow body.

    `larger_limits`: as for `body_limit`.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int = MAX_BODY_BYTES,
        larger_limits: Mapping[str, int] | None = None,
        pace: BodyPace = BodyPace(),
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger_limits = dict(larger_limits or {})
        self._pace = pace

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        if scope["type"] != "http" or not _has_body(scope):
            return self._app(scope, receive, send)
        return self._call_limited(scope, receive, send)

    async def _call_limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        max_bytes = body_limit(self._larger_limits, scope["path"]) or self._max_bytes
        limited_receive = _LimitedReceive(receive, max_bytes, self._pace)

        async def tracking_send(message: Message) -> None:
            limited_receive.response_started = True
            await send(message)

        try:
            if declared_bytes(scope) > max_bytes:
                raise BodyRefused(_too_large(max_bytes))
            await self._app(scope, limited_receive, tracking_send)
        except BodyRefused as refusal:
            if not limited_receive.response_started:
                error = refusal.error
                # A 413 leaves the connection open: a client that is still sending a large body would lose the response
                # if the connection closed at once.
                response = error_response(error)
                if isinstance(error, RequestTimedOut):
                    response.headers["Connection"] = "close"
                await response(scope, receive, send)


def body_limit(larger_limits: Mapping[str, int], path: str) -> int | None:
    """Return the limit of the bodies that a path accepts, in bytes; None for the usual limit.

    A key of `larger_limits` is a path, or the beginning of paths if it ends in `/`.
    """
    if path in larger_limits:
        return larger_limits[path]
    return next((limit for key, limit in larger_limits.items() if key.endswith("/") and path.startswith(key)), None)


class _LimitedReceive:
    """A `receive` that enforces the limits; after the start of the response, a body over the limit is only cut off."""

    def __init__(self, receive: Receive, max_bytes: int, pace: BodyPace) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._received_bytes = 0
        self._credit_seconds = pace.credit_seconds
        self._complete = False
        self.response_started = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        started_at = self._loop.time()
        try:
            async with asyncio.timeout(self._pace.gap_seconds):
                message = await self._receive()
        except TimeoutError:
            if self.response_started:
                return await self._receive()
            raise BodyRefused(_too_slow()) from None
        size = len(message.get("body", b""))
        self._received_bytes += size
        self._credit_seconds += size / self._pace.bytes_per_second - (self._loop.time() - started_at)
        self._complete = not message.get("more_body", False)
        if self.response_started:
            return message if self._received_bytes <= self._max_bytes else {"type": "http.disconnect"}
        if self._received_bytes > self._max_bytes:
            raise BodyRefused(_too_large(self._max_bytes))
        if self._credit_seconds < 0 and not self._complete:
            raise BodyRefused(_too_slow())
        self._credit_seconds = min(self._credit_seconds, self._pace.credit_seconds)
        return message


class AddressCheck:
    """ASGI middleware that refuses an address without a single Host (400), or that does not decode to UTF-8.

    The latter is a 400 for the path, and a 422 for the query.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        error = _address_error(scope) if scope["type"] == "http" else None
        return (self._app if error is None else error_response(error))(scope, receive, send)


class BodyRefused(BaseException):
    """A body that breaks a limit: raised by `receive`, answered by BodyLimit.

    Not an Exception: FastAPI would answer any Exception from `receive` with its own 400.
    """

    def __init__(self, error: AppError) -> None:
        super().__init__(error.detail)
        self.error = error


def _address_error(scope: Scope) -> RequestError | None:
    """Return what is wrong with the address of a request; None for a good address."""
    hosts = sum(name == b"host" for name, _ in scope["headers"])
    if hosts > 1 or (hosts == 0 and scope["http_version"] != "1.0"):  # RFC 9112, 3.2; probes may speak HTTP/1.0
        return RequestError("a request names one host: send exactly one Host header")
    if not _is_utf8(scope.get("raw_path") or b""):
        return RequestError("the address is not valid UTF-8: percent-encode it as UTF-8")
    if _is_utf8(scope["query_string"]):
        return None
    pairs = scope["query_string"].split(b"&")
    name = _PARAMETER_NAME.match(next(pair for pair in pairs if not _is_utf8(pair)))
    return InvalidRequest([(name[1].decode() if name else "query string", "must be valid UTF-8")])


def _too_large(max_bytes: int) -> RequestError:
    return PayloadTooLarge(f"the body is larger than {max_bytes} bytes, the limit of this address: send less")


def _too_slow() -> RequestError:
    return RequestTimedOut("the body came too slowly: send it again on a faster connection")


def declared_bytes(scope: Scope) -> int:
    """Return the Content-Length of a request; 0 without one."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _has_body(scope: Scope) -> bool:
    """Return True if the head of a request announces a body: without that, no server reads one (RFC 9112, 6.3)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _is_utf8(encoded: bytes) -> bool:
    """Return True if a percent-encoded text is ASCII and decodes to UTF-8."""
    if b"%" not in encoded or not encoded.isascii():
        return encoded.isascii()
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False
    return True
