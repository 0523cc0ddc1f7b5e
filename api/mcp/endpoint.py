"""The routes of MCP. The protocol is that of the package `mcp`, which takes 18 MB and is imported with the first call.

Each request stands alone, in the revisions that know sessions too: so any process and any replica can answer it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from api.middleware.auth import MCP_METADATA_PATH, MCP_PATH, public_url
from settings import Settings

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

# The largest body: a file of api.mcp.documents.MAX_FILE_BYTES in base64, and what is around it.
MAX_BODY_BYTES: Final = 2 * 1024 * 1024


class McpEndpoint:
    """Answers the requests of MCP. `close` must be called in the event loop that answered them."""

    def __init__(self) -> None:
        self._manager: StreamableHTTPSessionManager | None = None
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._stop = asyncio.Event()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _read_body(receive) if scope["method"] == "POST" else b""
        manager = await self._started()
        # The server leaves the space that ends a value, which is no part of the value (RFC 9110, 5.5).
        headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await manager.handle_request({**scope, "headers": headers}, _with_body(body, receive), send)

    async def close(self) -> None:
        """End what still runs."""
        self._stop.set()
        if self._running is not None:
            await self._running

    async def _started(self) -> StreamableHTTPSessionManager:
        """Return the manager of requests, started by the first call."""
        async with self._starting:
            if self._manager is None:
                manager = await asyncio.to_thread(_make_manager)
                ready = asyncio.Event()
                self._running = asyncio.create_task(self._run(manager, ready))
                await ready.wait()
                self._manager = manager
        return self._manager

    async def _run(self, manager: StreamableHTTPSessionManager, ready: asyncio.Event) -> None:
        async with manager.run():
            ready.set()
            await self._stop.wait()


def _make_manager() -> StreamableHTTPSessionManager:
    """Import the package and make the manager, in a thread: the import takes 0.7 s."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # as the docstring says

    from api.mcp.protocol import make_server

    return StreamableHTTPSessionManager(make_server(), stateless=True)


async def _read_body(receive: Receive) -> bytes:
    """Return the whole body: BodyLimit refuses a large one here, and not inside of the package's task groups."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _with_body(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _metadata(request: Request) -> Response:
    """Describe who issues the tokens of /mcp (RFC 9728)."""
    settings: Settings = request.state.settings
    document: dict[str, Any] = {
        "resource": public_url(request.scope, MCP_PATH),
        "resource_name": "RAG Query API",
        "bearer_methods_supported": ["header"],
    }
    if settings.jwt_issuer:
        document["authorization_servers"] = [settings.jwt_issuer]
    return JSONResponse(document)


class _Asgi:
    """An ASGI app and not a function: Starlette gives it each method, and no response of its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint: McpEndpoint = scope["state"]["mcp"]
        scope["route"] = MCP_ROUTE  # for the log
        await endpoint.answer(scope, receive, send)


MCP_ROUTE: Final = Route(MCP_PATH, _Asgi())
ROUTES: Final = [MCP_ROUTE, Route(MCP_METADATA_PATH, _metadata)]
