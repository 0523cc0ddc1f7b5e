"""Failed jobs for administrators: list, retry and drop them. `main.py dead` does the same."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.dependencies import OPERATOR, JobQueueDep, PoolsDep, ScopedRoute, UploadRepositoryDep
from api.problems import openapi_problems
from api.routes.jobs import MAX_LISTED, MAX_LISTED_QUERY_CHARS, shown_query
from client.rq.dead_letters import DeadLetter, DeadLetters
from client.rq.records import Kind, read_timestamp
from client.rq_client import JobQueue
from client.valkey.connection import valkey_call
from errors import JobNotFound
from observability import logs

router = APIRouter(route_class=ScopedRoute, tags=["jobs"], dependencies=OPERATOR)


class DeadLetterView(BaseModel):
    """A failed job."""

    job_id: str
    kind: Kind
    user_id: str
    ended_at: datetime | None
    code: str = Field(description="Kind of the failure.")
    error: str = Field(description="What went wrong and what to do.")
    retryable: bool = Field(description="False if another attempt would fail in the same way.")
    query: str | None = Field(None, description=f"The question, cut after {MAX_LISTED_QUERY_CHARS} characters.")
    name: str | None = Field(None, description="Name of the document, until the upload is deleted.")


class DeadLetterList(BaseModel):
    """The newest failed jobs of all users."""

    dead_letters: list[DeadLetterView]


class Retried(BaseModel):
    retried: int = Field(description="Jobs that wait in their queues again.")
    left_out: int = Field(description="Jobs that would fail in the same way.")


@router.get("/dead-letters", responses=openapi_problems(422, 503))
async def dead_letters(
    queue: JobQueueDep,
    uploads: UploadRepositoryDep,
    pools: PoolsDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Largest number of jobs to return.")] = 50,
) -> DeadLetterList:
    """List failed jobs, newest first. Where calls need a key, this one needs the scope `admin`, as do the others."""
    async with valkey_call():
        letters = await DeadLetters(queue.valkey).newest(limit)
    upload_ids = {str(letter.payload.get("upload_id")) for letter in letters if letter.kind == "document"}
    names = await pools.sql.run(uploads.names, None, upload_ids) if upload_ids else {}
    return DeadLetterList(
        dead_letters=[_view(letter, names.get(str(letter.payload.get("upload_id")))) for letter in letters]
    )


@router.post("/dead-letters/retry", status_code=202, responses=openapi_problems(503))
async def retry_all(queue: JobQueueDep) -> Retried:
    """Put all failed jobs back on their queues, except those that would fail in the same way."""
    async with valkey_call():
        letters = DeadLetters(queue.valkey)
        listed = await letters.list()
        retryable = [letter.job_id for letter in listed if letter.retryable]
        gone = await letters.retry(retryable)
    retried = Retried(retried=len(retryable) - len(gone), left_out=len(listed) - len(retryable))
    logs.audit("dead_letters_retried", jobs=retried.retried)
    return retried


@router.post("/dead-letters/{job_id}/retry", status_code=202, responses=openapi_problems(404, 422, 503))
async def retry(job_id: str, queue: JobQueueDep) -> Retried:
    """Put a failed job back on its queue."""
    await _require(job_id, queue, drop=False)
    logs.audit("dead_letters_retried", jobs=1, job_id=job_id)
    return Retried(retried=1, left_out=0)


@router.delete("/dead-letters/{job_id}", status_code=204, responses=openapi_problems(404, 422, 503))
async def drop(job_id: str, queue: JobQueueDep) -> None:
    """Delete a failed job, with all that is kept of it."""
    await _require(job_id, queue, drop=True)
    logs.audit("dead_letter_dropped", job_id=job_id)


async def _require(job_id: str, queue: JobQueue, *, drop: bool) -> None:
    """Retry or drop a job. Raises JobNotFound if the job did not fail."""
    letters = DeadLetters(queue.valkey)
    async with valkey_call():
        unknown = await (letters.drop([job_id]) if drop else letters.retry([job_id]))
    if unknown:
        raise JobNotFound("there is no failed job with this id: GET /dead-letters lists them")


def _view(letter: DeadLetter, name: str | None) -> DeadLetterView:
    return DeadLetterView(
        job_id=letter.job_id,
        kind=letter.kind,
        user_id=letter.owner,
        ended_at=_time(letter.ended_at),
        code=letter.code,
        error=letter.detail,
        retryable=letter.retryable,
        query=shown_query(letter.payload) if letter.kind == "chat" else None,
        name=name,
    )


def _time(text: str) -> datetime | None:
    try:
        return read_timestamp(text)
    except ValueError:
        return None
