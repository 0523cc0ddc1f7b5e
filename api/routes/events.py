"""Watching a job: GET /jobs/{job_id}/events, as Server-Sent Events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from api.dependencies import ANY_SCOPE, JobQueueDep, ScopedRoute, VisibleOwnerDep
from api.plain_requests import PlainRequest, PlainRoute, PlainStream
from api.problems import Problem, openapi_problems
from api.routes.jobs import job_result
from client.rq.event_stream import BEFORE_FIRST_ID, JobSubscription, is_event_id
from client.rq_client import JobQueue
from errors import AppError, EventsUnreadable, InvalidRequest, QueueUnavailable, StreamEnded
from schemas import Event, JobStatus, JobView, KeyScope

router = APIRouter(route_class=ScopedRoute, tags=["jobs"], dependencies=ANY_SCOPE)

HEARTBEAT_SECONDS = 15.0
# The id of the last event of every stream: a reader that has seen it has seen all events.
LAST = "end"


# One event, as OpenAPI 3.2 and FastAPI describe the items of a stream.
EVENT_SCHEMA = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "To be sent as Last-Event-ID by a reader that connects again."},
        "event": {
            "enum": [
                *("queued", "started", "progress", "passages", "token", "sources"),
                *("finished", "failed", "cancelled", "error"),
            ],
        },
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "anyOf": [
                    {"title": "queued", "type": "object", "properties": {"position": {"type": ["integer", "null"]}}},
                    {"title": "started", "type": "object", "properties": {"attempt": {"type": "integer"}}},
                    {"$ref": "#/components/schemas/Progress"},
                    {
                        "title": "passages",
                        "description": "What was found; only for questions under /v1 that ask for it.",
                        "type": "object",
                        "properties": {"passages": {"type": "array", "items": {"type": "object"}}},
                    },
                    {
                        "title": "token",
                        "description": "`checked`: the piece with only those marks that sources support so far; "
                        "left out where it is the same. The check of the whole answer may decide otherwise.",
                        "type": "object",
                        "properties": {"text": {"type": "string"}, "checked": {"type": "string"}},
                    },
                    {
                        "title": "sources",
                        "type": "object",
                        "properties": {
                            "answered": {"type": "boolean"},
                            "unsupported": {"type": "integer"},
                            "sources": {"type": "array", "items": {"$ref": "#/components/schemas/Source"}},
                            "links": {"type": "array", "items": {"$ref": "#/components/schemas/Link"}},
                        },
                    },
                    {"$ref": "#/components/schemas/JobResult"},
                    {"$ref": "#/components/schemas/Problem"},
                ]
            },
        },
    },
}


# A proxy that collects or compresses a response holds events back until its buffer is full. nginx does the first by
# default, the second with `gzip_types text/event-stream`, and reads only X-Accel-Buffering.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """Server-Sent Events. FastAPI's `EventSourceResponse` spends two tasks and two buffers on each reader."""

    media_type = "text/event-stream"


async def _watched_job(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> str:
    """Return the id of a job that exists; while Valkey is away, any well-formed id."""
    with suppress(QueueUnavailable):
        await queue.fetch(job_id, owner=owner)
    return job_id


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
    responses={
        200: {"description": "The events", "content": {"text/event-stream": {"itemSchema": EVENT_SCHEMA}}},
        204: {"description": "Nothing comes after Last-Event-ID"},
        **openapi_problems(404, 410, 422, 503),
    },
)
async def events(
    job_id: Annotated[str, Depends(_watched_job)],
    after: Annotated[str, Depends(_last_seen)],
    queue: JobQueueDep,
    owner: VisibleOwnerDep,
) -> EventStream:
    """Follow a job as Server-Sent Events, from its start or from `Last-Event-ID`, until it ends.

    Types: `queued`, `started` (with the attempt), `progress`, `token`, `sources` (with the `links` of the answer), and
    at the end `finished`, `failed` or `cancelled` (with the data of `GET /result/{job_id}`). Show no image and no link
    of the tokens before `sources` has come. Each `started` begins the answer again: forget the tokens before it. After
    the death of a worker, `started` has the next attempt; after the model broke off, the same attempt.

    While Valkey is away, the stream stays open; it goes on when Valkey is back. A stream that cannot go on ends with
    `error` (with a problem as its data), such as the stream of a job that proves unknown when Valkey is back.
    """
    stream = await _open(job_id, after, queue, owner=owner)
    return EventStream(stream, headers=STREAM_HEADERS)


