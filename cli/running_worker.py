"""The queue of a running server, for commands that need its worker: that worker owns the embedded store."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from client.rq_client import JobQueue
from client.valkey.embedded import running_url
from errors import QueueUnavailable
from settings import Settings

QueueName = Literal["rag_documents", "rag_queries"]


async def open_queue_with_worker(settings: Settings, name: QueueName) -> JobQueue | None:
    """Open the queues of the embedded Valkey; None when no worker takes jobs from the queue of this name."""
    url = running_url(settings)
    if url is None:
        return None
    queue = JobQueue.from_settings(settings, url)
    with suppress(QueueUnavailable):
        if await has_worker(queue, name):
            return queue
    await queue.close()
    return None


async def has_worker(queue: JobQueue, name: QueueName) -> bool:
    """Return True if a worker takes jobs from the queue of this name. Raises QueueUnavailable."""
    return any(state.workers for state in await queue.states() if state.name == name)
