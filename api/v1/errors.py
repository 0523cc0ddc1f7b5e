"""Errors of /v1 in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

Every layer answers with a problem document; OpenAIErrors translates the documents of paths under /v1. A route of /v1
raises ApiError where the code says more than the status.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.dependencies import ScopedRoute
from api.problems import MEDIA_TYPE, field_problem, openai_error
from errors import InvalidRequest, RequestError

PREFIX: Final = "/v1/"
# OpenAI's clients repeat a 409 three times, and know neither 410, 415 nor 422.
_STATUSES: Final[Mapping[int, int]] = {409: 400, 410: 404, 415: 400, 422: 400}
# The code of an error and its type, by the status that the client gets.
_CODES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("invalid_api_key", "invalid_request_error"),
    403: ("permission_denied", "invalid_request_error"),
    404: ("not_found", "invalid_request_error"),
    413: ("request_too_large", "invalid_request_error"),
    429: ("rate_limit_exceeded", "rate_limit_error"),
}
_SERVER_ERROR: Final = ("server_error", "server_error")
# Kinds of not found, by the title of the problem.
_NOT_FOUND: Final[Mapping[str, str]] = {
    "Job not found": "response_not_found",
    "Job expired": "response_not_found",
    "Upload not found": "file_not_found",
    "File missing": "file_not_found",
}


class ApiError(RequestError):
    """An error of a route of /v1. `param` names the parameter that is wrong."""

    def __init__(self, detail: str, *, code: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(detail)
        self.code = code
        self.param = param
        self.answer_status = status


def unsupported(param: str, what: str) -> ApiError:
    """Return the error for a value that OpenAI accepts and this service does not. `what`: what to send instead."""
    return ApiError(f"{param}: {what}", code="unsupported_value", param=param)


def invalid(problem: ValidationError, at: str = "") -> RequestValidationError:
    """Return the error of a body that does not validate. `at`: the parameter that was validated, such as `tools[0]`."""
    return RequestValidationError([{**error, "loc": ("body", *_place(at, error["loc"]))} for error in problem.errors()])


def _place(at: str, location: Sequence[int | str]) -> list[str]:
    """Return the names of a place; a number belongs to the name before: `files[3]`."""
    parts = [at] if at else []
    for part in location:
        if isinstance(part, int) and parts:
            parts[-1] += f"[{part}]"
        else:
            parts.append(str(part))
    return parts


class OpenAIRoute(ScopedRoute):
    """A route of /v1: checks scopes before the body is read, and answers an ApiError with its code."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        handle = super().get_route_handler()

        async def handle_errors(request: Request) -> Response:
            try:
                return await handle(request)
            except ApiError as error:
                kind = _CODES.get(error.answer_status, _SERVER_ERROR)[1]
                body = openai_error(error.detail, type_=kind, param=error.param, code=error.code)
                return JSONResponse(body, status_code=error.answer_status)
            except RequestValidationError as error:
                return _refusal(error)

        return handle_errors


def _refusal(error: RequestValidationError) -> Response:
    """Return the answer to a request that does not validate."""
    found = InvalidRequest(list(dict.fromkeys(map(field_problem, error.errors()))))
    code, kind = _CODES[400]
    code = next(filter(None, map(_code_of_length, error.errors())), code)
    body = openai_error(found.detail, type_=kind, param=found.problems[0][0], code=code)
    return JSONResponse(body, status_code=400)


def _code_of_length(problem: Mapping[str, Any]) -> str | None:
    """Return the code for a text or a list that is too long; None for another problem."""
    if problem["type"] == "string_too_long":
        return "string_above_max_length"
    is_list = problem["type"] == "too_long" and problem["ctx"]["field_type"] == "List"
    return "array_above_max_length" if is_list else None


class OpenAIErrors:
    """ASGI middleware that translates the problem documents of the paths under /v1. Stands outside all that refuse."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            send = _translating(send)
        return self._app(scope, receive, send)


def _translating(send: Send) -> Send:
    """Return a `send` that holds the head of a problem back until its body is there, and sends both translated."""
    head: Message | None = None
    parts: list[bytes] = []

    async def send_translated(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            if dict(message.get("headers", ())).get(b"content-type") != MEDIA_TYPE.encode():
                await send(message)
            else:
                head = message
            return
        if head is None:
            await send(message)
            return
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            start, head = head, None
            status, body = _translate_document(b"".join(parts), start["status"])
            await send({**start, "status": status, "headers": _headers(start["headers"], body)})
            await send({"type": "http.response.body", "body": body})

    return send_translated


def _translate_document(document: bytes, status: int) -> tuple[int, bytes]:
    """Return the status and the body of an error; of a HEAD request, whose document is empty, no body."""
    if not document:
        return _STATUSES.get(status, status), b""
    answered, body = translate(json.loads(document), status)
    return answered, json.dumps(body, ensure_ascii=False).encode()


def translate(problem: Mapping[str, Any], status: int) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error for a problem."""
    code, kind = _CODES.get(_STATUSES.get(status, status), _SERVER_ERROR if status >= 500 else _CODES[400])  # noqa: PLR2004
    answered = _STATUSES.get(status, status)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        code = _NOT_FOUND.get(problem["title"], code)
    fields = problem.get("errors") or [{"field": None}]
    return answered, openai_error(problem["detail"], type_=kind, param=fields[0]["field"], code=code)


def _headers(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    replaced = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
    return [(name, replaced.get(name, value)) for name, value in headers]
