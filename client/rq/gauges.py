"""What exporters of RQ show of all workers and queues, and how long the oldest job of a queue has waited."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from client.rq.ids import id_created_at
from client.rq.records import QUEUES, decode_text, read_timestamp
from client.valkey import keys
from observability.metrics import OTHER

# Of queues that other programs made, only the first are shown, and of workers too.
MAX_OTHER_QUEUES = 20
MAX_WORKERS = 500
# A name beyond this length was made by somebody else.
MAX_NAME_CHARS = 100
# RQ's states of a worker.
_STATES = {"starting", "started", "suspended", "busy", "idle"}
_REGISTRIES = {
    "started": "wip",
    "finished": "finished",
    "failed": "failed",
    "deferred": "deferred",
    "scheduled": "scheduled",
    "canceled": "canceled",
}
# The oldest job of each owner is among the first of a queue, which is in fair order.
MAX_LISTED = 10_000
# Ids that hold no time, such as those of webhooks: so many records are read for their times.
MAX_READ = 100
# A UUID in its usual form has its version here.
_UUID_CHARS, _VERSION_AT = 36, 14


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker, the names of its queues, and its state as RQ shows it: `?` until the first heartbeat."""

    name: str
    queues: tuple[str, ...]
    state: str


def read_workers(valkey: Redis) -> list[WorkerState]:
    """Return the workers that are registered, at most MAX_WORKERS. Raises RedisError."""
    registered = sorted(cast("set[bytes]", valkey.smembers(keys.WORKERS)))[:MAX_WORKERS]
    pipeline = valkey.pipeline(transaction=False)
    for key in registered:
        pipeline.hmget(key, "birth", "death", "queues", "state")
    workers = []
    for key, reply in zip(registered, pipeline.execute(raise_on_error=False), strict=True):
        birth, death, queues, state = (None,) * 4 if isinstance(reply, Exception) else reply
        if birth and not death:
            name = keys.worker_name(decode_text(key))[:MAX_NAME_CHARS]
            text = decode_text(state)
            workers.append(WorkerState(name, _queue_names(queues), text if text in _STATES else "?"))
    return workers


def queue_names(valkey: Redis) -> list[str]:
    """Return our queues, and the first MAX_OTHER_QUEUES of other programs. Raises RedisError."""
    made = {decode_text(key).removeprefix(keys.queue("")) for key in cast("set[bytes]", valkey.smembers(keys.QUEUES))}
    others = sorted(name for name in made - set(QUEUES.values()) if len(name) <= MAX_NAME_CHARS)
    return [*QUEUES.values(), *others[:MAX_OTHER_QUEUES]]


def count_jobs(valkey: Redis, queues: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return the number of jobs by queue and RQ's status. Raises RedisError."""
    pipeline = valkey.pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(keys.queue(queue))
        for registry in _REGISTRIES.values():
            pipeline.zcard(keys.registry(registry, queue))
    pairs = [(queue, status) for queue in queues for status in ("queued", *_REGISTRIES)]
    replies = pipeline.execute(raise_on_error=False)
    # A key of another type belongs to another program.
    return {pair: reply for pair, reply in zip(pairs, replies, strict=True) if isinstance(reply, int)}


def oldest_seconds(valkey: Redis, queues: Sequence[str]) -> dict[str, float]:
    """Return how long the oldest waiting job of each queue has waited; 0 for an empty queue. Raises RedisError."""
    pipeline = valkey.pipeline(transaction=False)
    for queue in queues:
        pipeline.lrange(keys.queue(queue), 0, MAX_LISTED - 1)
    replies = pipeline.execute(raise_on_error=False)
    now = time.time()
    return {
        queue: max(0.0, now - _oldest(valkey, ids, now)) if isinstance(ids, list) else 0.0
        for queue, ids in zip(queues, replies, strict=True)
    }


def _oldest(valkey: Redis, ids: list[bytes], now: float) -> float:
    """Return when the oldest of these jobs was accepted, in Unix seconds; `now` without a job."""
    timed = [job_id for job_id in ids if len(job_id) == _UUID_CHARS and job_id[_VERSION_AT : _VERSION_AT + 1] == b"7"]
    times = [now]
    if timed:  # such ids are in the order of their times
        created_at = id_created_at(decode_text(min(timed)))
        times += [created_at.timestamp()] if created_at else []
    if len(timed) < len(ids):
        known = set(timed)
        times += _enqueued(valkey, [job_id for job_id in ids if job_id not in known][:MAX_READ])
    return min(times)


def _enqueued(valkey: Redis, ids: list[bytes]) -> list[float]:
    pipeline = valkey.pipeline(transaction=False)
    for job_id in ids:
        pipeline.hget(keys.job(decode_text(job_id)), "enqueued_at")
    return [moment for reply in pipeline.execute(raise_on_error=False) if (moment := _unix_time(reply)) is not None]


def _unix_time(reply: Any) -> float | None:
    try:
        return read_timestamp(decode_text(reply)).timestamp() if isinstance(reply, bytes) else None
    except ValueError:
        return None


def _queue_names(field: bytes | None) -> tuple[str, ...]:
    """Return the queues of a worker. A queue that is not shown is OTHER here."""
    names = decode_text(field).split(",")[:MAX_OTHER_QUEUES]
    return tuple(name if len(name) <= MAX_NAME_CHARS else OTHER for name in names)
