"""The queues, the workers and the latest failures at one moment, for `main.py top`. Reads, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from redis import Redis
from rq.utils import utcparse

from client.rq.dead_letters import DeadLetter
from client.rq.ids import id_created_at
from client.rq.records import QUEUES, decode_text
from client.rq.stats import quantile
from client.valkey import keys
from errors import JobNotFound

RATE_SECONDS = 60.0
# Of so many waiting jobs and ended jobs of a queue the times are looked at.
SAMPLE = 500


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """One queue. Rates are those of the last minute; times are in seconds, None where there is no job to measure."""

    name: str
    waiting: int
    running: int
    workers: int
    oldest_seconds: float | None
    finished_per_minute: int
    failed_per_minute: int
    median_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True)
class WorkerOverview:
    """One worker. `jobs`: how many it runs; `heartbeat_seconds`: the age of its last heartbeat, None while unknown."""

    name: str
    host: str
    state: str
    jobs: int
    queues: tuple[str, ...]
    done: int
    heartbeat_seconds: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What `main.py top` shows."""

    at: datetime
    suspended: bool
    queues: list[QueueOverview]
    workers: list[WorkerOverview]
    failures: list[DeadLetter]


def read_overview(valkey: Redis, *, ttl_seconds: int, failures: list[DeadLetter]) -> Overview:
    """Read the state of all queues. `ttl_seconds`: how long results are kept. Raises RedisError."""
    workers, running = _read_workers(valkey), _running(valkey)
    counts: dict[str, int] = {}
    for worker, _queue in running:
        counts[worker] = counts.get(worker, 0) + 1
    return Overview(
        at=datetime.now(UTC),
        suspended=bool(valkey.exists(keys.SUSPENDED)),
        queues=[_read_queue(valkey, name, workers, running, ttl_seconds) for name in QUEUES.values()],
        workers=[_worker(name, record, counts.get(name, 0)) for name, record in sorted(workers.items())],
        failures=failures,
    )


def _read_queue(
    valkey: Redis,
    name: str,
    workers: Mapping[str, Mapping[str, str]],
    running: list[tuple[str, str]],
    ttl_seconds: int,
) -> QueueOverview:
    since = time.time() - RATE_SECONDS + ttl_seconds
    pipeline = valkey.pipeline(transaction=False)
    pipeline.llen(keys.queue(name))
    pipeline.lrange(keys.queue(name), 0, SAMPLE - 1)
    pipeline.zcount(keys.registry("finished", name), since, "+inf")
    pipeline.zcount(keys.registry("failed", name), since, "+inf")
    pipeline.zrangebyscore(keys.registry("finished", name), since, "+inf", start=0, num=SAMPLE, withscores=True)
    waiting, first, finished, failed, ended = pipeline.execute()
    created = [created_at for job_id in first if (created_at := _created(job_id)) is not None]
    taken = sorted(
        max(0.0, score - ttl_seconds - created_at)
        for job_id, score in ended
        if (created_at := _created(job_id)) is not None
    )
    return QueueOverview(
        name=name,
        waiting=waiting,
        running=sum(queue == name for _, queue in running),
        workers=sum(name in record.get("queues", "").split(",") for record in workers.values()),
        oldest_seconds=max(0.0, time.time() - min(created)) if created else None,
        finished_per_minute=finished,
        failed_per_minute=failed,
        median_seconds=quantile(taken, 0.5),
        p95_seconds=quantile(taken, 0.95),
    )


def _created(job_id: bytes) -> float | None:
    """Return the time in the id of a job; None for an id of another program."""
    try:
        created_at = id_created_at(decode_text(job_id))
    except JobNotFound:
        return None
    return None if created_at is None else created_at.timestamp()


def _read_workers(valkey: Redis) -> dict[str, dict[str, str]]:
    """Return the records of the workers that have begun and not ended, by name."""
    names = sorted(cast("set[bytes]", valkey.smembers(keys.WORKERS)))
    pipeline = valkey.pipeline(transaction=False)
    for name in names:
        pipeline.hgetall(name)
    records = {
        keys.worker_name(decode_text(name)): {decode_text(field): decode_text(value) for field, value in record.items()}
        for name, record in zip(names, pipeline.execute(), strict=True)
    }
    return {name: record for name, record in records.items() if record.get("birth") and not record.get("death")}


def _running(valkey: Redis) -> list[tuple[str, str]]:
    """Return the worker and the queue of each job that runs."""
    pipeline = valkey.pipeline(transaction=False)
    for name in QUEUES.values():
        pipeline.zrange(keys.registry("wip", name), 0, -1)
    members = [
        (decode_text(member).rpartition(":")[0], name)
        for name, found in zip(QUEUES.values(), pipeline.execute(), strict=True)
        for member in found
    ]
    for job_id, _ in members:
        pipeline.hget(keys.job(job_id), "worker_name")
    return [(decode_text(worker), name) for worker, (_, name) in zip(pipeline.execute(), members, strict=True)]


def _worker(name: str, record: Mapping[str, str], jobs: int) -> WorkerOverview:
    heartbeat = record.get("last_heartbeat")
    try:
        age = None if heartbeat is None else max(0.0, (datetime.now(UTC) - utcparse(heartbeat)).total_seconds())
    except ValueError:
        age = None
    done = record.get("successful_job_count", "0")
    return WorkerOverview(
        name=name,
        host=record.get("hostname", ""),
        state=record.get("state", "unknown"),
        jobs=jobs,
        queues=tuple(record.get("queues", "").split(",")),
        done=int(done) if done.isdigit() else 0,
        heartbeat_seconds=age,
    )
