"""Sessions of browsers: POST /session exchanges a key for a cookie, DELETE /session ends the session."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api.dependencies import AuthenticatorDep, QuotasDep, SessionStoreDep
from api.middleware.auth import SESSION_COOKIE, client_address, session_token
from api.problems import openapi_problems
from api.same_origin import is_foreign
from auth.api_keys import PREFIX
from auth.sessions import SESSION_SECONDS
from errors import Forbidden, InvalidRequest, NoKeyNeeded, Unauthenticated
from observability import logs
from schemas import KeyScope

router = APIRouter(tags=["sessions"])

MAX_KEY_CHARS = 500


class SessionRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: SecretStr = Field(max_length=MAX_KEY_CHARS, description="An API key, such as rag_...")


class Session(BaseModel):
    """A session: the cookie stands for the key, with its user and scopes, until the session or the key ends."""

    user_id: str
    scopes: list[KeyScope]
    expires_at: datetime


@router.post("/session", status_code=201, responses=openapi_problems(401, 403, 409, 422, 429, 503))
async def sign_in(
    asked: SessionRequest,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
    sessions: SessionStoreDep,
    quotas: QuotasDep,
) -> Session:
    """Exchange an API key for the cookie of a session, which no script can read and no other page can use."""
    _refuse_other_pages(request)
    if not await authenticator.requires_key():
        raise NoKeyNeeded("this server asks for no key: call it without a session")
    key, address = asked.key.get_secret_value().strip(), client_address(request.scope)
    if not key.startswith(PREFIX):
        raise InvalidRequest([("key", f"must be an API key, which begins with {PREFIX}")])
    try:
        caller = await authenticator.authenticate([(b"x-api-key", key.encode("utf-8", "replace"))])
    except Unauthenticated as error:
        logs.audit("refused", status=error.status, client=address, reason=error.reason)
        await quotas.count_failed_key(address, error)
        raise
    token, expires_at = await sessions.start(caller.key_id)
    logs.audit("session_started", key_id=caller.key_id, user_id=caller.user_id, client=address)
    response.set_cookie(SESSION_COOKIE, token, max_age=SESSION_SECONDS, **_cookie_options(request))
    return Session(user_id=caller.user_id, scopes=sorted(caller.scopes), expires_at=expires_at)


@router.delete("/session", status_code=204, responses=openapi_problems(403, 503))
async def sign_out(request: Request, response: Response, sessions: SessionStoreDep) -> None:
    """End the session of the cookie, here and in every copy of the cookie. Without a session, do nothing."""
    _refuse_other_pages(request)
    if token := session_token(request.scope["headers"]):
        await sessions.end(token)
    response.delete_cookie(SESSION_COOKIE, **_cookie_options(request))


def _refuse_other_pages(request: Request) -> None:
    """Refuse a page of another origin, which would sign the user in or out. Raises Forbidden."""
    if is_foreign(dict(request.scope["headers"])):
        raise Forbidden("web pages of other origins may not start or end a session")


def _cookie_options(request: Request) -> dict[str, Any]:
    return {
        "path": request.state.root_path or "/",
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
    }
