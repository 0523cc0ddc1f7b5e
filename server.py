"""The HTTP API as an ASGI app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel

from api import chat, health, jobs, problems, webhooks
from api.dependencies import State
from api.limits import BodyLimit
from client.rq_client import JobQueue
from client.webhook_events import SweepThread, open_events
from settings import Settings

VERSION = "0.1.0"

DESCRIPTION = """Ask questions of your own documents and get answers with the page they stand on.

`POST /chat` takes the question and answers at once with a job id. Poll `GET /job-status/{job_id}` until the status
is `finished`, or `GET /result/{job_id}` until it answers 200. Every failure is a problem document (RFC 9457)."""


class Greeting(BaseModel):
    status: Literal["Server is up and running"] = "Server is up and running"
    service: Literal["RAG Query API"] = "RAG Query API"


def create_app(settings: Settings) -> FastAPI:
    """Build the app. It connects to Valkey with the first request that needs it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        queue = JobQueue(
            settings.queue_url,
            job_timeout_seconds=settings.job_timeout_seconds,
            result_ttl_seconds=settings.result_ttl_seconds,
        )
        events = open_events(settings)
        sweep = SweepThread(events)
        sweep.start()
        try:
            yield State(settings=settings, queue=queue, webhooks=events)
        finally:
            await asyncio.to_thread(sweep.stop)
            await queue.close()

    # Its Swagger page comes from this server, not from a CDN: it works without the internet.
    app = FastAPIOffline(
        title="RAG Query API",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        responses=problems.describe(500),
    )
    app.add_middleware(BodyLimit)
    problems.install(app)
    for router in (chat.router, jobs.router, webhooks.router, health.router):
        app.include_router(router)

    @app.get("/", tags=["health"])
    async def greeting() -> Greeting:
        """Tell that the server runs."""
        return Greeting()

    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the Problem schema, which no route returns as a model, into the OpenAPI document."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        schemas = document["components"]["schemas"]
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs", {}) | {"Problem": problem}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
