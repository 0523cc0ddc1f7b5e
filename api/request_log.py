"""The id and the log line of each request. A line holds ids and numbers, never the requested address."""

from __future__ import annotations

import logging
import re
import time
from contextlib import AbstractContextManager
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability import logs, metrics, tracing
from observability.spans import Span

log = logging.getLogger("api")

HEADER = b"x-request-id"
_TRACEPARENT = b"traceparent"
_VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Methods that change nothing.
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# Any other method is a text that the client made up: the log writes `other` instead.
_KNOWN_METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
# An idle service that is probed and scraped must not write counts to Valkey.
_NOT_MEASURED = {"/health", "/metrics"}
# Nor are traces made of its probes.
_NOT_TRACED = _NOT_MEASURED | {"/ready"}
_FIRST_CLIENT_ERROR = 400
_FIRST_SERVER_ERROR = 500


class RequestLog:
    """ASGI middleware that sends `X-Request-ID` back, and logs and traces each request.

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
        if not tracing.enabled() or scope["path"] in _NOT_TRACED:
            await self._serve(scope, receive, send, request_id)
            return
        with _span(scope, request_id) as span:
            if span.trace_id is not None:
                logs.add_context(trace_id=span.trace_id)
            await self._serve(scope, receive, send, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
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
            seconds = time.perf_counter() - started_at
            count_request(scope, status, seconds)
            _end_span(scope, status)
            _log_request(scope, status, seconds)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == HEADER and _VALID_ID.fullmatch(value):
            return bytes(value)
    return uuid4().hex.encode()


def _span(scope: Scope, request_id: bytes) -> AbstractContextManager[Span]:
    """Return the block of a request's span, which goes on with the trace of the client."""
    method = scope["method"] if scope["method"] in _KNOWN_METHODS else "_OTHER"
    attributes = {"http.request.method": method, "url.scheme": scope["scheme"], "rag.request_id": request_id.decode()}
    parent = next((value for name, value in scope["headers"] if name == _TRACEPARENT), b"")
    return tracing.span(
        "HTTP" if method == "_OTHER" else method,
        attributes,
        kind="server",
        root=True,
        parent=tracing.read_traceparent(parent.decode("latin-1")),
    )


def _end_span(scope: Scope, status: int) -> None:
    """Note how a request ended. Without a status, the client left before the answer."""
    span = tracing.current_span()
    route = getattr(scope.get("route"), "path", None)
    if route is not None:
        span.rename(f"{scope['method']} {route}")
    span.set({"http.route": route, "http.response.status_code": status or None})
    if status >= _FIRST_SERVER_ERROR:
        span.fail(str(status))


def count_request(scope: Scope, status: int, seconds: float) -> None:
    """Add a request to the metrics, by OpenTelemetry's conventions: an empty label is one that is not there.

    Without a status, the client left before the answer.
    """
    if scope["path"] in _NOT_MEASURED:
        return
    method = scope["method"]
    metrics.observe(
        metrics.HTTP_SECONDS,
        seconds,
        method if method in _KNOWN_METHODS else "_OTHER",
        getattr(scope.get("route"), "path", ""),
        str(status) if status else "",
        scope["scheme"],
        str(status) if status >= _FIRST_SERVER_ERROR else "",
    )


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
