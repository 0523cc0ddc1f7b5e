"""The Qdrant server of `make test-server`: each test sees collections of its own there.

A test talks to a proxy, which puts the test's prefix before the name of every collection. So tests may run at once, and
beside the data of others; at its end a test removes what it has made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from qdrant_client import QdrantClient

from client.qdrant.connection import connect
from settings import load_settings
from tests.support.openai_stub import serving
from tests.support.processes import SERVER

# Read before any test hides the variables.
SERVER_URL = os.environ.get("TEST_QDRANT_URL", "").rstrip("/")
SERVER_KEY = os.environ.get("TEST_QDRANT_API_KEY", "")
# The engines of contract tests. "langchain" is the code for a server, on the local mode of Qdrant's client.
ENGINES = ["embedded", "langchain", *(["server"] if SERVER_URL else [])]
TIMEOUT_SECONDS = 30.0


def client_of(engine: str) -> QdrantClient:
    """Return a client of the server, or of an empty Qdrant in local mode."""
    if engine != "server":
        return QdrantClient(":memory:")
    return connect(load_settings(qdrant_url=SERVER["QDRANT_URL"], qdrant_api_key=SERVER_KEY or None))


def make_proxy(http: httpx.Client, prefix: str) -> FastAPI:
    """Build the proxy as an ASGI app. Its handlers run in threads: `http` outlives the event loop."""
    app = FastAPI()

    @app.get("/collections")
    def names(request: Request) -> Response:
        answer = http.get("/collections", headers=_headers(request))
        if not answer.is_success:
            return Response(answer.content, answer.status_code)
        body = answer.json()
        found = [one["name"] for one in body["result"]["collections"]]
        ours = [{"name": name.removeprefix(prefix)} for name in found if name.startswith(prefix)]
        body["result"]["collections"] = ours
        return JSONResponse(body)

    @app.api_route("/collections/{rest:path}", methods=["GET", "PUT", "POST", "PATCH", "DELETE"])
    def forward(rest: str, request: Request, body: Annotated[bytes, Depends(_body)]) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        answer = http.request(
            request.method, f"/collections/{prefix}{rest}{query}", headers=_headers(request), content=body
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    return app


async def _body(request: Request) -> bytes:
    return await request.body()


def _headers(request: Request) -> dict[str, str]:
    return {name: value for name in ("api-key", "content-type") if (value := request.headers.get(name))}


@contextmanager
def own_collections() -> Iterator[str]:
    """Yield the URL of a Qdrant that is empty, on the server; remove what it holds at the end."""
    prefix = f"test-{secrets.token_hex(6)}-"
    key = {"api-key": SERVER_KEY} if SERVER_KEY else {}
    with httpx.Client(base_url=SERVER_URL, timeout=TIMEOUT_SECONDS) as http:
        with serving(make_proxy(http, prefix)) as url:
            yield url
        found = http.get("/collections", headers=key).raise_for_status().json()["result"]["collections"]
        for name in (one["name"] for one in found if one["name"].startswith(prefix)):
            http.delete(f"/collections/{name}", headers=key).raise_for_status()
