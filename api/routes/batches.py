"""Asking many questions at once: POST /chat/batch and GET /batches/{batch_id}."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.callbacks import make_callback
from api.collections import stores_of
from api.dependencies import (
    CallerDep,
    DocumentServiceDep,
    JobQueueDep,
    PoolsDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    VectorStoreRepositoryDep,
    VisibleOwnerDep,
    require_scope,
)
from api.problems import openapi_problems
from api.routes.chat import ChatRequest, IdempotencyKeyHeader
from api.routes.jobs import Pending, job_result
from client.rq.idempotency import IdempotentRequest
from client.rq.ids import new_id
from client.rq.outbox import Callback
from client.rq_client import JobQueue
from errors import BatchNotFound, InvalidRequest, JobExpired, JobNotFound, QueueUnavailable
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
    """The questions are on the queue. `job_ids` are in the order of the questions."""

    batch_id: str
    job_ids: list[str]


class BatchState(BaseModel):
    """The number of a batch's jobs in each status. Jobs that are no longer kept count as `expired`."""

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
    documents: DocumentServiceDep,
    caller: CallerDep,
    quotas: QuotasDep,
    stores: VectorStoreRepositoryDep,
    pools: PoolsDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> BatchAccepted:
    """Put up to 1,000 questions on the queue, each with the options of `POST /chat`.

    The questions are answered in any order, so `conversation_id` and `after_upload` are refused.
    """
    _require_independent(body.questions)
    # Every question is checked before anything is queued or reserved: a refused batch leaves nothing behind.
    names = [question.collection for question in body.questions if question.collection is not None]
    collections = await stores_of(names, stores=stores, pools=pools, user_id=caller.user_id)
    jobs = [_job_parts(index, one, settings, caller, collections) for index, one in enumerate(body.questions)]
    idempotency, batch_id, job_ids = None, new_id(), [new_id() for _ in body.questions]
    if idempotency_key is not None:
        fields = {"kind": "batch", **body.model_dump(mode="json")}
        idempotency = IdempotentRequest.of(idempotency_key, fields, user_id=caller.user_id)
        earlier = await _find_earlier(idempotency, queue)
        if earlier is not None:
            return earlier
    await quotas.require_tokens(caller.user_id)
    upload_ids = tuple(dict.fromkeys(chain.from_iterable(question.upload_ids or () for question in body.questions)))
    if upload_ids:
        await documents.prerequisite_jobs(upload_ids, user_id=caller.visible_owner, wait=False)
    if settings.max_queued_jobs is not None:
        await queue.reserve_slots(caller.user_id, job_ids, "chat", max_waiting=settings.max_queued_jobs)
    # The batch is stored before its jobs are queued. After a crash in between, the repeated request finds the ids of
    # the jobs and queues the missing jobs.
    if idempotency is not None:
        batch_id = await queue.idempotency.reserve(idempotency, batch_id)
    job_ids = await queue.job_index.make_batch(batch_id, caller.user_id, job_ids)
    await _submit_all(body.questions, jobs, job_ids, queue, owner=caller.user_id)
    return BatchAccepted(batch_id=batch_id, job_ids=job_ids)


async def _submit_all(
    questions: Sequence[ChatRequest],
    jobs: Sequence[tuple[dict[str, Any], Callback]],
    job_ids: Sequence[str],
    queue: JobQueue,
    *,
    owner: str,
) -> None:
    """Queue the jobs: one call for each priority among the questions."""
    for priority in {question.priority for question in questions}:
        indexes = [index for index, question in enumerate(questions) if question.priority is priority]
        await queue.submit_many(
            "chat",
            [jobs[index][0] for index in indexes],
            priority=priority,
            owner=owner,
            callbacks=[jobs[index][1] for index in indexes],
            job_ids=[job_ids[index] for index in indexes],
        )


async def _find_earlier(idempotency: IdempotentRequest, queue: JobQueue) -> BatchAccepted | None:
    """Return the batch of an earlier request with this key; None without such a request, or if it was cut short."""
    batch_id = await queue.idempotency.find(idempotency)
    if batch_id is None:
        return None
    try:
        job_ids = await queue.job_index.batch(None, batch_id)
    except BatchNotFound:
        return None
    complete = sum((await queue.job_index.count(job_ids)).values()) == len(job_ids) or queue.may_have_expired(batch_id)
    return BatchAccepted(batch_id=batch_id, job_ids=job_ids) if complete else None


def _require_independent(questions: list[ChatRequest]) -> None:
    """Refuse the options that would make one question wait for another. Raises InvalidRequest."""
    problems = [
        (f"questions.{index}.{field}", "is not accepted in a batch: send the question to POST /chat")
        for index, question in enumerate(questions)
        for field in ("conversation_id", "after_upload")
        if getattr(question, field)
    ]
    if problems:
        raise InvalidRequest(problems)


def _job_parts(
    index: int,
    question: ChatRequest,
    settings: Settings,
    caller: Caller,
    collections: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, Any], Callback]:
    """Return the payload and the callback of a question's job. Raises InvalidRequest that names the question."""
    try:
        store_ids = None if question.collection is None else collections[question.collection]
        payload = question.as_query(settings, caller, store_ids=store_ids).payload()
        return payload, make_callback(settings, question.webhook_url, question.metadata)
    except InvalidRequest as error:
        problems = [(f"questions.{index}.{field}", message) for field, message in error.problems]
        raise InvalidRequest(problems) from None


async def _batch_job_ids(batch_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> list[str]:
    return await queue.job_index.batch(owner, batch_id)


# The ids of the jobs of the batch that the path names.
BatchJobIdsDep = Annotated[list[str], Depends(_batch_job_ids)]


@router.get("/batches/{batch_id}", responses=openapi_problems(404, 422, 503))
async def batch_state(batch_id: str, job_ids: BatchJobIdsDep, queue: JobQueueDep) -> BatchState:
    """Count the jobs of a batch by status."""
    counts = await queue.job_index.count(job_ids)
    by_status = {status.value: counts[status] for status in JobStatus}
    expired = len(job_ids) - sum(counts.values())
    return BatchState(batch_id=batch_id, total=len(job_ids), expired=expired, **by_status)


@router.get("/batches/{batch_id}/results", response_class=JsonLines, responses=openapi_problems(404, 422, 503))
async def batch_results(job_ids: BatchJobIdsDep, queue: JobQueueDep) -> JsonLines:
    """Download the results of a batch as JSON Lines: one line for each job, in order, ended or not.

    A job that is no longer kept has the status `expired`. If the queue fails during the download, the jobs that could
    not be read have the status `unavailable`: ask for them again.
    """
    return JsonLines(_result_lines(job_ids, queue))


async def _result_lines(job_ids: list[str], queue: JobQueue) -> AsyncIterator[str]:
    """Yield the line of each job. Once the queue is unavailable, the jobs that are left are not read."""
    unavailable: QueueUnavailable | None = None
    for job_id in job_ids:
        try:
            if unavailable is not None:
                raise unavailable
            job = await queue.fetch(job_id)
        except QueueUnavailable as error:
            unavailable = error
            yield _line(job_id, "unavailable", error.detail)
            continue
        except (JobNotFound, JobExpired) as error:
            yield _line(job_id, "expired", error.title)
            continue
        line = job_result(job) if job.status.terminal else Pending(job_id=job_id, status=job.status)
        yield line.model_dump_json(exclude_none=True) + "\n"


def _line(job_id: str, status: str, error: str) -> str:
    return json.dumps({"job_id": job_id, "status": status, "error": error}) + "\n"
