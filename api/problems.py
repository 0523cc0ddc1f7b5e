"""Failures as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from api.request_log import route_of
from errors import AppError, InvalidRequest, TooManyRequests

log = logging.getLogger("api")

MEDIA_TYPE = "application/problem+json"
# What FastAPI raises, with status 400, for a body that is not even text, or nested too deeply to parse.
_UNPARSABLE = "There was an error parsing the body"
# Where a field may be one thing or another, pydantic names the kind it tried: `upload_id.list[str].3`.
_ALTERNATIVE = re.compile(r"(?:constrained-)?(?:str|int|float|bool)|(?:list|dict|function-[a-z]+|json)\[.*")
_WHERE = {"query", "body", "path", "header"}
_PLAIN_WORDS = {
    "json_invalid": "is not valid JSON",
    "model_attributes_type": "must be a JSON object, sent with Content-Type: application/json",
    "extra_forbidden": "holds a field that is not known",
    "missing": "is required",
    "file": "must be a file, with a name",
    "string_too_short": "must not be empty",
}


class FieldProblem(BaseModel):
    """What is wrong with one field. The value itself is never repeated."""

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
    """Render a problem; `members` are added to it."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail} | members
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of the problems a route may answer with."""
    schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": schema} for status in statuses}


def install(app: FastAPI) -> None:
    """Have every failure of the app rendered as a problem."""
    app.exception_handler(AppError)(_app_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(Exception)(_unexpected)


def problem(error: AppError) -> Response:
    """Render an error."""
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
    return problem_response(error.status, error.title, error.detail, headers=headers, **members)


async def _app_error(_request: Request, error: AppError) -> Response:
    return problem(error)


async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    return problem(InvalidRequest(list(dict.fromkeys(map(_field_problem, error.errors())))))


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.BAD_REQUEST:  # only for bodies; of forms it tells which limit they break
        said = "is not valid JSON" if error.detail == _UNPARSABLE else error.detail
        return problem(InvalidRequest([("body", said)]))
    phrase = HTTPStatus(error.status_code).phrase
    details = {
        404: "there is nothing at this address" + ("; /docs lists what there is" if request.app.openapi_url else ""),
        405: "this address takes other methods",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem_response(error.status_code, phrase, detail, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error in %s %s", request.method, route_of(request.scope), exc_info=error)
    return problem_response(500, AppError.title, "the server failed; its log says why")


def _field_problem(error: Mapping[str, Any]) -> tuple[str, str]:
    """Name the field and say what is wrong, in words that hold nothing of what was sent."""
    kind, location = str(error["type"]), list(error["loc"])
    if "metadata" in location:
        location = location[: location.index("metadata") + 1]  # then comes a key the sender made up
    if kind == "json_invalid" and location[0] == "body":
        location = location[:1]  # then comes a position
    elif kind == "extra_forbidden":  # then comes a name the sender made up
        location = ["query string"] if location[0] == "query" else location[:1]
    if "Expected UploadFile" in str(error["msg"]):
        kind = "file"
    message = _PLAIN_WORDS.get(kind) or str(error["msg"]).removeprefix("Value error, ")
    return _field(location), message


def _field(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if not _ALTERNATIVE.fullmatch(str(part))]
    if len(parts) > 1 and parts[0] in _WHERE:
        parts = parts[1:]
    return ".".join(parts) or "body"
