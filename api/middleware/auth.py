"""Authentication: once the server asks for keys, every path except the few in `PUBLIC` needs a key or a token.

Authentication is middleware and not a dependency of each route for two reasons: no new route can forget it, and no body
is read before its sender is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.page_files import PUBLIC_PATH
from api.problems import error_response
from api.request_log import SAFE_METHODS
from api.same_origin import is_same_origin
from api.swagger import STATIC_PATH
from auth.api_keys import PREFIX, ApiKeyCache
from auth.jwt import JwtVerifier
from auth.quotas import Quotas
from auth.sessions import SessionStore
from errors import AppError, Forbidden, QueueUnavailable, TooManyRequests, Unauthenticated
from observability import logs
from schemas import Caller
from settings import Settings

# The greeting, the probes, the page that asks for the key, the exchange of a key for a session, and the icon that
# browsers fetch by themselves.
PUBLIC: Final = frozenset(
    {"/", "/health", "/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/favicon.ico", "/session"}
)
MCP_PATH: Final = "/mcp"
# Where clients of /mcp read who issues its tokens (RFC 9728).
MCP_METADATA_PATH: Final = "/.well-known/oauth-protected-resource/mcp"
# Pages that answers cite. Signed links lead there, and the signature takes the place of a key.
CITED_PATH: Final = "/cited/"
PUBLIC_FOLDERS: Final = (f"{STATIC_PATH}/", PUBLIC_PATH, CITED_PATH)
# The cookie of a session.
SESSION_COOKIE: Final = "rag_session"
ANONYMOUS: Final = Caller()
# Largest number of pairs of key and address that are remembered within a minute.
MAX_LOGGED_PAIRS = 10_000
# The reason of a refusal: no key was sent. It does not count as a wrong key.
NO_KEY: Final = "none"

_SEND_A_KEY = "send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
_GET_A_KEY = (
    "the operator makes an admin's key with `main.py keys create --scope admin --name NAME` first, "
    "then one for each user with `main.py keys create --user USER --name NAME`"
)


class Authenticator:
    """Finds out who sent a request."""

    def __init__(self, settings: Settings, keys: ApiKeyCache, sessions: SessionStore) -> None:
        self._sessions = sessions
        self._always_required = settings.auth_required or settings.takes_tokens
        self._keys = keys
        self._tokens = JwtVerifier(settings)

    async def requires_key(self) -> bool:
        """Return True if callers must authenticate. Raises UploadsUnavailable."""
        return self._always_required or await self._keys.has_keys()

    async def authenticate(self, headers: list[tuple[bytes, bytes]], method: str = "GET") -> Caller:
        """Return the caller: by a key or token in a header, else by the cookie of a session.

        Raises Unauthenticated, Forbidden, IdentityUnavailable, UploadsUnavailable, QueueUnavailable.
        """
        if not await self.requires_key():
            return ANONYMOUS
        credential = _credential(headers)
        if credential is None and (session := session_token(headers)):
            return await self._caller_of_session(session, dict(headers), method)
        if credential is None:
            raise Unauthenticated(f"this server asks for a key: {_SEND_A_KEY}; {_GET_A_KEY}", reason=NO_KEY)
        if self._tokens.enabled and not credential.startswith(PREFIX):
            return await self._tokens.caller(credential)
        caller = await self._keys.caller(credential)
        if caller is None:
            raise Unauthenticated(f"the key is wrong, expired or revoked: get another; {_GET_A_KEY}", reason="key")
        return caller

    async def _caller_of_session(self, session: str, headers: Mapping[bytes, bytes], method: str) -> Caller:
        """Return the caller of a session. Other pages of the user's browser cannot change anything by the cookie."""
        if method not in SAFE_METHODS and not is_same_origin(headers):
            raise Forbidden("a session changes things only for the page of this server: send a key in a header instead")
        key_id = await self._sessions.key_id(session)
        caller = await self._keys.caller_of(key_id) if key_id else None
        if caller is None:
            raise Unauthenticated("the session has ended: sign in again with a key", reason=NO_KEY)
        return caller


