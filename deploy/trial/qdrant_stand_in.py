"""The process in the stand-in of Qdrant's image, on port 6333, with a key and TLS as Qdrant's variables say."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tests.support.qdrant_server import make_server

STORAGE = Path("/qdrant/storage")


def make_app(folder: Path, key: str) -> FastAPI:
    """Build the server on a folder; an empty key lets everybody in."""
    app = make_server(folder)

    @app.get("/readyz")
    def ready() -> str:
        return "all shards are ready"

    @app.middleware("http")
    async def authenticate(request: Request, call_next: Any) -> Response:
        given = request.headers.get("api-key", "")
        if key and request.url.path != "/readyz" and not hmac.compare_digest(given.encode(), key.encode()):
            return JSONResponse({"status": {"error": "Must provide an API key"}}, 401)
        response: Response = await call_next(request)
        return response

    return app


if __name__ == "__main__":
    secured = os.environ.get("QDRANT__SERVICE__ENABLE_TLS") == "true"
    uvicorn.run(
        make_app(STORAGE, os.environ.get("QDRANT__SERVICE__API_KEY", "")),
        host="0.0.0.0",  # noqa: S104 - inside a container
        port=6333,
        log_level="warning",
        ssl_certfile=os.environ["QDRANT__TLS__CERT"] if secured else None,
        ssl_keyfile=os.environ["QDRANT__TLS__KEY"] if secured else None,
    )
