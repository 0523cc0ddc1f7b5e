"""Jobs that wait for other jobs, their dependencies.

They are laid out as in RQ 2.12 (rq.queue.Queue.enqueue_dependents): a stock worker that ends the last dependency puts
the waiting job on its queue.

RQ's client does this in several steps under WATCH. Here the script that submits a job also makes it wait, and the
script that ends a job also releases its dependents. So a new job either finds its dependency ended, or is released by
that dependency's end.
"""

from __future__ import annotations

from typing import Final

import redis.asyncio as redis

from client.rq.fair_queue import LUA_CONSTANTS
from client.rq.records import rq_timestamp
from client.rq.scripts import load_script

_RELEASE_DEPENDENTS: Final = load_script("release_dependents", LUA_CONSTANTS)
_RELEASE_STRANDED: Final = load_script("release_stranded", LUA_CONSTANTS)


async def release_dependents(valkey: redis.Redis, job_id: str) -> int:
    """Enqueue the jobs that waited only for this job, which has ended; return how many. Raises RedisError."""
    return int(await _RELEASE_DEPENDENTS.call_async(valkey, (), [job_id, rq_timestamp()]))


async def release_stranded(valkey: redis.Redis, queue: str, *, before: float, skip: int, limit: int) -> tuple[int, int]:
    """Put deferred jobs whose dependencies have ended on their queue. Raises RedisError.

    Reads up to `limit` jobs that were deferred before `before`, in Unix seconds, the oldest first, after skipping
    `skip`. Returns how many were released, and the `skip` of the next call: 0 at the end. Jobs that a stock worker has
    put on the queue get their slot, too.
    """
    arguments = [queue, f"{before:.0f}", skip, limit, rq_timestamp()]
    released, next_skip = await _RELEASE_STRANDED.call_async(valkey, (), arguments)
    return int(released), int(next_skip)
