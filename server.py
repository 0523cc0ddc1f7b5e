"""The HTTP API as an ASGI app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel

from api import problems
from api import swagger as docs
from api.dependencies import State
from api.middleware.auth import Authentication, Authenticator, describe_auth
from api.middleware.body_limits import AddressCheck, BodyLimit
from api.middleware.origin_guard import BrowserGuard, Cors
from api.middleware.security_headers import HeadRequests, SecurityHeaders
from api.request_log import RequestLog
from api.routes import batches, chat, events, health, jobs, uploads, webhooks
from auth.api_keys import ApiKeyCache, ApiKeyRepository
from auth.quotas import Quotas
from client.files.store import open_file_store
from client.qdrant.tls import in_the_clear
from client.rq_client import JobQueue
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from documents.service import DocumentService
from errors import AppError
from settings import Settings
from webhooks.relay import RelayThread, open_events

log = logging.getLogger("api")

SETTLE_SECONDS = 10.0
VERSION = "0.1.0"
# What web pages of CORS_ORIGINS may send and read. Cookies never: there are none.
CORS_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key", "X-Request-ID"]
CORS_EXPOSED = ["Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-ID"]

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
        for sentence in in_the_clear(settings):
            log.warning(sentence)
        queue = JobQueue(
            settings.queue_url,
            job_timeout_seconds=settings.job_timeout_seconds,
            result_ttl_seconds=settings.result_ttl_seconds,
            ingestion_timeout_seconds=settings.ingestion_timeout_seconds,
        )
        database = Database(settings)
        listed, files = UploadRepository(database), open_file_store(settings)
        library = DocumentService(
            listed, files, queue, max_waiting=settings.max_queued_jobs, max_stored_mb=settings.max_stored_mb
        )
        told = open_events(settings)
        sweep = RelayThread(told)
        sweep.start()
        settling = asyncio.create_task(_settle_for_ever(library))
        try:
            await asyncio.to_thread(database.prepare)
            yield State(
                settings=settings,
                queue=queue,
                uploads=listed,
                files=files,
                library=library,
                webhooks=told.store,
                quotas=Quotas(settings, queue.pool),
                gate=Authenticator(settings, ApiKeyCache(ApiKeyRepository(database))),
            )
        finally:
            settling.cancel()
            with suppress(asyncio.CancelledError):
                await settling
            await asyncio.to_thread(sweep.stop)
            await queue.close()
            listed.close()

    app = FastAPI(
        title="RAG Query API",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs_enabled else None,
        responses=problems.describe(400, 403, 408, 414, 421, 431, 500),
    )
    larger = {"/uploads": settings.max_upload_mb * 1024 * 1024, "/chat/batch": batches.MAX_BODY_BYTES}
    # The last one added is the first to see a request.
    app.add_middleware(HeadRequests)
    app.add_middleware(Authentication)
    app.add_middleware(BodyLimit, larger=larger)
    _guard_edge(app, settings)
    problems.install(app)
    if settings.docs_enabled:
        docs.install(app)
    for part in (chat, batches, jobs, events, uploads, webhooks, health):
        app.include_router(part.router)

    @app.get("/", tags=["health"])
    async def greeting() -> Greeting:
        """Tell that the server runs."""
        return Greeting()

    _complete_document(app, settings)
    return app


async def _settle_for_ever(library: DocumentService) -> None:
    """Look, again and again, for uploads whose job was lost."""
    while True:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            await library.settle_all()
        except AppError as error:
            log.warning("uploads could not be looked through: %s", error.detail)


def _guard_edge(app: FastAPI, settings: Settings) -> None:
    """Wrap the app in what every request meets first. The last one added is the outermost."""
    app.add_middleware(AddressCheck)
    # While all may come in, a web page in the browser of one of them must not. Beyond loopback, names are not known
    # unless they are set.
    hosts = settings.hosts if settings.on_loopback else settings.hosts or None
    app.add_middleware(BrowserGuard, hosts=hosts, origins=settings.origins)
    if settings.origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
        )
    inner = app.build_middleware_stack
    # Outside of Starlette's own, which answers what nobody caught: that answer needs its headers and its line, too.
    app.build_middleware_stack = lambda: SecurityHeaders(RequestLog(inner()))  # type: ignore[method-assign]


def _complete_document(app: FastAPI, settings: Settings) -> None:
    """Put into the OpenAPI document what routes do not say: the Problem schema, and how callers authenticate."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        schemas = document["components"]["schemas"]
        problem = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs", {}) | {"Problem": problem}
        question = next(one for one in document["paths"]["/chat"]["post"]["parameters"] if one["name"] == "query")
        question["examples"] = {"question": {"value": chat.EXAMPLE}}  # FastAPI has no place for it in a model
        describe_auth(document, required=settings.auth_required or settings.takes_tokens)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
