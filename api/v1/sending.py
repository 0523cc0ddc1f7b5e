"""How answers of /v1 are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.client_connection import ClientConnection
from api.plain_requests import PlainStream, send_stream
from api.routes.events import PLAIN_HEADERS


class JsonResponse(Response):
    """A response whose body is JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content)


class StreamedResponse(Response):
    """Server-Sent Events, until their end or until the client is gone: then the generator is closed."""

    def __init__(self, parts: AsyncGenerator[bytes]) -> None:
        super().__init__()
        self._parts = parts

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        connection = scope["state"].get("connection") or ClientConnection()
        await send_stream(PlainStream(self._parts, PLAIN_HEADERS), connection, send)
