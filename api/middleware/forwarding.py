"""What a reverse proxy says of a request: the client's address and scheme, and the path under which the API is public.

Behind this middleware `scope["path"]` never begins with the public path, whether the proxy strips it or not. Addresses
in headers get the public path here; `state["root_path"]` has it for those in bodies.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, cast

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from settings import check_root_path

log = logging.getLogger("api")

PREFIX_HEADER = b"x-forwarded-prefix"


class Forwarding:
    """ASGI middleware that reads X-Forwarded-For, -Proto and -Prefix of trusted proxies. Must stand before all others.

    `proxies` are the addresses and networks of TRUSTED_PROXIES, or `*`. `root_path` is the public path of requests
    without X-Forwarded-Prefix.
    """

    def __init__(self, app: ASGIApp, *, proxies: str, root_path: str) -> None:
        self._app = app
        self._root_path = root_path
        self._proxy_headers = ProxyHeadersMiddleware(cast("Any", app), proxies) if proxies else None
        self._warned = False

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        if scope["type"] == "http":
            root_path = scope["state"]["root_path"] = self._forwarded_prefix(scope) or self._root_path
            if root_path:
                scope["path"] = _route_path(scope, root_path)
                send = _prefixing_location(root_path, send)
        if self._proxy_headers is not None:
            return self._proxy_headers(cast("Any", scope), cast("Any", receive), cast("Any", send))
        return self._app(scope, receive, send)

    def _forwarded_prefix(self, scope: Scope) -> str:
        """Return X-Forwarded-Prefix of a trusted proxy; "" without it.

        Each proxy in a row adds what it strips: the first one comes first.
        """
        values = [value for name, value in scope["headers"] if name == PREFIX_HEADER]
        if not values or self._proxy_headers is None:
            return ""
        if (scope["client"][0] if scope.get("client") else None) not in self._proxy_headers.trusted_hosts:
            return ""
        parts = b",".join(values).decode("latin-1").split(",")
        try:
            return "".join(check_root_path(part.strip()) for part in parts)
        except ValueError as error:
            if not self._warned:
                log.warning("X-Forwarded-Prefix of a trusted proxy is ignored: the header %s", error)
                self._warned = True
            return ""


def _route_path(scope: Scope, root_path: str) -> str:
    """Return the path without the public path, if a proxy has left it in.

    A proxy that strips `/chat` sends `/chat/batch` for `/chat/chat/batch`. So a route decides: only the rest of a path
    whose rest leads to a route is taken.
    """
    path: str = scope["path"]
    if not path.startswith(root_path):
        return path
    rest = path.removeprefix(root_path)
    if rest in {"", "/"}:
        return path if _has_route(scope, path) else "/"
    return rest if rest.startswith("/") and _has_route(scope, rest) else path


def _has_route(scope: Scope, path: str) -> bool:
    routes = scope["app"].routes
    return any(route.matches({**scope, "path": path})[0] is not Match.NONE for route in routes)


def _prefixing_location(root_path: str, send: Send) -> Send:
    """Return a `send` that puts the public path before the path in a Location."""

    async def send_with_location(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, root_path.encode() + value if name == b"location" and value.startswith(b"/") else value)
                for name, value in message.get("headers", ())
            ]
        await send(message)

    return send_with_location
