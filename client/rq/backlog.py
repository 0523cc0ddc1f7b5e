"""The number of an owner's waiting jobs, and the limit on it.

Jobs that wait for other jobs count, too. The number can be too high, never too low. A job that a worker has just taken
may count until the next job comes. A job that RQ's own tools cancelled may count until the jobs before it are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import redis.asyncio as redis

from client.rq import fair_queue
from client.rq.scripts import load_script

# A reserved slot expires after this time: its request has submitted the jobs by then, or has failed.
RESERVED_SECONDS: Final = 15
RETRY_AFTER_SECONDS: Final = 10

_CONSTANTS: Final = fair_queue.LUA_CONSTANTS | {"RESERVED_SECONDS": RESERVED_SECONDS}
_COUNT: Final = load_script("count_waiting", _CONSTANTS)
_RESERVE: Final = load_script("reserve_slots", _CONSTANTS)


async def count_waiting(valkey: redis.Redis, owner: str, queues: Sequence[str]) -> int:
    """Count the owner's jobs that wait on these queues, or for a slot on them. Raises RedisError."""
    return int(await _COUNT.call_async(valkey, (), [owner, *queues]))


async def reserve_slots(
    valkey: redis.Redis, owner: str, job_ids: Sequence[str], *, queue: str, max_waiting: int, queues: Sequence[str]
) -> bool:
    """Reserve slots on `queue` for new jobs. Returns False, and reserves none, if more than `max_waiting` would wait.

    `queues`: the queues whose jobs count. Raises RedisError.
    """
    arguments = [owner, max_waiting, queue, len(queues), *queues, *job_ids]
    return bool(await _RESERVE.call_async(valkey, (), arguments))
