"""The last hour of the queue of questions in minutes, read from the registries of RQ, so that no job pays for counting.

The score of an ended job in its registry is its end plus the retention, and the id of a job holds its creation. So the
ends are counted, and latencies known, for every kind of worker. While the retention was changed less than an hour ago,
minutes are shifted. Valkey keeps no history of waiting jobs. So the backlog of a minute is counted back from the
present backlog: jobs accepted since then are subtracted, and jobs ended since then are added.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import redis.asyncio as redis

from client.rq.ids import id_created_at
from client.rq.records import QUEUES, decode_text
from client.valkey import keys
from client.valkey.connection import valkey_call
from errors import JobNotFound

MINUTES = 60
# Latencies are those of so many answers a minute, its first ones. All 360,000 of a busy hour would be 20 MB.
SAMPLE = 200
_QUEUE = QUEUES["chat"]
# The queues of the jobs in keys.ALL_JOBS.
_QUEUES = (QUEUES["chat"], QUEUES["document"])
_ENDS = ("finished", "failed", "canceled")
_UNENDED = ("wip", "deferred", "scheduled")


@dataclass(frozen=True, slots=True)
class MinuteStats:
    """One minute: numbers of jobs, and the seconds from a question's acceptance to its answer, in order.

    `backlog`: the jobs, questions and documents, that waited or ran at its end.
    """

    at: datetime
    queued: int
    answered: int
    failed: int
    cancelled: int
    backlog: int
    latencies: list[float]


async def last_hour(valkey: redis.Redis, *, ttl_seconds: int) -> list[MinuteStats]:
    """Return the last MINUTES minutes, oldest first; the last is under way. Raises QueueUnavailable."""
    starts = [(math.floor(time.time() / 60) - back) * 60.0 for back in reversed(range(MINUTES))]
    pipeline = valkey.pipeline(transaction=False)
    for start in starts:
        pipeline.zcount(keys.ALL_JOBS, start, f"({start + 60}")
        span = start + ttl_seconds, f"({start + 60 + ttl_seconds}"
        for queue in _QUEUES:
            for kind in _ENDS:
                pipeline.zcount(keys.registry(kind, queue), *span)
        pipeline.zrangebyscore(keys.registry("finished", _QUEUE), *span, start=0, num=SAMPLE, withscores=True)
    for queue in _QUEUES:
        pipeline.llen(keys.queue(queue))
        for kind in _UNENDED:
            pipeline.zcard(keys.registry(kind, queue))
    async with valkey_call():
        replies = await pipeline.execute()
    size = 2 + len(_QUEUES) * len(_ENDS)
    rows = [replies[at : at + size] for at in range(0, len(starts) * size, size)]
    backlogs = _backlogs([(queued, sum(ends)) for queued, *ends, _ in rows], now=sum(replies[len(starts) * size :]))
    return [
        MinuteStats(
            at=datetime.fromtimestamp(start, UTC),
            queued=queued,
            answered=ends[0],
            failed=ends[1],
            cancelled=ends[2],
            backlog=backlog,
            latencies=_latencies(finished, ttl_seconds),
        )
        for start, (queued, *ends, finished), backlog in zip(starts, rows, backlogs, strict=True)
    ]


def quantile(ordered: list[float], share: float) -> float | None:
    """Return the smallest of the values that so large a share of them does not exceed; None without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _backlogs(minutes: list[tuple[int, int]], *, now: int) -> list[int]:
    """Return how many jobs had not ended at the end of each minute, of the numbers accepted and ended in each."""
    found = []
    for accepted, ended in reversed(minutes):
        found.append(max(0, now))
        now += ended - accepted
    return found[::-1]


def _latencies(ended: list[tuple[bytes, float]], ttl_seconds: int) -> list[float]:
    found = []
    for job_id, score in ended:
        try:
            created_at = id_created_at(decode_text(job_id))
        except JobNotFound:  # of another program
            continue
        if created_at is not None:
            found.append(max(0.0, score - ttl_seconds - created_at.timestamp()))
    return sorted(found)
