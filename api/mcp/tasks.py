"""Jobs as tasks: the extension io.modelcontextprotocol/tasks (SEP-2663), for which the package `mcp` has no server."""

from __future__ import annotations

from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    EmptyResult,
    RequestParams,
)
from pydantic import Field

from api.mcp.calls import TASKS, Call
from api.mcp.results import answer_result
from errors import JobExpired, JobNotFound
from observability import logs
from schemas import JobStatus, JobView, KeyScope

POLL_MS: Final = 500


class TaskParams(RequestParams):
    """The parameters of tasks/get and tasks/cancel."""

    task_id: str = Field(max_length=64)


class UpdateParams(TaskParams):
    """The parameters of tasks/update. No task here waits for input."""

    input_responses: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it


def task_of(call: Call, job: JobView, *, created: bool = False) -> dict[str, Any]:
    """Return a question as a task. `created`: as the result of the call that asked."""
    task: dict[str, Any] = {
        "resultType": "task" if created else "complete",
        "taskId": job.job_id,
        "status": "working",
        "createdAt": job.created_at.isoformat(),
        "lastUpdatedAt": (job.ended_at or job.started_at or job.created_at).isoformat(),
        "ttlMs": call.settings.result_ttl_seconds * 1000,
        "pollIntervalMs": POLL_MS,
    }
    if job.status is JobStatus.CANCELLED:
        task["status"] = "cancelled"
    elif job.status.terminal:
        # A question that failed is a tool's error, and the protocol calls such a task completed.
        result = answer_result(job).model_dump(mode="json", by_alias=True, exclude_none=True)
        task |= {"status": "completed", "result": result}
    elif job.progress is not None:
        task["statusMessage"] = job.progress.stage
    return task


async def get(call: Call, params: TaskParams) -> dict[str, Any]:
    """Answer tasks/get."""
    return task_of(call, await _fetch(call, params))


async def update(call: Call, params: UpdateParams) -> EmptyResult:
    """Answer tasks/update: responses that nobody asked for are ignored."""
    await _fetch(call, params)
    return EmptyResult()


async def cancel(call: Call, params: TaskParams) -> EmptyResult:
    """Answer tasks/cancel. A task that has ended stays as it is."""
    job = await _fetch(call, params)
    cancelled = await call.queue.cancel(job.job_id, owner=call.caller.visible_owner)
    logs.audit("job_cancelled", job_id=job.job_id, status=cancelled.status)
    return EmptyResult()


async def _fetch(call: Call, params: TaskParams) -> JobView:
    """Read the job of a task. Raises MCPError."""
    if not call.takes_tasks:
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "the client must declare the extension for tasks", needed)
    # The package checks this header for its own methods.
    if call.request.headers.get("mcp-name") != params.task_id:
        raise MCPError(HEADER_MISMATCH, "the header Mcp-Name must have the taskId")
    call.require_scope(KeyScope.QUERY)
    try:
        job = await call.queue.fetch(params.task_id, owner=call.caller.visible_owner)
    except (JobNotFound, JobExpired):
        raise MCPError(INVALID_PARAMS, "there is no task with this taskId") from None
    if job.kind != "chat":
        raise MCPError(INVALID_PARAMS, "there is no task with this taskId")
    return job
