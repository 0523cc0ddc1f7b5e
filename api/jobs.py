"""Following a job: GET /job-status and GET /result."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from api.dependencies import Queue
from api.problems import describe
from errors import InvalidRequest
from schemas import Answer, Indexed, JobStatus, JobView, Progress, Source, Usage, Used

router = APIRouter(tags=["jobs"])

RETRY_AFTER_SECONDS = 1


class JobState(BaseModel):
    """Where a job is. What does not apply to its status is left out."""

    job_id: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = Field(None, description="Place in the queue, from 1; while queued.")
    progress: Progress | None = Field(None, description="How far it is; while started.")
    result: str | None = Field(None, description="The answer; when finished.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class JobResult(BaseModel):
    """The answer of a job that is `completed`, or why there is none."""

    job_id: str
    status: Literal["completed", "failed", "cancelled"]
    result: str | None = None
    sources: list[Source] | None = Field(None, description="What the answer stands on.")
    answered: bool | None = Field(None, description="False when the documents do not answer the question.")
    unsupported: int | None = Field(None, description="Citations taken out: their source does not support them.")
    used: Used | None = Field(None, description="What the question was answered with.")
    usage: Usage | None = Field(None, description="Tokens it cost, as the model provider counted them.")
    times: dict[str, float] | None = Field(None, description="Seconds in each stage.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class Pending(BaseModel):
    """The job has not ended yet. `Retry-After` says when to ask again."""

    job_id: str
    status: JobStatus


@router.get("/job-status/{job_id}", responses=describe(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status(job_id: str, queue: Queue) -> JobState:
    """Tell where a job is."""
    return _state(await queue.fetch(job_id))


@router.get("/job-status", responses=describe(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status_by_parameter(
    queue: Queue, job_id: Annotated[str | None, Query(description="The id that POST /chat gave.")] = None
) -> JobState:
    """Tell where a job is, its id given as a query parameter."""
    if job_id is None:
        raise InvalidRequest([("job_id", "is required: /job-status/{job_id} or /job-status?job_id=")])
    return _state(await queue.fetch(job_id))


@router.get(
    "/result/{job_id}",
    responses={202: {"model": Pending, "description": "Not yet"}, **describe(404, 410, 422, 503)},
    response_model=JobResult | Pending,
    response_model_exclude_none=True,
)
async def result(job_id: str, queue: Queue, response: Response) -> JobResult | Pending:
    """Give a job's answer and its sources; 202 until it has ended."""
    job = await queue.fetch(job_id)
    if not job.status.terminal:
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return Pending(job_id=job.job_id, status=job.status)
    if job.failure is not None:
        status: Literal["failed", "cancelled"] = "cancelled" if job.status is JobStatus.CANCELLED else "failed"
        return JobResult(job_id=job.job_id, status=status, error=job.failure.detail)
    details: dict[str, Any] = {}
    if job.kind == "chat":
        details = dict(Answer.model_validate(job.result))
        del details["text"]
    return JobResult(job_id=job.job_id, status="completed", result=_text(job), **details)


def _state(job: JobView) -> JobState:
    return JobState(
        job_id=job.job_id,
        status=job.status,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        position=job.position,
        progress=job.progress,
        result=_text(job) if job.status is JobStatus.FINISHED else None,
        error=job.failure.detail if job.failure else None,
    )


def _text(job: JobView) -> str:
    if job.kind == "chat":
        return Answer.model_validate(job.result).text
    indexed = Indexed.model_validate(job.result)
    return f"{indexed.name}: {indexed.pages} pages, {indexed.chunks} chunks stored"
