"""Limits on what a request may bring, held before any of it is parsed."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem_response
from errors import PayloadTooLarge

MAX_BODY_BYTES = 64 * 1024


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit, declared or streamed.

    `larger` has the limits of the paths that take more.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES, larger: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = dict(larger or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._larger.get(scope["path"], self._max_bytes)
        received = 0
        answered = False

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                raise _TooLarge
            return message

        async def noted_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            if _declared_bytes(scope) > max_bytes:
                raise _TooLarge
            await self._app(scope, limited_receive, noted_send)
        except _TooLarge:
            if not answered:
                detail = f"the body is larger than {max_bytes} bytes"
                response = problem_response(PayloadTooLarge.status, PayloadTooLarge.title, detail)
                await response(scope, receive, send)


class _TooLarge(BaseException):
    """Not an Exception: FastAPI would turn that into a 400 of its own."""


def _declared_bytes(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared) if declared.isdigit() else 0
