"""Limits on what a request may bring, held before any of it is parsed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import error_response, problem_response
from errors import InvalidRequest, PayloadTooLarge, RequestError, RequestTimedOut

MAX_BODY_BYTES = 64 * 1024
# A parameter of our making, so that its name can be repeated.
_PARAMETER = re.compile(rb"([a-z_]{1,30})=")


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may come: no gap longer than `gap_seconds`, and after `grace_seconds` of waiting for it at
    least `bytes_per_second` on average. Only time spent waiting for the sender counts.
    """

    gap_seconds: float = 15.0
    grace_seconds: float = 15.0
    bytes_per_second: float = 1024.0


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit, declared or streamed, and 408 to one too slow.

    `larger` has the limits of the paths that take more.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int = MAX_BODY_BYTES,
        larger: Mapping[str, int] | None = None,
        pace: Pace = Pace(),
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = dict(larger or {})
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._larger.get(scope["path"], self._max_bytes)
        paced_receive = _PacedReceive(receive, max_bytes, self._pace)

        async def noted_send(message: Message) -> None:
            paced_receive.answered = True
            await send(message)

        try:
            if _declared_bytes(scope) > max_bytes:
                raise _Refused(_too_large(max_bytes))
            await self._app(scope, paced_receive, noted_send)
        except _Refused as refused:
            if not paced_receive.answered:
                error = refused.error
                # To close at once on somebody who still sends a lot would lose the answer on its way.
                headers = {"Connection": "close"} if isinstance(error, RequestTimedOut) else {}
                response = problem_response(error.status, error.title, error.detail, headers=headers)
                await response(scope, receive, send)


class _PacedReceive:
    """A receive that holds a body to its limits, until there is an answer: then it can no longer be refused."""

    def __init__(self, receive: Receive, max_bytes: int, pace: Pace) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._received = 0
        self._waited = 0.0
        self._over = False
        self.answered = False

    async def __call__(self) -> Message:
        if self._over:
            return await self._receive()
        began = self._loop.time()
        try:
            async with asyncio.timeout(self._pace.gap_seconds):
                message = await self._receive()
        except TimeoutError:
            if self.answered:
                return await self._receive()
            raise _Refused(_too_slow()) from None
        self._waited += self._loop.time() - began
        self._received += len(message.get("body", b""))
        self._over = not message.get("more_body", False)
        if self.answered:
            return message if self._received <= self._max_bytes else {"type": "http.disconnect"}
        if self._received > self._max_bytes:
            raise _Refused(_too_large(self._max_bytes))
        late = self._waited > self._pace.grace_seconds
        if not self._over and late and self._received < self._waited * self._pace.bytes_per_second:
            raise _Refused(_too_slow())
        return message


class AddressCheck:
    """ASGI middleware that answers 400 to a path that is not UTF-8 once decoded, and 422 to such a parameter."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not _is_text(scope.get("raw_path") or b""):
                await error_response(RequestError("the address is not valid UTF-8"))(scope, receive, send)
                return
            if not _is_text(scope["query_string"]):
                named = _PARAMETER.match(next(p for p in scope["query_string"].split(b"&") if not _is_text(p)))
                field = named[1].decode() if named else "query string"
                await error_response(InvalidRequest([(field, "must be valid UTF-8")]))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Refused(BaseException):
    """Not an Exception: FastAPI would turn that into a 400 of its own."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.detail)
        self.error = error


def _too_large(max_bytes: int) -> RequestError:
    return PayloadTooLarge(f"the body is larger than {max_bytes} bytes")


def _too_slow() -> RequestError:
    return RequestTimedOut("the body came too slowly")


def _declared_bytes(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0


def _is_text(part: bytes) -> bool:
    if b"%" not in part or not part.isascii():
        return part.isascii()
    try:
        unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return False
    return True
