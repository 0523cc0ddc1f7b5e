"""Following a job: GET /job-status and GET /result."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from api.dependencies import JobQueueDep, ScopedRoute, VisibleOwnerDep, require_scope
from api.problems import openapi_problems
from client.rq.records import Kind
from client.rq_client import JobQueue
from errors import InvalidRequest
from observability import logs
from schemas import Answer, Indexed, JobStatus, JobView, KeyScope, Link, Progress, Removed, Source, Usage, Used

router = APIRouter(
    route_class=ScopedRoute, tags=["jobs"], dependencies=[require_scope(KeyScope.QUERY, KeyScope.UPLOAD)]
)

RETRY_AFTER_SECONDS = 1
MAX_WAIT_SECONDS = 60
MAX_LISTED = 200

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Longest time to hold the request, in seconds.")]


class JobState(BaseModel):
    """Where a job is. What does not apply to its status is left out."""

    job_id: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = Field(
        None,
        description="Place in the queue, from 1; while queued, and not while it waits for an upload or a turn before.",
    )
    expected_wait_seconds: float | None = Field(
        None, description="How long it may still wait, at the rate of the last minute; where it has a position."
    )
    progress: Progress | None = Field(None, description="How far it is; while started.")
    result: str | None = Field(None, description="The answer; when finished.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class JobResult(BaseModel):
    """The answer of a job that is `completed`, or why there is none."""

    job_id: str
    status: Literal["completed", "failed", "cancelled"]
    result: str | None = None
    sources: list[Source] | None = Field(None, description="What the answer stands on.")
    answered: bool | None = Field(
        None,
        description="True when a source supports at least a part of the result; else the documents do "
        "not answer the question.",
    )
    unsupported: int | None = Field(None, description="Citations taken out: their source does not support them.")
    links: list[Link] | None = Field(
        None, description="All images and links in the answer. Refuse those you do not trust before you show it."
    )
    used: Used | None = Field(None, description="What the question was answered with.")
    cached: bool | None = Field(None, description="True when the same was answered before over the same documents.")
    rewritten: str | None = Field(None, description="The question as searched for, where its conversation changed it.")
    usage: Usage | None = Field(None, description="Tokens it cost, as the model provider counted them.")
    times: dict[str, float] | None = Field(None, description="Seconds in each stage.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class ListedJob(BaseModel):
    job_id: str
    kind: Kind
    status: JobStatus
    created_at: datetime


class JobPage(BaseModel):
    """Some of your jobs, newest first.

    `next`, if any, is `before` of the next page; where few of many jobs match, a page may be short or empty before it.
    """

    jobs: list[ListedJob]
    next: str | None


class Pending(BaseModel):
    """The job has not ended yet. `Retry-After` says when to ask again."""

    job_id: str
    status: JobStatus


@router.get("/job-status/{job_id}", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep, wait: Wait = 0) -> JobState:
    """Tell where a job is; with `wait`, as soon as its status changes."""
    return _state(await _changed(job_id, queue, wait, owner=owner))


@router.get("/job-status", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status_by_parameter(
    queue: JobQueueDep,
    owner: VisibleOwnerDep,
    job_id: Annotated[str | None, Query(description="The id that POST /chat gave.")] = None,
    wait: Wait = 0,
) -> JobState:
    """Tell where a job is, its id given as a query parameter; with `wait`, as soon as its status changes."""
    if job_id is None:
        raise InvalidRequest([("job_id", "is required: /job-status/{job_id} or /job-status?job_id=")])
    return _state(await _changed(job_id, queue, wait, owner=owner))


@router.get("/jobs", responses=openapi_problems(422, 503))
async def recent_jobs(
    queue: JobQueueDep,
    owner: VisibleOwnerDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="How many to give at the most.")] = 50,
    before: Annotated[str | None, Query(max_length=64, description="Give those older than this job.")] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
    kind: Annotated[Kind | None, Query(description="Only jobs of this kind.")] = None,
) -> JobPage:
    """List your recent jobs, newest first."""
    found, following = await queue.job_index.recent(owner, limit=limit, before=before, status=status, kind=kind)
    jobs = [ListedJob(job_id=j.job_id, kind=j.kind, status=j.status, created_at=j.created_at) for j in found]
    return JobPage(jobs=jobs, next=following)


@router.delete("/jobs/{job_id}", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def cancel(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> JobState:
    """Cancel a job: one that waits never runs, one that runs is stopped. One that has ended stays as it is."""
    cancelled = await queue.cancel(job_id, owner=owner)
    logs.audit("job_cancelled", job_id=job_id, status=cancelled.status)
    return _state(cancelled)


@router.get(
    "/result/{job_id}",
    responses={202: {"model": Pending, "description": "Not yet"}, **openapi_problems(404, 410, 422, 503)},
    response_model=JobResult | Pending,
    response_model_exclude_none=True,
)
async def result(
    job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep, response: Response, wait: Wait = 0
) -> JobResult | Pending:
    """Give a job's answer and its sources; 202 until it has ended. With `wait`, as soon as it has."""
    job = await queue.wait(job_id, wait, owner=owner, until=lambda seen: seen.status.terminal)
    if not job.status.terminal:
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return Pending(job_id=job.job_id, status=job.status)
    return ended(job)


def ended(job: JobView) -> JobResult:
    """Tell how a job that has ended did."""
    if job.failure is not None:
        status: Literal["failed", "cancelled"] = "cancelled" if job.status is JobStatus.CANCELLED else "failed"
        return JobResult(job_id=job.job_id, status=status, error=job.failure.detail)
    details: dict[str, Any] = {}
    if job.kind == "chat":
        details = dict(Answer.model_validate(job.result))
        del details["text"]
    return JobResult(job_id=job.job_id, status="completed", result=_text(job), **details)


async def _changed(job_id: str, queue: JobQueue, wait_seconds: float, *, owner: str | None) -> JobView:
    """Read a job, when its status is no longer what it is now or the time is up."""
    if not wait_seconds:
        return await queue.fetch(job_id, owner=owner)
    before = (await queue.fetch(job_id, owner=owner)).status
    return await queue.wait(
        job_id, wait_seconds, owner=owner, until=lambda seen: seen.status is not before or before.terminal
    )


def _state(job: JobView) -> JobState:
    return JobState(
        job_id=job.job_id,
        status=job.status,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        position=job.position,
        expected_wait_seconds=job.expected_wait_seconds,
        progress=job.progress,
        result=_text(job) if job.status is JobStatus.FINISHED else None,
        error=job.failure.detail if job.failure else None,
    )


def _text(job: JobView) -> str:
    if job.kind == "chat":
        return Answer.model_validate(job.result).text
    if job.result is not None and "chunks" not in job.result:
        return f"{Removed.model_validate(job.result).name}: deleted"
    indexed = Indexed.model_validate(job.result)
    return f"{indexed.name}: {indexed.pages} pages, {indexed.chunks} chunks stored"
