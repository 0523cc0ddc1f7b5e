"""Protection against foreign web pages while the service asks for no key.

A page of any origin can make a browser send requests to 127.0.0.1. The page cannot read the responses, but a question
or a deletion takes effect all the same. A page whose own host name resolves to 127.0.0.1 (DNS rebinding) can read the
responses too. Both attacks show in headers that a page cannot set.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware.auth import MCP_PATH, Authenticator
from api.problems import problem_response
from api.request_log import SAFE_METHODS
from api.same_origin import is_foreign
from errors import AppError
from settings import is_loopback

# The Host headers that are remembered as known: names with ports.
MAX_KNOWN_HOSTS = 100
UNKNOWN_HOST = "this server is not known by that name: use 127.0.0.1 or localhost, or add the name to ALLOWED_HOSTS"
FOREIGN_ORIGIN = "web pages of other origins may not call this server: add the origin to CORS_ORIGINS"


class BrowserGuard:
    """ASGI middleware that answers 421 to an unknown Host, and 403 to a foreign page that would change something.

    The guard acts only while the service asks for no key: a foreign page has no key to send. At /mcp it always refuses
    foreign origins, as MCP demands. `hosts` are further names of this server besides the loopback names; None accepts
    every name. Pages of `origins` may call, as for CORS.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None = (),
        origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower().strip("[]") for host in hosts}
        self._origins = frozenset(origins)
        self._known_hosts: set[str] = set()  # Host headers that were found to be known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ((keyless := not await _requires_key(scope)) or scope["path"] == MCP_PATH):
            headers: dict[bytes, bytes] = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            if keyless and host not in self._known_hosts and not self._is_known_host(host):
                await problem_response(421, "Misdirected request", UNKNOWN_HOST)(scope, receive, send)
                return
            if scope["method"] not in SAFE_METHODS and is_foreign(headers, origins=self._origins):
                await problem_response(403, "Forbidden", FOREIGN_ORIGIN)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_known_host(self, host: str) -> bool:
        """Return True if a Host header names this server, or is missing: every browser sends the header."""
        if not host or self._hosts is None:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        known = name in self._hosts or is_loopback(name)
        if known and len(self._known_hosts) < MAX_KNOWN_HOSTS:
            self._known_hosts.add(host)
        return known


class Cors(CORSMiddleware):
    """Starlette's CORS middleware, which answers a refused preflight request with a problem document."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether a page may call."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        detail = f"{bytes(response.body).decode()}: not listed in CORS_ORIGINS, or not accepted by this server"
        return problem_response(response.status_code, "Bad request", detail, headers=headers)


async def _requires_key(scope: Scope) -> bool:
    authenticator: Authenticator = scope["state"]["authenticator"]
    try:
        return await authenticator.requires_key()
    except AppError:  # the keys cannot be read: guard as if no key existed
        return False
