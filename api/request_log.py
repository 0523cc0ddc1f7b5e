"""The id and the log line of each request. A line holds ids and numbers, never the requested address."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability import logs

log = logging.getLogger("api")

HEADER = b"x-request-id"
_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Methods that change nothing.
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# Any other method is a text that the client made up: the log writes `other` instead.
_KNOWN_METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
_FIRST_CLIENT_ERROR = 400
_FIRST_SERVER_ERROR = 500


class RequestLog:
    """ASGI middleware that sends `X-Request-ID` back, and logs each request when it ends.

    The id is the client's `X-Request-ID` if well formed, else a new id. Successful reads are logged at DEBUG, because
    clients poll.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        logs.add_context(request_id=request_id.decode())
        started_at = time.perf_counter()
        status, complete = 0, False

        async def tracking_send(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True
            await send(message)

        try:
            await self._app(scope, receive, tracking_send)
        except Exception:
            if not complete:
                raise
            # The handler that made the 500 has logged the error; uvicorn would log it a second time.
        finally:
            _log_request(scope, status, time.perf_counter() - started_at)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == HEADER and _VALID_ID.fullmatch(value):
            return bytes(value)
    return uuid4().hex.encode()


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"]
    level = logging.DEBUG if method in SAFE_METHODS and status < _FIRST_CLIENT_ERROR else logging.INFO
    if status >= _FIRST_SERVER_ERROR:
        level = logging.WARNING
    if not log.isEnabledFor(level):
        return
    fields = logs.fields(
        method=method if method in _KNOWN_METHODS else "other",
        route=route_of(scope),
        status=status,
        ms=round(seconds * 1000, 2),
    )
    log.log(level, "request", extra=fields)


def route_of(scope: Scope) -> str:
    """Return the template of a request's route, such as `/result/{job_id}`; `-` if no route matches the address."""
    return str(getattr(scope.get("route"), "path", "-"))
