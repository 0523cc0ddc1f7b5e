"""The state of the queues: how many jobs wait on each, and which workers listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio as redis

from client.rq.records import QUEUES, decode_text
from client.valkey import keys
from client.valkey.condition import ValkeyCondition
from observability import commands
from observability.wording import counted

# The queue of questions always needs a worker. The other queues need none before their first job.
REQUIRED_QUEUE = QUEUES["chat"]


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue: the number of `waiting` jobs, and the names of the `workers` that listen."""

    name: str
    waiting: int
    workers: tuple[str, ...]


def warnings_about(condition: ValkeyCondition, states: Sequence[QueueState], *, incomplete: int) -> list[str]:
    """Return what keeps jobs from being run, and what to do. `incomplete`: how many uploads lack chunks."""
    warnings = [*condition.warnings, *_missing_workers(states)]
    if condition.suspended:
        warnings.append("`rq suspend` keeps the workers from taking jobs: run `rq resume` with the URL of Valkey")
    if incomplete:
        warnings.append(
            f"the vector store holds fewer chunks of {counted(incomplete, 'upload')} than were indexed, and answers "
            f"leave the rest out: run `{commands.script('main.py')} audit`, which indexes the uploads again"
        )
    return warnings


def _missing_workers(states: Sequence[QueueState]) -> list[str]:
    return [
        f"no worker listens on {state.name} ({state.waiting} waiting): run `{commands.script('main.py')} worker`"
        for state in states
        if not state.workers and (state.waiting or state.name == REQUIRED_QUEUE)
    ]


async def read_states(valkey: redis.Redis, names: Sequence[str]) -> list[QueueState]:
    """Read the state of each named queue. Raises RedisError."""
    pipeline = valkey.pipeline(transaction=False)
    for name in names:
        pipeline.llen(keys.queue(name))
        pipeline.smembers(keys.queue_workers(name))
    replies = await pipeline.execute()
    return [
        QueueState(name=name, waiting=waiting, workers=await _alive(valkey, worker_keys))
        for name, waiting, worker_keys in zip(names, replies[::2], replies[1::2], strict=True)
    ]


async def _alive(valkey: redis.Redis, worker_keys: set[bytes]) -> tuple[str, ...]:
    """Return the names of the workers that have registered (`birth`) and have not ended (`death`)."""
    if not worker_keys:
        return ()
    ordered = sorted(worker_keys)
    pipeline = valkey.pipeline(transaction=False)
    for key in ordered:
        pipeline.hmget(key, "birth", "death")
    replies = await pipeline.execute()
    return tuple(
        keys.worker_name(decode_text(key))
        for key, (birth, death) in zip(ordered, replies, strict=True)
        if birth and not death
    )