async def follow_plainly(request: PlainRequest) -> PlainStream | None:
    """Answer a request to follow a job; None for one with parameters or an unusual `Last-Event-ID`."""
    last_seen = request.header(b"last-event-id")
    after = BEFORE_FIRST_ID if last_seen is None else last_seen.decode("latin-1")
    if request.query_string or not is_event_id(after):
        return None
    queue: JobQueue = request.state["queue"]
    stream = await _open(request.name, after, queue, owner=request.caller.visible_owner)
    return PlainStream(stream, PLAIN_HEADERS)


PLAIN_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in [*STREAM_HEADERS.items(), ("content-type", "text/event-stream; charset=utf-8")]
)
PLAIN_ROUTE = PlainRoute("GET", "/jobs/{job_id}/events", (KeyScope.QUERY, KeyScope.UPLOAD), follow_plainly)


class EventRenderer(Protocol):
    """Renders what happens to a job as Server-Sent Events."""

    def events(self, events: Sequence[Event]) -> bytes:
        """Return what becomes of the next events."""

    def end(self, job: JobView) -> bytes:
        """Return what becomes of the end of the job."""

    def error(self, error: AppError) -> bytes:
        """Return what ends a stream that cannot go on."""


class _NativeRenderer:
    """Renders each event as it is, under its id."""

    def events(self, events: Sequence[Event]) -> bytes:
        return b"".join([_sse(event.type, event.data, event.id) for event in events])

    def end(self, job: JobView) -> bytes:
        return _sse(job.status, job_result(job).model_dump(mode="json", exclude_none=True), LAST)

    def error(self, error: AppError) -> bytes:
        problem = Problem(title=error.title, status=error.status, detail=error.detail)
        return _sse("error", problem.model_dump(exclude_none=True), LAST)


NATIVE: Final = _NativeRenderer()


async def _open(job_id: str, after: str, queue: JobQueue, *, owner: str | None) -> AsyncGenerator[bytes]:
    """Return the stream of a job. Raises JobNotFound, JobExpired; while Valkey is away, only for a malformed id."""
    stream = follow(job_id, after, queue, owner=owner, renderer=NATIVE)
    try:
        await anext(stream)
    except EventsUnreadable as error:
        return _only(NATIVE.error(error))
    return stream


async def _only(part: bytes) -> AsyncGenerator[bytes]:
    yield part


async def follow(
    job_id: str, after: str, queue: JobQueue, *, owner: str | None, renderer: EventRenderer
) -> AsyncGenerator[bytes]:
    """Yield b"" after the first read, then the events after the id `after`, and a comment after a while without events.

    Raises JobNotFound, JobExpired and EventsUnreadable, but only before the first part; later, an error is an event.
    """
    with queue.notifier.subscribe(job_id) as watch:
        job, new_events = await _read(job_id, after, queue, watch, owner=owner)
        if job is not None and job.status is JobStatus.STARTED:
            watch.poll_soon()
        yield b""
        written_at = time.monotonic()
        while True:
            if new_events:
                yield renderer.events(new_events)
                after, written_at = new_events[-1].id, time.monotonic()
            elif job is not None and job.status.terminal:
                yield renderer.end(job)
                return
            elif queue.notifier.closing:
                return  # this process ends: the client reconnects to another process
            else:
                del job  # 1 KB
                await watch.wait(HEARTBEAT_SECONDS)
                if time.monotonic() - written_at >= HEARTBEAT_SECONDS / 2:
                    yield format_sse_event(comment="still there")
                    written_at = time.monotonic()
            try:
                job, new_events = await _read(job_id, after, queue, watch, owner=owner)
            except AppError as error:
                yield renderer.error(error)
                return


async def _read(
    job_id: str, after: str, queue: JobQueue, watch: JobSubscription, *, owner: str | None
) -> tuple[JobView | None, list[Event]]:
    """Read a job and its next events. While Valkey is away, return neither, and have `watch` woken on its return."""
    try:
        return await queue.fetch_events(job_id, after, owner=owner)
    except QueueUnavailable:
        queue.notifier.wake_on_return(watch)
        return None, []


def _sse(kind: str, data: dict[str, object], event_id: str) -> bytes:
    return format_sse_event(event=kind, data_str=json.dumps(data, ensure_ascii=False), id=event_id)
