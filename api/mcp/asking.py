"""Questions and searches of tools: put on the queue, waited for, and cancelled when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import schemas
from api.mcp.calls import Call
from api.v1.waiting import cancel_later
from errors import AppError, ServerBusy
from schemas import Answer, Failure, JobStatus, JobView

# Clients give up after 60 s without an answer.
MAX_WAIT_SECONDS: Final = 50.0
# Between two reports of progress.
REPORT_SECONDS: Final = 5.0


def question_of(call: Call, text: str, documents: Sequence[str] | None, **options: Any) -> schemas.Query:
    """Return a question in the form that workers read. `documents`: ids of uploads, or names."""
    caller = call.caller
    upload_ids = tuple(dict.fromkeys(name for name in documents or () if _is_id(name)))
    names = tuple(dict.fromkeys(name for name in documents or () if not _is_id(name)))
    return schemas.Query(
        query=text,
        user_id=caller.user_id,
        everyone=caller.visible_owner is None,
        upload_ids=upload_ids or None,
        names=names or None,
        **options,
    )


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


async def wait(call: Call, job_id: str, seconds: float, *, cancelling: bool) -> JobView:
    """Return a job once it has ended or the time is up, and report its progress meanwhile.

    `cancelling`: a client that leaves cancels the job. The end of this process cancels nothing.
    """
    started = time.monotonic()
    try:
        while True:
            left = started + seconds - time.monotonic()
            job = await call.queue.wait(
                job_id,
                max(0.0, min(left, REPORT_SECONDS)),
                owner=call.caller.visible_owner,
                until=lambda job: job.status.terminal,
            )
            if job.status.terminal or left <= REPORT_SECONDS or call.queue.notifier.closing:
                return job
            await call.report(round(time.monotonic() - started, 1), _stage(job))
    except asyncio.CancelledError:
        if cancelling and not call.queue.notifier.closing:
            cancel_later(call.queue, job_id)
        raise


def _stage(job: JobView) -> str:
    if job.progress is not None:
        return job.progress.stage
    return f"number {job.position} in the queue" if job.position else job.status.value


async def look_up(call: Call, query: schemas.Query) -> Answer:
    """Return what a search finds, or the text of pages. Raises AppError."""
    job_id = await call.asking.submit(query)
    job = await wait(call, job_id, MAX_WAIT_SECONDS, cancelling=True)
    if job.status is JobStatus.FINISHED:
        return Answer.model_validate(job.result)
    if job.status.terminal:
        failure = job.failure or Failure(code="internal", detail="the search failed")
        raise AppError(failure.detail)
    cancel_later(call.queue, job_id)
    raise ServerBusy("the search waits for a worker: try again later", retry_after_seconds=5)
