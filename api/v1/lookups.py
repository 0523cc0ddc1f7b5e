"""Lookups: questions that ask for passages or for text, and not for an answer. Each is a job that is waited for."""

from __future__ import annotations

from typing import Any

from fastapi import Request

import schemas
from api.questions import Asking
from api.v1.errors import ApiError
from api.v1.waiting import wait_for_end
from schemas import Answer, JobStatus, Source


async def look_up(request: Request, question: str, **options: Any) -> tuple[Source, ...]:
    """Run a lookup, and return what it found. `options`: further fields of the Query. Raises ApiError."""
    state = request.state
    caller = state.caller
    everyone = caller.visible_owner is None
    query = schemas.Query(query=question, user_id=caller.user_id, everyone=everyone, **options)
    job_id = await Asking(state.settings, state.queue, state.documents, state.quotas, caller).submit(query)
    job = await wait_for_end(request, job_id)
    if job.status is not JobStatus.FINISHED:
        detail = "the search was cancelled" if job.failure is None else job.failure.detail
        raise ApiError(detail, code="server_error", status=500)
    return Answer.model_validate(job.result).sources
