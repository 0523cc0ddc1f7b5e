"""Jobs: GET /job-status and GET /result follow one job, GET /jobs lists them, DELETE /jobs/{job_id} cancels one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from api.dependencies import ANY_SCOPE, JobQueueDep, PoolsDep, ScopedRoute, UploadRepositoryDep, VisibleOwnerDep
from api.plain_requests import PlainRequest, PlainResponse, PlainRoute
from api.problems import openapi_problems
from client.rq.build_task import BuildStep
from client.rq.listing import JobSummary
from client.rq.records import Kind
from client.rq_client import JobQueue
from errors import InvalidRequest
from observability import logs
from observability.wording import counted
from schemas import (
    Answer,
    Confidence,
    Incomplete,
    Indexed,
    JobStatus,
    JobView,
    KeyScope,
    Link,
    Progress,
    Removed,
    Source,
    Usage,
    Used,
)
from webhooks.models import DeliveryStatus

router = APIRouter(route_class=ScopedRoute, tags=["jobs"], dependencies=ANY_SCOPE)

RETRY_AFTER_SECONDS = 1
MAX_WAIT_SECONDS = 60
MAX_LISTED = 200
MAX_LISTED_QUERY_CHARS = 200

# What the job of a webhook's attempt returns. Its record may have been written by another program.
_DELIVERY_OUTCOMES = (*DeliveryStatus, "superseded")

WaitParam = Annotated[
    float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Longest time to hold the request, in seconds.")
]


class JobState(BaseModel):
    """The state of a job. Fields that do not apply to its status are left out."""

    job_id: str
    status: JobStatus
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    position: int | None = Field(
        None,
        description="Place in the queue, from 1; while queued, unless the job waits for an upload or an earlier turn.",
    )
    expected_wait_seconds: float | None = Field(
        None, description="Expected wait at the rate of the last minute; only for a job with a position."
    )
    progress: Progress | None = Field(
        None, description="How far the job is; while started, or while it waits for the vector store."
    )
    result: str | None = Field(None, description="The answer; when finished.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class JobResult(BaseModel):
    """The answer of a `completed` job, or the reason why there is no answer."""

    job_id: str
    status: Literal["completed", "failed", "cancelled"]
    result: str | None = None
    sources: list[Source] | None = Field(None, description="The passages that support the answer.")
    answered: bool | None = Field(
        None,
        description="True if a source supports at least a part of the result; else the documents do not answer the "
        "question.",
    )
    unsupported: int | None = Field(
        None, description="Number of citations removed because their source does not support them."
    )
    links: list[Link] | None = Field(
        None, description="All images and links in the answer. Remove any you do not trust before you show the answer."
    )
    used: Used | None = Field(None, description="The settings with which the question was answered.")
    cached: bool | None = Field(
        None, description="True if the same question was answered before over the same documents."
    )
    rewritten: str | None = Field(
        None, description="The question as searched for, if the conversation changed the question."
    )
    incomplete: Incomplete | None = Field(
        None, description="`max_tokens` if the model reached its limit of tokens, so that the answer is cut."
    )
    not_searched: int | None = Field(
        None, description="Number of your documents that were still being indexed, so that they were not searched."
    )
    confidence: Confidence | None = Field(
        None, description="How well the best passage fits, in an answer without a model; the passages are quoted."
    )
    usage: Usage | None = Field(None, description="Tokens used, as the model provider counted them.")
    times: dict[str, float] | None = Field(None, description="Seconds in each stage.")
    error: str | None = Field(None, description="What went wrong and what to do; when failed or cancelled.")


class ListedJob(BaseModel):
    job_id: str
    kind: Kind
    status: JobStatus
    created_at: datetime
    query: str | None = Field(
        None, description=f"The question, cut after {MAX_LISTED_QUERY_CHARS} characters; for jobs of kind `chat`."
    )
    name: str | None = Field(
        None, description="Name of the document; for jobs of kind `document`, until the upload is deleted."
    )


class JobPage(BaseModel):
    """Some of your jobs, newest first.

    `next` is the `before` of the next page; null on the last page. A page with a `next` may be short or empty if few
    of many jobs match.
    """

    jobs: list[ListedJob]
    next: str | None


class Pending(BaseModel):
    """The job has not ended yet. `Retry-After` says when to ask again."""

    job_id: str
    status: JobStatus


@router.get("/job-status/{job_id}", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep, wait: WaitParam = 0) -> JobState:
    """Return the state of a job; with `wait`, as soon as its status changes."""
    return _state(await _fetch_changed(job_id, queue, wait, owner=owner))


@router.get("/job-status", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def job_status_by_parameter(
    queue: JobQueueDep,
    owner: VisibleOwnerDep,
    job_id: Annotated[str | None, Query(description="The id that POST /chat gave.")] = None,
    wait: WaitParam = 0,
) -> JobState:
    """Return the state of the job that `job_id` names; with `wait`, as soon as its status changes."""
    if job_id is None:
        raise InvalidRequest([("job_id", "is required: /job-status/{job_id} or /job-status?job_id=")])
    return _state(await _fetch_changed(job_id, queue, wait, owner=owner))


@router.get("/jobs", responses=openapi_problems(422, 503))
async def recent_jobs(
    queue: JobQueueDep,
    owner: VisibleOwnerDep,
    uploads: UploadRepositoryDep,
    pools: PoolsDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Largest number of jobs to return.")] = 50,
    before: Annotated[str | None, Query(max_length=64, description="Only jobs older than this one.")] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
    kind: Annotated[Kind | None, Query(description="Only jobs of this kind.")] = None,
) -> JobPage:
    """List your recent jobs, newest first."""
    jobs, following = await queue.job_index.recent(owner, limit=limit, before=before, status=status, kind=kind)
    payloads = await queue.job_index.payloads(jobs)
    upload_ids = {
        str(payload.get("upload_id")) for job, payload in zip(jobs, payloads, strict=True) if job.kind == "document"
    }
    names = await pools.sql.run(uploads.names, owner, upload_ids) if upload_ids else {}
    return JobPage(jobs=_listed(jobs, payloads, names), next=following)


@router.delete("/jobs/{job_id}", responses=openapi_problems(404, 410, 422, 503), response_model_exclude_none=True)
async def cancel(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep) -> JobState:
    """Cancel a job. A queued job never runs, a started one is stopped, one that has ended stays as it is."""
    cancelled = await queue.cancel(job_id, owner=owner)
    logs.audit("job_cancelled", job_id=job_id, status=cancelled.status)
    return _state(cancelled)


@router.get(
    "/result/{job_id}",
    responses={202: {"model": Pending, "description": "Not yet"}, **openapi_problems(404, 410, 422, 503)},
    response_model=JobResult,
    response_model_exclude_none=True,
)
async def result(job_id: str, queue: JobQueueDep, owner: VisibleOwnerDep, wait: WaitParam = 0) -> JobResult | Response:
    """Return a job's answer and its sources; 202 until the job has ended. With `wait`, as soon as it has ended."""
    job = await queue.wait(job_id, wait, owner=owner, until=lambda view: view.status.terminal)
    if not job.status.terminal:
        pending = Pending(job_id=job.job_id, status=job.status).model_dump(mode="json")
        return JSONResponse(pending, status_code=202, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return job_result(job)


async def status_plainly(request: PlainRequest) -> PlainResponse | None:
    """Answer a request for a job's state that does not wait; None for every other request."""
    if request.query_string:
        return None
    queue: JobQueue = request.state["queue"]
    job = await queue.fetch(request.name, owner=request.caller.visible_owner)
    return PlainResponse(200, _state(job).model_dump_json(exclude_none=True).encode())


async def result_plainly(request: PlainRequest) -> PlainResponse | None:
    """Answer a request for a job's result that does not wait; None for every other request."""
    if request.query_string:
        return None
    queue: JobQueue = request.state["queue"]
    job = await queue.fetch(request.name, owner=request.caller.visible_owner)
    if job.status.terminal:
        return PlainResponse(200, job_result(job).model_dump_json(exclude_none=True).encode())
    body = Pending(job_id=job.job_id, status=job.status).model_dump_json().encode()
    return PlainResponse(202, body, [(b"retry-after", str(RETRY_AFTER_SECONDS).encode())])


PLAIN_ROUTES = [
    PlainRoute("GET", "/job-status/{job_id}", (KeyScope.QUERY, KeyScope.UPLOAD), status_plainly),
    PlainRoute("GET", "/result/{job_id}", (KeyScope.QUERY, KeyScope.UPLOAD), result_plainly),
]


def job_result(job: JobView) -> JobResult:
    """Return the result of a job that has ended."""
    if job.failure is not None:
        status: Literal["failed", "cancelled"] = "cancelled" if job.status is JobStatus.CANCELLED else "failed"
        return JobResult(job_id=job.job_id, status=status, error=job.failure.detail)
    details: dict[str, Any] = {}
    if job.kind == "chat":
        details = dict(Answer.model_validate(job.result))
        del details["text"]
    return JobResult(job_id=job.job_id, status="completed", result=_result_text(job), **details)


async def _fetch_changed(job_id: str, queue: JobQueue, wait_seconds: float, *, owner: str | None) -> JobView:
    """Read a job once its status has changed since the first read, or after `wait_seconds`."""
    if not wait_seconds:
        return await queue.fetch(job_id, owner=owner)
    before: JobStatus | None = None

    def changed(job: JobView) -> bool:
        nonlocal before
        before = before or job.status
        return job.status is not before or job.status.terminal

    return await queue.wait(job_id, wait_seconds, owner=owner, until=changed)


def _listed(
    jobs: Sequence[JobSummary], payloads: Sequence[dict[str, object]], names: Mapping[str, str]
) -> list[ListedJob]:
    """Add to each job its question or the name of its document. `names`: those of the owner's uploads, by id."""
    return [
        ListedJob(
            job_id=job.job_id,
            kind=job.kind,
            status=job.status,
            created_at=job.created_at,
            query=shown_query(payload) if job.kind == "chat" else None,
            name=names.get(str(payload.get("upload_id"))) if job.kind == "document" else None,
        )
        for job, payload in zip(jobs, payloads, strict=True)
    ]


def shown_query(payload: dict[str, object]) -> str | None:
    """Return the question of a job's payload, cut; None if it has none."""
    query = payload.get("query")
    return query[:MAX_LISTED_QUERY_CHARS] if isinstance(query, str) else None


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
        result=_result_text(job) if job.status is JobStatus.FINISHED else None,
        error=job.failure.detail if job.failure else None,
    )


def _result_text(job: JobView) -> str:
    if job.kind == "chat":
        return Answer.model_validate(job.result).text
    if job.kind == "webhook":
        outcome = (job.result or {}).get("status")
        return f"webhook: {outcome if outcome in _DELIVERY_OUTCOMES else 'ended'}"
    if job.result is not None and "built" in job.result:
        return f"the index: {counted(BuildStep.model_validate(job.result).built, 'document')} added by this job"
    if job.result is not None and "chunks" not in job.result:
        return f"{Removed.model_validate(job.result).name}: deleted"
    indexed = Indexed.model_validate(job.result)
    return f"{indexed.name}: {counted(indexed.pages, 'page')}, {counted(indexed.chunks, 'chunk')} stored"
