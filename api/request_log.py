"""A request's id, and its line in the log: ids and numbers, never an address as it was asked for."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability import logs

log = logging.getLogger("api")

HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_READING = {"GET", "HEAD", "OPTIONS"}
# Methods of the log; another is a text that a stranger made up.
_METHODS = _READING | {"POST", "PUT", "PATCH", "DELETE"}
_ERRORS = 400
_FAILURES = 500


class RequestLog:
    """ASGI middleware: `X-Request-ID` is taken or made and sent back, and every request gets a line when it ends.

    Reading that went well is told at DEBUG: clients poll.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        logs.add_context(request_id=request_id.decode())
        started = time.perf_counter()
        status, complete = 0, False

        async def noted_send(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True
            await send(message)

        try:
            await self._app(scope, receive, noted_send)
        except Exception:
            if not complete:
                raise
            # It was logged where it was turned into a 500; the server would log it once more.
        finally:
            _tell(scope, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == HEADER and _WELL_FORMED.fullmatch(value):
            return bytes(value)
    return uuid4().hex.encode()


def _tell(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"]
    level = logging.DEBUG if method in _READING and status < _ERRORS else logging.INFO
    if status >= _FAILURES:
        level = logging.WARNING
    if not log.isEnabledFor(level):
        return
    told = logs.fields(
        method=method if method in _METHODS else "other",
        route=route_of(scope),
        status=status,
        ms=round(seconds * 1000, 2),
    )
    log.log(level, "request", extra=told)


def route_of(scope: Scope) -> str:
    """Return the template of a request's route, such as `/result/{job_id}`; `-` for an address that has none."""
    return str(getattr(scope.get("route"), "path", "-"))
