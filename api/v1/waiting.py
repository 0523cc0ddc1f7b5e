"""Waiting for an answer in the foreground: a client that leaves cancels its question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import Request

from api.client_connection import ClientConnection
from api.v1.errors import ApiError
from client.rq_client import JobQueue
from errors import ServerBusy
from schemas import JobView

# A request that is not in the background waits for its answer, whose time limit is the job's.
WAIT_SECONDS: Final = 3_600.0
# Nobody reads this status but the log; nginx calls it so.
CLIENT_LEFT: Final = 499
# The tasks that cancel jobs whose clients have left: the event loop itself keeps only weak references.
_cancelling: set[asyncio.Task[Any]] = set()


async def wait_for_end(request: Request, job_id: str) -> JobView:
    """Wait for a job's end. A client that leaves cancels the job; the end of this process does not."""
    queue: JobQueue = request.state.queue
    connection = getattr(request.state, "connection", None) or ClientConnection()
    waiting = asyncio.ensure_future(queue.wait(job_id, WAIT_SECONDS, until=lambda job: job.status.terminal))
    connection.on_loss = waiting.cancel
    try:
        if connection.lost:
            waiting.cancel()
        job = await waiting
    except asyncio.CancelledError:
        waiting.cancel()
        if not connection.lost:
            raise  # the server ends
        cancel_later(queue, job_id)
        raise ApiError("the client has left", code="client_closed_request", status=CLIENT_LEFT) from None
    finally:
        connection.on_loss = None
    if not job.status.terminal:
        raise ServerBusy("this process ends before the answer has come: repeat the request", retry_after_seconds=1)
    return job


async def cancelling_when_left(parts: AsyncGenerator[bytes], queue: JobQueue, job_id: str) -> AsyncGenerator[bytes]:
    """Yield the parts of a stream. Cancel the job if the client leaves before the end."""
    ended = False
    try:
        async for part in parts:
            yield part
        ended = True
    finally:
        if not ended and not queue.notifier.closing:
            cancel_later(queue, job_id)
        await parts.aclose()


def cancel_later(queue: JobQueue, job_id: str) -> None:
    """Cancel a job in a task of its own, since the task of the request ends."""
    task = asyncio.ensure_future(queue.cancel(job_id))
    _cancelling.add(task)
    task.add_done_callback(_cancelling.discard)
