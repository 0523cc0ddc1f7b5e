"""How the queues are: what waits on each, and which workers listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio as redis

from client.rq.records import decode_text


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue: `waiting` jobs, and the names of the `workers` that listen on it."""

    name: str
    waiting: int
    workers: tuple[str, ...]


async def read_states(valkey: redis.Redis, names: Sequence[str]) -> list[QueueState]:
    """Look at the queues of these names."""
    pipeline = valkey.pipeline(transaction=False)
    for name in names:
        pipeline.llen(f"rq:queue:{name}")
        pipeline.smembers(f"rq:workers:{name}")
    answers = await pipeline.execute()
    return [
        QueueState(name=name, waiting=waiting, workers=await _alive(valkey, keys))
        for name, waiting, keys in zip(names, answers[::2], answers[1::2], strict=True)
    ]


async def _alive(valkey: redis.Redis, worker_keys: set[bytes]) -> tuple[str, ...]:
    if not worker_keys:
        return ()
    keys = sorted(worker_keys)
    pipeline = valkey.pipeline(transaction=False)
    for key in keys:
        pipeline.hmget(key, "birth", "death")
    answers = await pipeline.execute()
    return tuple(
        decode_text(key).removeprefix("rq:worker:")
        for key, (birth, death) in zip(keys, answers, strict=True)
        if birth and not death
    )
