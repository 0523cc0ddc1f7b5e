"""The HTTP API as an ASGI app."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from api import openapi, problems, swagger
from api.dependencies import AppState
from api.mcp import endpoint as mcp
from api.middleware.auth import MCP_PATH, Authentication, Authenticator
from api.middleware.body_budget import BodyBudget
from api.middleware.body_limits import AddressCheck, BodyLimit
from api.middleware.forwarding import Forwarding
from api.middleware.load_shedding import LoadShedding
from api.middleware.origin_guard import BrowserGuard, Cors
from api.middleware.security_headers import HeadRequests, SecurityHeaders
from api.page_files import PageFiles
from api.plain_requests import PlainAnswers
from api.pools import Pools
from api.request_log import RequestLog
from api.routes import (
    batches,
    chat,
    cited,
    dead_letters,
    events,
    health,
    index_versions,
    jobs,
    keys,
    page,
    pages,
    sessions,
    stats,
    uploads,
    users,
    webhooks,
)
from api.routes import conversations as conversation_routes
from api.routes import me as me_route
from api.routes import metrics as metrics_route
from api.routes import settings as settings_route
from api.v1 import bodies as v1_bodies
from api.v1 import chat_completions as v1_chat
from api.v1 import compaction as v1_compaction
from api.v1 import conversations as v1_conversations
from api.v1 import files as v1_files
from api.v1 import models as v1_models
from api.v1 import responses as v1_responses
from api.v1 import store_files as v1_store_files
from api.v1 import vector_stores as v1_vector_stores
from api.v1 import webhook_endpoints as v1_webhooks
from api.v1.errors import OpenAIErrors
from auth.api_keys import ApiKeyCache, ApiKeyRepository
from auth.links import LinkSigner
from auth.quotas import Quotas
from auth.sessions import SessionStore
from client.files.store import FileStore, open_file_store
from client.rq_client import JobQueue
from client.sql.conversations import ConversationRepository
from client.sql.database import Database
from client.sql.deployment import DeploymentRepository
from client.sql.index_versions import IndexVersionRepository
from client.sql.recognized_pages import RecognizedPageRepository
from client.sql.stores import VectorStoreRepository
from client.sql.uploads import UploadRepository
from client.sql.users import UserRepository
from client.valkey.counts import CountsThread
from documents.deployment import require_own_queue_id
from documents.index_builds import IndexBuilds
from documents.page_views import PageViews
from documents.service import DocumentService
from errors import AppError, SettingsError
from monitoring.collector import DeploymentMetrics
from monitoring.port import MetricsPort
from observability import tracing
from settings import VERSION, Settings
from settings.unencrypted import unencrypted_secrets
from webhooks.relay import OutboxRelay, RelayThread, open_relay

log = logging.getLogger("api")

Check = Callable[[], Awaitable[object]]

RECONCILE_SECONDS = 10.0
# How many of the largest bodies one caller, and all callers together, may send at a time.
BODIES_OF_CALLER, BODIES_OF_ALL = 4, 16
# The headers that web pages of CORS_ORIGINS may send and read. The API uses no cookies.
CORS_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key", "X-Request-ID"]
CORS_EXPOSED = ["Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-ID"]

DESCRIPTION = """Ask questions of your own documents and get answers with the pages that support them.

