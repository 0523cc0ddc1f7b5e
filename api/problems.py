"""Errors as `application/problem+json` (RFC 9457). Every error response of the app is made here.

A problem never repeats a value that the client sent. It repeats the name of an unknown field if the name is a short
identifier.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.request_log import route_of
from client.files import data_dir
from errors import AppError, FilesUnavailable, InvalidRequest, QueueUnavailable, TooManyRequests, UploadsUnavailable
from settings import Settings

log = logging.getLogger("api")

MEDIA_TYPE = "application/problem+json"
# FastAPI raises this, with status 400, for a body that is not text, or is nested too deeply to parse.
_UNPARSABLE = "There was an error parsing the body"
# For a field of several types, pydantic's location also names the type tried: `upload_id.list[str].3`.
_TYPE_TRIED = re.compile(r"(?:constrained-)?(?:str|int|float|bool)|(?:list|dict|function-[a-z]+|json)\[.*")
# Every method that a route of the app may have; HEAD is answered as GET.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_NAMED_BY_CLIENTS = {"metadata", "attributes"}
_PARTS_OF_REQUEST = {"query", "body", "path", "header"}
_MESSAGES = {
    "json_invalid": "is not valid JSON",
    "model_attributes_type": "must be a JSON object, sent with Content-Type: application/json",
    "extra_forbidden": "contains an unknown field",
    "missing": "is required",
    "file": "must be a file, with a name",
    "string_too_short": "must not be empty",
}
# Names from other APIs, without `_` and in lower case, and the field that has the same meaning here.
_SYNONYMS = {
    **dict.fromkeys(("question", "q", "text", "prompt", "message", "messages", "input", "content"), "query"),
    **dict.fromkeys(("file", "fileid", "fileids", "document", "documentid", "documents", "uploads"), "upload_id"),
    **dict.fromkeys(("filename", "names", "documentname"), "name"),
    **dict.fromkeys(("topk", "limit", "n", "numresults"), "k"),
    **dict.fromkeys(("session", "sessionid", "thread", "threadid", "chatid"), "conversation_id"),
    **dict.fromkeys(("callback", "callbackurl", "webhook", "hook"), "webhook_url"),
    **dict.fromkeys(("queries", "items", "batch"), "questions"),
    **dict.fromkeys(("endpoint", "address", "uri"), "url"),
    **dict.fromkeys(("maxoutputtokens", "maxcompletiontokens"), "max_tokens"),
}
# A name that an error may repeat. Anything longer or stranger may be a secret or a text that was sent by mistake.
_SHORT_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,29}")


class FieldProblem(BaseModel):
    """What is wrong with one field of the request. The field's value is never repeated."""

    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


def problem_response(
    status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """Make the response of a problem. `members` extend the members that every problem has."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail} | members
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def openai_error(message: str, *, type_: str, param: str | None, code: str) -> dict[str, Any]:
    """Return the body of an error under /v1, which is no problem document."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def error_response(error: AppError, settings: Settings | None = None) -> Response:
    """Make the response of an error, with the headers that belong to its kind.

    With `settings`, the error of a store that may be in DATA_DIR says when the disk of DATA_DIR is full.
    """
    if error.status == HTTPStatus.NO_CONTENT:
        return Response(status_code=error.status)
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyRequests):
        headers |= error.headers
    members = {}
    if isinstance(error, InvalidRequest):
        members["errors"] = [{"field": field, "message": message} for field, message in error.problems]
    detail = error.detail
    if settings is not None and isinstance(error, QueueUnavailable | UploadsUnavailable | FilesUnavailable):
        low_space = data_dir.low_space(settings)
        detail = f"{detail}; {low_space}" if low_space else detail
    return problem_response(error.status, error.title, detail, headers=headers, **members)


