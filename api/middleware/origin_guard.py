"""What keeps a web page in somebody's browser from using a service that asks for no key.

A page of any origin can send requests to 127.0.0.1. It cannot read the answers, but a question or a deletion does
its work unread; and a name of the page's own that it lets lead to 127.0.0.1 (DNS rebinding) lets it read, too. Both
show in headers that a page cannot set.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.middleware.auth import Authenticator
from api.problems import problem_response
from errors import AppError
from settings import is_loopback

_SAFE = {"GET", "HEAD", "OPTIONS"}
_FOREIGN = {b"cross-site", b"same-site"}
OTHER_HOST = "this server is not called by that name: use 127.0.0.1 or localhost, or add the name to ALLOWED_HOSTS"
OTHER_ORIGIN = "web pages of other origins may not call this server: CORS_ORIGINS lists those that may"


class BrowserGuard:
    """ASGI middleware that answers 421 to a Host that is not ours, and 403 to what a foreign page sends.

    Only as long as no key is asked for: a page has none to send. `hosts` are names beside those of the loopback, or
    None where it is not known by which names the server is called; `origins` may call, as for CORS.
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not await _requires_key(scope):
            headers: dict[bytes, bytes] = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            if not self._is_ours(host):
                await problem_response(421, "Misdirected request", OTHER_HOST)(scope, receive, send)
                return
            if scope["method"] not in _SAFE and self._is_foreign(headers, host):
                await problem_response(403, "Forbidden", OTHER_ORIGIN)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this server. Without one, no browser sent the request."""
        if not host or self._hosts is None:
            return True
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or is_loopback(name)

    def _is_foreign(self, headers: dict[bytes, bytes], host: str) -> bool:
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin in self._origins or "*" in self._origins:
            return False
        if origin:
            return origin not in {f"http://{host}", f"https://{host}"}
        return headers.get(b"sec-fetch-site") in _FOREIGN


class Cors(CORSMiddleware):
    """Starlette's middleware, but what it refuses is a problem, as all that fails here."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether a page may call."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        detail = f"{bytes(answer.body).decode()}: CORS_ORIGINS does not list it, or it is not taken here"
        return problem_response(answer.status_code, "Bad request", detail, headers=headers)


async def _requires_key(scope: Scope) -> bool:
    authenticator: Authenticator = scope["state"]["authenticator"]
    try:
        return await authenticator.requires_key()
    except AppError:  # the keys cannot be read: guard as if there were none
        return False
