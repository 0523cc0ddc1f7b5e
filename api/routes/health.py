"""The greeting, and whether the service and its parts work: GET /, /health and /ready."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from api.dependencies import IndexBuildsDep, JobQueueDep, PageFilesDep, PageViewsDep, SettingsDep
from api.page_files import INDEX
from api.problems import openapi_problems, problem_response
from api.routes.index_versions import IndexView, index_view
from client.files import data_dir
from client.qdrant.health import Condition, vector_store_condition, warning_about
from client.rq.status import REQUIRED_QUEUE, warnings_about
from documents.index_builds import IndexBuilds, IndexState
from errors import QueueUnavailable, UploadsUnavailable

router = APIRouter(tags=["health"])


class Greeting(BaseModel):
    status: Literal["Server is up and running"] = "Server is up and running"
    service: Literal["RAG Query API"] = "RAG Query API"


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class QueuePart(BaseModel):
    """One queue: how many jobs wait on it, and how many workers listen to it."""

    name: str
    waiting: int
    workers: int


class Parts(BaseModel):
    valkey: Literal["ready", "unavailable"]
    workers: Literal["ready", "none", "suspended", "unknown"]
    vector_store: Condition


class Ready(BaseModel):
    """`ready`: questions are accepted and answered. `degraded`: `warnings` say what is missing."""

    status: Literal["ready", "degraded"]
    parts: Parts
    queues: list[QueuePart]
    warnings: list[str] = Field(description="For each part that is missing, what to do.")
    vector_store_away_since: datetime | None = Field(
        None, description="Since when jobs have waited for the vector store, while any worker does not reach it."
    )
    index: IndexView | None = Field(
        None, description="The index that answers questions, and the one being built; null while SQL is away."
    )


@router.get("/", response_model=Greeting, responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}})
async def greeting(request: Request, files: PageFilesDep, views: PageViewsDep) -> Greeting | Response:
    """Confirm that the server runs; to a browser, which accepts text/html, return the page."""
    page = files.response(request, INDEX) if "text/html" in request.headers.get("accept", "") else None
    if page is None:
        return Greeting()
    page.background = BackgroundTask(views.prepare)
    return page


@router.get("/favicon.ico", include_in_schema=False, status_code=204)
async def favicon() -> None:
    """Answer 204 without an icon: browsers ask for the icon by themselves."""


@router.get("/health")
async def health() -> Health:
    """Confirm that the API process runs."""
    return Health()


@router.get(
    "/ready",
    responses={
        503: openapi_problems(503)[503] | {"description": "Valkey is unavailable: no question can be accepted"},
    },
    response_model=Ready,
)
async def ready(queue: JobQueueDep, settings: SettingsDep, builds: IndexBuildsDep) -> Ready | Response:
    """Report the state of Valkey, the workers, the vector store and the index."""
    index = await _index_state(builds)
    store = await vector_store_condition(settings, index.searched.collection if index and index.searched else None)
    low_space = data_dir.low_space(settings)
    try:
        valkey = await queue.condition()
        states = await queue.states()
        away_since = await queue.store_away_since()
        incomplete = await queue.incomplete_uploads()
    except QueueUnavailable as error:
        parts = Parts(valkey="unavailable", workers="unknown", vector_store=store)
        headers = {"Retry-After": str(error.retry_after_seconds)}
        detail = f"{error.detail}; {low_space}" if low_space else error.detail
        return problem_response(error.status, error.title, detail, headers=headers, parts=parts.model_dump())
    if away_since is not None:  # what counts is what the workers reach
        store = "unavailable"
    workers: Literal["ready", "none", "suspended"] = "suspended" if valkey.suspended else "none"
    if not valkey.suspended and any(state.workers for state in states if state.name == REQUIRED_QUEUE):
        workers = "ready"
    warnings = warnings_about(valkey, states, incomplete=incomplete)
    since = f" since {away_since.isoformat(timespec='seconds')}" if away_since else ""
    if about_store := warning_about(store, settings, since=since):
        warnings.append(about_store)
    if low_space:
        warnings.append(low_space)
    if index is not None and index.building is not None and index.building.error is not None:
        warnings.append(f"the new index is not used: {index.building.error}")
    return Ready(
        status="degraded" if warnings else "ready",
        parts=Parts(valkey="ready", workers=workers, vector_store=store),
        queues=[QueuePart(name=state.name, waiting=state.waiting, workers=len(state.workers)) for state in states],
        warnings=warnings,
        vector_store_away_since=away_since,
        index=None if index is None else index_view(index),
    )


async def _index_state(builds: IndexBuilds) -> IndexState | None:
    try:
        return await builds.state()
    except UploadsUnavailable:
        return None
