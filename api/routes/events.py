"""Watching a job: GET /jobs/{job_id}/events, as Server-Sent Events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from api.dependencies import ANY_SCOPE, JobQueueDep, ScopedRoute, VisibleOwnerDep
from api.problems import openapi_problems
from api.routes.jobs import job_result
from client.rq.event_stream import BEFORE_FIRST_ID, is_event_id
from client.rq_client import JobQueue
from errors import AppError, InvalidRequest, StreamEnded
from schemas import JobView

router = APIRouter(route_class=ScopedRoute, tags=["jobs"], dependencies=ANY_SCOPE)

HEARTBEAT_SECONDS = 15.0
# The id of the last event of every job: a reader that has seen it has seen all events.
LAST = "end"


class EventStream(StreamingResponse):
    """Server-Sent Events. FastAPI's `EventSourceResponse` spends two tasks and two buffers on each reader."""

    media_type = "text/event-stream"


async def _watched_job(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> JobView:
    return await queue.fetch(job_id, owner=owner)


def _last_seen(
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event seen; the events after it follow.")
    ] = None,
) -> str:
    if last_event_id is None:
        return BEFORE_FIRST_ID
    if last_event_id == LAST:
        raise StreamEnded("there is nothing after the last event")
    if not is_event_id(last_event_id):
        raise InvalidRequest(
            [("last-event-id", "is not an id of this stream: leave it out to start from the first event")]
        )
    return last_event_id


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventStream,
    responses={204: {"description": "Nothing comes after Last-Event-ID"}, **openapi_problems(404, 410, 422, 503)},
)
async def events(
    job: Annotated[JobView, Depends(_watched_job)], after: Annotated[str, Depends(_last_seen)], queue: JobQueueDep
) -> EventStream:
    """Follow a job as Server-Sent Events, from its start or from `Last-Event-ID`, until it ends.

    Types: `queued`, `started` (with the attempt), `progress`, `token`, `sources` (with the `links` of the answer), and
    at the end `finished`, `failed` or `cancelled` (with the data of `GET /result/{job_id}`). Show no image and no link
    of the tokens before `sources` has come. Each `started` begins the answer again: forget the tokens before it. After
    the death of a worker, `started` has the next attempt; after the model broke off, the same attempt.
    """
    return EventStream(_follow(job.job_id, after, queue), headers={"Cache-Control": "no-cache"})


async def _follow(job_id: str, after: str, queue: JobQueue) -> AsyncIterator[bytes]:
    """Yield the events that follow the event id `after`, and a comment after a while without events."""
    written_at = time.monotonic()
    async with queue.notifier.subscribe(job_id) as watch:
        while True:
            try:
                job, new_events = await queue.fetch_events(job_id, after)
            except AppError:
                return  # Valkey is unavailable, or the job expired: the client reconnects with the last id it has seen
            for event in new_events:
                yield _sse(event.type, event.data, event.id)
                after, written_at = event.id, time.monotonic()
            if new_events:
                continue  # there may be another page of events
            if job.status.terminal:
                yield _sse(job.status, job_result(job).model_dump(mode="json", exclude_none=True), LAST)
                return
            if queue.notifier.closing:
                return  # this process ends: the client reconnects to another process
            await watch.wait(HEARTBEAT_SECONDS)
            if time.monotonic() - written_at >= HEARTBEAT_SECONDS / 2:
                yield format_sse_event(comment="still there")
                written_at = time.monotonic()


def _sse(kind: str, data: dict[str, object], event_id: str) -> bytes:
    return format_sse_event(event=kind, data_str=json.dumps(data, ensure_ascii=False), id=event_id)