`POST /chat` takes the question and answers at once with a job id. Poll `GET /job-status/{job_id}` until the status
is `finished`, or `GET /result/{job_id}` until it answers 200. Every failure is a problem document (RFC 9457)."""


class RagApi(FastAPI):
    """The FastAPI app, with a complete OpenAPI document and five layers around Starlette's middleware."""

    def __init__(self, settings: Settings) -> None:
        """Set up the app without its middleware and routes; create_app adds both."""
        self._settings = settings
        self._auth_required = settings.auth_required or settings.takes_tokens
        self._completed: dict[str, Any] | None = None
        super().__init__(
            title="RAG Query API",
            version=VERSION,
            description=DESCRIPTION,
            lifespan=_lifespan(settings),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,  # api/swagger.py adds the route
            # A redirect would repeat the scheme and the Host header that the client sent.
            redirect_slashes=False,
            responses=problems.openapi_problems(400, 403, 408, 414, 421, 431, 500),
        )

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap Starlette's stack, whose outermost layer makes the 500: a 500 needs the headers and a log line too."""
        app = SecurityHeaders(RequestLog(OpenAIErrors(LoadShedding(super().build_middleware_stack()))))
        return Forwarding(app, proxies=self._settings.trusted_proxies, root_path=self._settings.root_path)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document. FastAPI builds it on the first call, and again after a route was added."""
        document = super().openapi()
        if document is not self._completed:
            openapi.complete(document, auth_required=self._auth_required)
            self._completed = document
        return document


def create_app(settings: Settings) -> FastAPI:
    """Build the app. The first request that needs Valkey opens the connection."""
    app = RagApi(settings)
    _add_middleware(app, settings)
    problems.install_handlers(app)
    if settings.docs_enabled:
        swagger.install(app)
    for module in (
        chat,
        batches,
        jobs,
        events,
        index_versions,
        uploads,
        pages,
        cited,
        webhooks,
        conversation_routes,
        me_route,
        health,
        sessions,
        page,
        keys,
        users,
        dead_letters,
        settings_route,
        stats,
        metrics_route,
        v1_models,
        v1_compaction,
        v1_responses,
        v1_chat,
        v1_files,
        v1_conversations,
        v1_webhooks,
        v1_vector_stores,
        v1_store_files,
    ):
        app.include_router(module.router)
    app.router.routes.extend(mcp.ROUTES)
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Add the layers that a request passes before its route. The layer added last sees a request first."""
    app.add_middleware(PlainAnswers, routes=[chat.PLAIN_ROUTE, *jobs.PLAIN_ROUTES, events.PLAIN_ROUTE])
    app.add_middleware(HeadRequests)
    larger_limits = dict.fromkeys(("/uploads", "/v1/files"), settings.max_upload_mb * 1024 * 1024)
    larger_limits["/chat/batch"] = batches.MAX_BODY_BYTES
    larger_limits["/v1/"] = v1_bodies.MAX_BODY_BYTES
    larger_limits[MCP_PATH] = mcp.MAX_BODY_BYTES
    largest = max(larger_limits.values())
    app.add_middleware(
        BodyBudget,
        larger_limits=larger_limits,
        # The processes know nothing of each other: each takes its share, and at least one body.
        caller_bytes=max(1, BODIES_OF_CALLER // settings.api_processes) * largest,
        total_bytes=max(1, BODIES_OF_ALL // settings.api_processes) * largest,
    )
    app.add_middleware(Authentication)
    app.add_middleware(BodyLimit, larger_limits=larger_limits)
    app.add_middleware(AddressCheck)
    # While calls need no key, no foreign web page may call through a user's browser. A server beyond the loopback
    # interface knows its names only from ALLOWED_HOSTS; without this setting it accepts every name.
    hosts = settings.hosts if settings.on_loopback or settings.allowed_hosts else None
    app.add_middleware(BrowserGuard, hosts=hosts, origins=settings.origins)
    if settings.origins:
        app.add_middleware(
            Cors,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
        )


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[AppState]]:
    """Return the context manager that opens what the app uses when the app starts, and closes it at the end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[AppState]:
        database = Database(settings)
        upload_rows, files = UploadRepository(database), open_file_store(settings)
        queue = JobQueue.from_settings(settings, settings.queue_url)
        pools, api_keys, session_store = Pools(), ApiKeyRepository(database), SessionStore(queue.valkey)
        documents = _open_documents(settings, upload_rows, files, queue, pools)
        page_views = _open_page_views(settings, files, database, pools)
        key_cache, conversations = ApiKeyCache(api_keys), ConversationRepository(database)
        builds = IndexBuilds(IndexVersionRepository(database), queue, in_sql_thread=pools.sql.run)
        relay, metrics, mcp_endpoint = open_relay(settings), DeploymentMetrics(settings, database), mcp.McpEndpoint()
        async with AsyncExitStack() as stack:  # closes in reverse order
            stack.callback(upload_rows.close)
            stack.callback(pools.close)
            stack.push_async_callback(queue.close)
            stack.push_async_callback(mcp_endpoint.close)
            await stack.enter_async_context(_running(relay, metrics, settings))
            forget = partial(pools.sql.run, conversations.remove_unused, unused_seconds=settings.result_ttl_seconds)
            checks: list[Check] = [_queue_check(queue, DeploymentRepository(database), upload_rows, pools), forget]
            checks += [documents.reconcile_unfinished, documents.delete_expired, builds.supervise, page_views.trim]
            await stack.enter_async_context(_reconciling(checks))
            await asyncio.to_thread(database.prepare)
            await stack.enter_async_context(key_cache.refreshed())
            yield AppState(
                settings=settings,
                queue=queue,
                uploads=upload_rows,
                stores=VectorStoreRepository(database),
                conversations=conversations,
                users=UserRepository(database),
                files=files,
                documents=documents,
                page_views=page_views,
                builds=builds,
                webhooks=relay.store,
                quotas=Quotas(settings, queue.valkey),
                authenticator=Authenticator(settings, key_cache, session_store),
                api_keys=api_keys,
                sessions=session_store,
                link_signer=LinkSigner(queue.valkey),
                page_files=PageFiles(),
                pools=pools,
                metrics=metrics,
                mcp=mcp_endpoint,
            )

    return lifespan


def _open_page_views(settings: Settings, files: FileStore, database: Database, pools: Pools) -> PageViews:
    return PageViews(
        settings,
        files,
        RecognizedPageRepository(database),
        in_sql_thread=pools.sql.run,
        in_files_thread=pools.files.run,
        in_pages_thread=pools.pages.run,
    )


def _open_documents(
    settings: Settings, uploads: UploadRepository, files: FileStore, queue: JobQueue, pools: Pools
) -> DocumentService:
    return DocumentService(
        uploads,
        files,
        queue,
        max_waiting=settings.max_queued_jobs,
        converts=settings.document_converter_url is not None,
        max_stored_mb=settings.max_stored_mb,
        in_sql_thread=pools.sql.run,
        in_files_thread=pools.files.run,
    )


@asynccontextmanager
async def _running(relay: OutboxRelay, metrics: DeploymentMetrics, settings: Settings) -> AsyncIterator[None]:
    """Run the threads that store counts, turn ended jobs into webhooks, show metrics at METRICS_PORT, send traces."""
    _warn_of_secrets(settings)
    tracing.configure(settings)
    threads = CountsThread(metrics.valkey), RelayThread(relay), MetricsPort(settings, metrics)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in reversed(threads):
            await asyncio.to_thread(thread.stop)
        await asyncio.to_thread(tracing.close)
        metrics.close()


@asynccontextmanager
async def _reconciling(checks: Sequence[Check]) -> AsyncIterator[None]:
    """Make the checks again and again while the block runs."""
    task = asyncio.create_task(_reconcile_forever(checks))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _reconcile_forever(checks: Sequence[Check]) -> None:
    """Make the checks: of lost jobs, of a foreign Valkey, of the room that pictures take."""
    while True:
        await asyncio.sleep(RECONCILE_SECONDS)
        try:
            for check in checks:
                await check()
        except SettingsError as error:
            log.critical("the API stops: %s", error)
            signal.raise_signal(signal.SIGTERM)  # a start finds the same, and says so
        except AppError as error:
            log.warning("uploads could not be checked for lost jobs: %s", error.detail)


def _warn_of_secrets(settings: Settings) -> None:
    for warning in unencrypted_secrets(settings):
        log.warning(warning)


def _queue_check(queue: JobQueue, deployment: DeploymentRepository, uploads: UploadRepository, pools: Pools) -> Check:
    """Return a check that Valkey is still the deployment's own: another one may have taken the port over."""

    async def check() -> None:
        queue_id = await queue.deployment()
        await pools.sql.run(require_own_queue_id, queue_id, deployment, uploads)

    return check