def openapi_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of problem responses with these statuses."""
    schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": schema} for status in statuses}


def install_handlers(app: FastAPI) -> None:
    """Install the handlers that answer every error of the app with a problem."""
    app.exception_handler(AppError)(_handle_app_error)
    app.exception_handler(RequestValidationError)(_handle_validation_error)
    app.exception_handler(HTTPException)(_handle_http_exception)
    app.exception_handler(Exception)(_handle_unexpected)


async def _handle_app_error(request: Request, error: AppError) -> Response:
    return error_response(error, getattr(request.state, "settings", None))


async def _handle_validation_error(request: Request, error: RequestValidationError) -> Response:
    problems = [_unknown_field(request, details) or field_problem(details) for details in error.errors()]
    return error_response(InvalidRequest(list(dict.fromkeys(problems))))


async def _handle_http_exception(request: Request, error: HTTPException) -> Response:
    # Only a body gives 400. For a form, the detail names the limit that the form exceeds.
    if error.status_code == HTTPStatus.BAD_REQUEST:
        message = _MESSAGES["json_invalid"] if error.detail == _UNPARSABLE else error.detail
        return error_response(InvalidRequest([("body", message)]))
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"no route has this address{_address_hint(request)}"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = "this address does not accept the method: the header Allow names the accepted ones"
        headers = {"Allow": ", ".join(_accepted_methods(request, request.scope["path"]))}
    return problem_response(error.status_code, HTTPStatus(error.status_code).phrase, detail, headers=headers)


def _address_hint(request: Request) -> str:
    """Return the end of the sentence that no route has the address of the request."""
    path = request.scope["path"]
    if path.endswith("/") and _accepted_methods(request, path.rstrip("/")):
        return ": leave out the / at its end"
    return f": {request.state.root_path}/docs lists the routes" if request.app.openapi_url else ""


def _accepted_methods(request: Request, path: str) -> list[str]:
    """Return the methods that an address accepts. Starlette names those of the first of the address's routes only."""
    accepted = []
    for method in _METHODS:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method, "path": path}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            accepted.append(method)
    return accepted


async def _handle_unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error in %s %s", request.method, route_of(request.scope), exc_info=error)
    return problem_response(500, AppError.title, "the server failed: its log names the cause")


def field_problem(error: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name of a field and a message. The message never repeats a value from the request."""
    kind, location = str(error["type"]), list(error["loc"])
    for place, part in enumerate(location):
        if part in _NAMED_BY_CLIENTS:
            location = location[: place + 1]  # the next part is a key that the client made up
            break
    if kind == "json_invalid" and location[0] == "body":
        location = location[:1]  # the next part is a position in the text
    elif kind == "extra_forbidden":  # the last part is a name that the client made up
        location = ["query string"] if location[0] == "query" else location[:1]
    if "Expected UploadFile" in str(error["msg"]):
        kind = "file"
    message = _MESSAGES.get(kind) or str(error["msg"]).removeprefix("Value error, ")
    return _field_name(location), message


def _unknown_field(request: Request, error: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the name of an unknown field and a message with a suggestion.

    None for every other error, and for a name that must not be repeated.
    """
    *parents, name = error["loc"]
    if error["type"] != "extra_forbidden" or not _SHORT_IDENTIFIER.fullmatch(str(name)):
        return None
    model = _model_at(request, parents)
    known = _nearest(str(name), model.model_fields) if model is not None else None
    hint = f": did you mean `{known}`?" if known else ""
    return _field_name([*parents, name]), f"is not a known field{hint}"


def _model_at(request: Request, location: Sequence[Any]) -> type[BaseModel] | None:
    """Return the model that validated a part of a request, such as `body.questions.3`; None without a model."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not location:
        return None
    parameters = route.dependant.query_params if location[0] == "query" else route.dependant.body_params
    types: list[Any] = [parameter.field_info.annotation for parameter in parameters]
    for part in location[1:]:
        if isinstance(part, str):
            models = [model for model in _models(types) if part in model.model_fields]
            types = [model.model_fields[part].annotation for model in models] or types
    return next(iter(_models(types)), None)


def _models(types: Iterable[Any]) -> Iterator[type[BaseModel]]:
    """Yield the models among types and their arguments: ChatRequest for `list[ChatRequest] | None`."""
    for candidate in types:
        if isinstance(candidate, type) and not get_args(candidate) and issubclass(candidate, BaseModel):
            yield candidate
        yield from _models(get_args(candidate))


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known field that has the same meaning as a name, or a similar name; None without such a field."""
    bare = name.lower().replace("_", "")
    if (synonym := _SYNONYMS.get(bare)) in known:
        return synonym
    by_bare_name = {field.replace("_", ""): field for field in known}
    return next((by_bare_name[match] for match in difflib.get_close_matches(bare, by_bare_name, n=1)), None)


def _field_name(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if not _TYPE_TRIED.fullmatch(str(part))]
    if len(parts) > 1 and parts[0] in _PARTS_OF_REQUEST:
        parts = parts[1:]
    return ".".join(parts) or "body"
