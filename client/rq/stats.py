"""The last hour of the queue of questions in minutes, read from the registries of RQ, so that no job pays for counting.

The score of an ended job in its registry is its end plus the retention, and the id of a job holds its creation. So the
ends are counted, and latencies known, for every kind of worker. While the retention was changed less than an hour ago,
minutes are shifted.
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


@dataclass(frozen=True, slots=True)
class MinuteStats:
    """One minute: numbers of jobs, and the seconds from a question's acceptance to its answer, in order."""

    at: datetime
    queued: int
    answered: int
    failed: int
    cancelled: int
    latencies: list[float]


async def last_hour(valkey: redis.Redis, *, ttl_seconds: int) -> list[MinuteStats]:
    """Return the last MINUTES minutes, oldest first; the last is under way. Raises QueueUnavailable."""
    starts = [(math.floor(time.time() / 60) - back) * 60.0 for back in reversed(range(MINUTES))]
    pipeline = valkey.pipeline(transaction=False)
    for start in starts:
        pipeline.zcount(keys.ALL_JOBS, start, f"({start + 60}")
        span = start + ttl_seconds, f"({start + 60 + ttl_seconds}"
        for kind in ("finished", "failed", "canceled"):
            pipeline.zcount(keys.registry(kind, _QUEUE), *span)
        pipeline.zrangebyscore(keys.registry("finished", _QUEUE), *span, start=0, num=SAMPLE, withscores=True)
    async with valkey_call():
        replies = await pipeline.execute()
    minutes = []
    for start, at in zip(starts, range(0, len(replies), 5), strict=True):
        queued, answered, failed, cancelled, ended = replies[at : at + 5]
        latencies = _latencies(ended, ttl_seconds)
        minutes.append(MinuteStats(datetime.fromtimestamp(start, UTC), queued, answered, failed, cancelled, latencies))
    return minutes


def quantile(ordered: list[float], share: float) -> float | None:
    """Return the smallest of the values that so large a share of them does not exceed; None without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


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