class Authentication:
    """ASGI middleware that puts the caller into the request's state, or answers 401, or 429 beyond a limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._logged = _OncePerMinute()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        authenticator: Authenticator = scope["state"]["authenticator"]
        quotas: Quotas = scope["state"]["quotas"]
        try:
            caller = scope["state"]["caller"] = await authenticator.authenticate(scope["headers"], scope["method"])
            logs.add_context(user_id=caller.user_id, key_id=caller.key_id or None)
            quota = await quotas.count_request(caller)
        except Unauthenticated as error:
            refusal = await self._limited(error, quotas, client_address(scope))
            response = error_response(refusal)
            if scope["path"] == MCP_PATH and refusal is error:
                metadata = public_url(scope, MCP_METADATA_PATH)
                response.headers["WWW-Authenticate"] = f'Bearer resource_metadata="{metadata}"'
            await response(scope, receive, send)
            return
        except AppError as error:
            logs.audit("refused", status=error.status, client=client_address(scope))
            await error_response(error, scope["state"]["settings"])(scope, receive, send)
            return
        address = client_address(scope)
        if caller.key_id and self._logged.add(caller.key_id, address):
            logs.audit("key_used", key_id=caller.key_id, user_id=caller.user_id, client=address)
        await self._app(scope, receive, send if quota is None else _adding_headers(quota.headers(), send))

    async def _limited(self, error: Unauthenticated, quotas: Quotas, address: str) -> AppError:
        """Return the answer to a caller who is not known: 401, or 429 after many wrong keys from the address.

        Each 401 is a line of the audit log. The 429s of an address are one line a minute.
        """
        refusal: AppError = error
        if error.reason != NO_KEY:
            try:
                await quotas.count_failed_key(address, error)
            except TooManyRequests as limit:
                refusal = limit
            except QueueUnavailable:
                pass  # without Valkey nothing is counted
        if refusal is error or self._logged.add("failed-keys", address):
            logs.audit("refused", status=refusal.status, client=address, reason=error.reason)
        return refusal


class _OncePerMinute:
    """The pairs of a subject and an address about which a line was written within this minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._pairs: set[tuple[str, str]] = set()

    def add(self, subject: str, address: str) -> bool:
        """Add a pair. Returns False if it is there already."""
        minute = int(time.time() // 60)
        if minute != self._minute or len(self._pairs) >= MAX_LOGGED_PAIRS:
            self._minute, self._pairs = minute, set()
        if (subject, address) in self._pairs:
            return False
        self._pairs.add((subject, address))
        return True


def is_public(path: str) -> bool:
    """Return True if everybody may call a path, without a key."""
    return path in PUBLIC or path == MCP_METADATA_PATH or path.startswith(PUBLIC_FOLDERS)


def public_url(scope: Scope, path: str) -> str:
    """Return an address of this service as its clients know it."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost")
    return f"{scope['scheme']}://{host}{scope['state'].get('root_path', '')}{path}"


def client_address(scope: Scope) -> str:
    """Return the address of the client, after trusted proxies; "" where it is not known."""
    return scope["client"][0] if scope.get("client") else ""


def _adding_headers(added: Mapping[str, str], send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in added.items():
                # The RateLimit headers are lists. A refusal by another limit has already set an entry.
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        await send(message)

    return send_with_headers


def session_token(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the token in the cookie of a session; None without the cookie."""
    for name, value in headers:
        if name == b"cookie":
            for cookie in value.decode("latin-1").split(";"):
                key, _, token = cookie.strip().partition("=")
                if key == SESSION_COOKIE and token:
                    return token
    return None


def _credential(headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return the key or token in `Authorization: Bearer`, else the key in `X-API-Key`; None if neither is sent."""
    values: dict[bytes, str] = {}
    for name, value in headers:
        if name in {b"authorization", b"x-api-key"}:
            values.setdefault(name, value.decode("latin-1").strip())
    scheme, _, credential = values.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return values.get(b"x-api-key") or None
