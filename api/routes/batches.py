"""Asking many questions at once: POST /chat/batch and GET /batches/{batch_id}."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.callbacks import callback_of
from api.dependencies import (
    CallerDep,
    DocumentServiceDep,
    JobQueueDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    VisibleOwnerDep,
    require_scope,
)
from api.problems import openapi_problems
from api.routes.chat import ChatRequest, IdempotencyKey
from api.routes.jobs import Pending, ended
from client.rq.idempotency import IdempotentRequest
from client.rq.ids import new_id
from client.rq.outbox import Callback
from client.rq_client import JobQueue
from errors import AppError, BatchNotFound, InvalidRequest
from schemas import Caller, JobStatus, KeyScope
from settings import Settings

router = APIRouter(route_class=ScopedRoute, tags=["chat"], dependencies=[require_scope(KeyScope.QUERY)])

MAX_QUESTIONS = 1_000
# 1,000 questions of 4,000 characters of up to 4 bytes each.
MAX_BODY_BYTES = 16 * 1024 * 1024


class BatchRequest(BaseModel):
    """Many questions."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"questions": [{"query": "How heavy is the lamp?"}, {"query": "Is it safe?"}]}]
        },
    )

    questions: list[ChatRequest] = Field(min_length=1, max_length=MAX_QUESTIONS)


class BatchAccepted(BaseModel):
    """The questions are on the queue; their jobs come in their order."""

    batch_id: str
    job_ids: list[str]


class BatchState(BaseModel):
    """How many jobs of a batch are where. Jobs that are no longer kept count as `expired`."""

    batch_id: str
    total: int
    queued: int
    started: int
    finished: int
    failed: int
    cancelled: int
    expired: int


class JsonLines(StreamingResponse):
    media_type = "application/jsonl"


@router.post("/chat/batch", status_code=202, responses=openapi_problems(404, 409, 413, 422, 503))
async def ask_many(
    body: BatchRequest,
    queue: JobQueueDep,
    settings: SettingsDep,
    library: DocumentServiceDep,
    caller: CallerDep,
    quotas: QuotasDep,
    idempotency_key: IdempotencyKey = None,
) -> BatchAccepted:
    """Put up to 1,000 questions on the queue, each of them with the settings of `POST /chat`.

    They are answered in any order, so `conversation_id` and `after_upload` are not taken.
    """
    _check_independent(body.questions)
    # All of them before any is queued or a key is taken: what is refused leaves nothing behind.
    asked = [_asked(place, question, settings, caller) for place, question in enumerate(body.questions)]
    once, batch_id, job_ids = None, new_id(), [new_id() for _ in body.questions]
    if idempotency_key is not None:
        request = {"kind": "batch", **body.model_dump(mode="json")}
        once = IdempotentRequest.of(idempotency_key, request, user_id=caller.user_id)
        before = await _made_before(once, queue)
        if before is not None:
            return before
    await quotas.require_tokens(caller.user_id)
    uploads = tuple(dict.fromkeys(one for question in body.questions for one in question.upload_ids or ()))
    if uploads:
        await library.prerequisite_jobs(uploads, user_id=caller.visible_owner, wait=False)
    if settings.max_queued_jobs is not None:
        await queue.reserve_slots(caller.user_id, job_ids, "chat", max_waiting=settings.max_queued_jobs)
    # Listed before they are queued, under the key that asked for them: should that be cut short, the repeated request
    # finds their ids and queues those that are not there.
    if once is not None:
        batch_id = await queue.idempotency.reserve(once, batch_id)
    job_ids = await queue.job_index.make_batch(batch_id, caller.user_id, job_ids)
    for priority in {question.priority for question in body.questions}:
        places = [place for place, question in enumerate(body.questions) if question.priority is priority]
        await queue.submit_many(
            "chat",
            [asked[place][0] for place in places],
            priority=priority,
            owner=caller.user_id,
            callbacks=[asked[place][1] for place in places],
            job_ids=[job_ids[place] for place in places],
        )
    return BatchAccepted(batch_id=batch_id, job_ids=job_ids)


async def _made_before(once: IdempotentRequest, queue: JobQueue) -> BatchAccepted | None:
    """Return the batch that a request made before gave; None for a new one, and for one cut short."""
    batch_id = await queue.idempotency.find(once)
    if batch_id is None:
        return None
    try:
        job_ids = await queue.job_index.batch(None, batch_id)
    except BatchNotFound:
        return None
    complete = sum((await queue.job_index.count(job_ids)).values()) == len(job_ids) or queue.may_have_expired(batch_id)
    return BatchAccepted(batch_id=batch_id, job_ids=job_ids) if complete else None


def _check_independent(questions: list[ChatRequest]) -> None:
    problems = [
        (f"questions.{place}.{field}", "is not taken in a batch")
        for place, question in enumerate(questions)
        for field in ("conversation_id", "after_upload")
        if getattr(question, field)
    ]
    if problems:
        raise InvalidRequest(problems)


def _asked(place: int, question: ChatRequest, settings: Settings, caller: Caller) -> tuple[dict[str, Any], Callback]:
    """Return what travels to a worker, and whom to tell of its end. Raises InvalidRequest that names the question."""
    try:
        payload = question.as_query(settings, caller).model_dump(mode="json")
        return payload, callback_of(settings, question.webhook_url, question.metadata)
    except InvalidRequest as error:
        raise InvalidRequest([(f"questions.{place}.{field}", said) for field, said in error.problems]) from None


async def _batch(batch_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> list[str]:
    return await queue.job_index.batch(owner, batch_id)


Batch = Annotated[list[str], Depends(_batch)]


@router.get("/batches/{batch_id}", responses=openapi_problems(404, 422, 503))
async def batch_state(batch_id: str, job_ids: Batch, queue: JobQueueDep) -> BatchState:
    """Count the jobs of a batch by status."""
    counts = await queue.job_index.count(job_ids)
    by_status = {status.value: counts[status] for status in JobStatus}
    expired = len(job_ids) - sum(counts.values())
    return BatchState(batch_id=batch_id, total=len(job_ids), expired=expired, **by_status)


@router.get("/batches/{batch_id}/results", response_class=JsonLines, responses=openapi_problems(404, 422, 503))
async def batch_results(job_ids: Batch, queue: JobQueueDep) -> JsonLines:
    """Download the results of a batch as JSON Lines, a line for each job in order, also for those not yet ended."""
    return JsonLines(_lines(job_ids, queue))


async def _lines(job_ids: list[str], queue: JobQueue) -> AsyncIterator[str]:
    for job_id in job_ids:
        try:
            job = await queue.fetch(job_id)
        except AppError as error:
            yield f'{{"job_id":"{job_id}","status":"expired","error":"{error.title}"}}\n'
            continue
        line = ended(job) if job.status.terminal else Pending(job_id=job_id, status=job.status)
        yield line.model_dump_json(exclude_none=True) + "\n"
