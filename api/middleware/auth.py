"""Who calls. Every path but the few in `OPEN` needs a key or a token, once the server wants any.

It is middleware and not a dependency of each route, so that a route somebody adds is closed from its first day, and
that a body is not read before it is known who sends it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import describe, problem
from auth.api_keys import PREFIX, ApiKeyCache
from auth.jwt import JwtVerifier
from auth.quotas import Quotas
from errors import AppError, Unauthenticated
from observability import logs
from schemas import Caller
from settings import Settings

# The greeting, the probes, and the page that asks for the key.
OPEN: Final = frozenset({"/", "/health", "/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
OPEN_FOLDER: Final = "/static-offline-docs/"
ANONYMOUS: Final = Caller()
MAX_CREDENTIAL_BYTES = 16 * 1024
# Keys and addresses that are remembered within a minute.
MAX_USES = 10_000

_HOW = "send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class Authenticator:
    """Decides who a request comes from."""

    def __init__(self, settings: Settings, keyring: ApiKeyCache) -> None:
        self._required = settings.auth_required or settings.takes_tokens
        self._keyring = keyring
        self._tokens = JwtVerifier(settings)

    async def wants_keys(self) -> bool:
        """Tell whether callers have to say who they are. Raises UploadsUnavailable."""
        return self._required or await self._keyring.any()

    async def admit(self, headers: list[tuple[bytes, bytes]]) -> Caller:
        """Return the caller. Raises Unauthenticated, IdentityUnavailable, UploadsUnavailable."""
        if not await self.wants_keys():
            return ANONYMOUS
        credential = _credential(headers)
        if credential is None:
            raise Unauthenticated(f"this server answers to those it knows: {_HOW}")
        if self._tokens.taken and not credential.startswith(PREFIX):
            return await self._tokens.caller(credential)
        caller = await self._keyring.caller(credential)
        if caller is None:
            raise Unauthenticated("the key is wrong, expired or revoked: ask whoever runs this server for another")
        return caller


class Authentication:
    """ASGI middleware that puts the caller into the state of a request, or answers 401, or 429 to too many."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._uses = _Uses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        gate: Authenticator = scope["state"]["gate"]
        quotas: Quotas = scope["state"]["quotas"]
        try:
            caller = scope["state"]["caller"] = await gate.admit(scope["headers"])
            logs.bind(user_id=caller.user_id, key_id=caller.key_id or None)
            quota = await quotas.count_request(caller)
        except AppError as error:
            logs.audit("refused", status=error.status, client=_address(scope))
            await problem(error)(scope, receive, send)
            return
        self._uses.note(caller, _address(scope))
        await self._app(scope, receive, send if quota is None else _with(quota.headers(), send))


class _Uses:
    """Tells the audit log of the use of keys: each from each address, once a minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._told: set[tuple[str, str]] = set()

    def note(self, caller: Caller, address: str) -> None:
        if not caller.key_id:
            return
        minute = int(time.time() // 60)
        if minute != self._minute or len(self._told) >= MAX_USES:
            self._minute, self._told = minute, set()
        if (caller.key_id, address) not in self._told:
            self._told.add((caller.key_id, address))
            logs.audit("key_used", key_id=caller.key_id, user_id=caller.user_id, client=address)


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _with(headers: Mapping[str, str], send: Send) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent = MutableHeaders(scope=message)
            for name, value in headers.items():  # both fields are lists: a refusal by another limit has its own
                sent[name] = f"{sent[name]}, {value}" if name in sent else value
        await send(message)

    return send_with


def is_open(path: str) -> bool:
    """Tell whether a path answers everybody."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def describe_auth(document: dict[str, Any], *, required: bool) -> None:
    """Put into the OpenAPI document how callers say who they are, and what happens when they do not."""
    document["components"]["securitySchemes"] = {
        "Bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT)."},
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    }
    ways: list[dict[str, list[str]]] = [{"Bearer": []}, {"X-API-Key": []}]
    refusals = {str(status): said for status, said in describe(401, 403, 429).items()}
    for path, methods in document["paths"].items():
        if not is_open(path):
            for operation in methods.values():
                operation["security"] = ways if required else [{}, *ways]
                operation["responses"] = refusals | operation["responses"]


def _credential(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return what a caller brings, from the first header that has something."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in {b"authorization", b"x-api-key"} and len(value) <= MAX_CREDENTIAL_BYTES:
            found.setdefault(name, value.decode("latin-1").strip())
    kind, _, credential = found.get(b"authorization", "").partition(" ")
    if kind.lower() == "bearer" and credential.strip():
        return credential.strip()
    return found.get(b"x-api-key") or None
