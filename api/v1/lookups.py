"""Lookups: questions that ask for passages or for text, and not for an answer. Each is a job that is waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

import schemas
from api.questions import Asking
from api.v1.errors import ApiError
from api.v1.waiting import cancel_later, wait_for_end
from schemas import Answer, JobStatus, Source


async def look_up(request: Request, question: str, **options: Any) -> tuple[Source, ...]:
    """Run a lookup, and return what it found. `options`: further fields of the Query. Raises ApiError."""
    [found] = await look_up_each(request, [question], **options)
    return found


async def look_up_each(request: Request, questions: Sequence[str], **options: Any) -> list[tuple[Source, ...]]:
    """Run a lookup for each question, at the same time, and return what each found. Otherwise as `look_up`."""
    job_ids: list[str] = []
    try:
        for question in questions:
            job_ids.append(await _submit(request, question, options))  # noqa: PERF401  an error cancels those before it
        return [await _found(request, job_id) for job_id in job_ids]
    except BaseException:  # a client that leaves, too
        for job_id in job_ids:
            cancel_later(request.state.queue, job_id)
        raise


async def _submit(request: Request, question: str, options: Mapping[str, Any]) -> str:
    state = request.state
    caller = state.caller
    everyone = caller.visible_owner is None
    query = schemas.Query(query=question, user_id=caller.user_id, everyone=everyone, **options)
    return await Asking(state.settings, state.queue, state.documents, state.quotas, caller).submit(query)


async def _found(request: Request, job_id: str) -> tuple[Source, ...]:
    job = await wait_for_end(request, job_id)
    if job.status is not JobStatus.FINISHED:
        detail = "the search was cancelled" if job.failure is None else job.failure.detail
        raise ApiError(detail, code="server_error", status=500)
    return Answer.model_validate(job.result).sources
