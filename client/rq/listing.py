"""Which jobs an owner has: the recent ones, and the batches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio as redis
from rq.job import Job

from client.rq.ids import id_created_at
from client.rq.records import KINDS, STATUSES, Kind, decode_text
from client.valkey.connection import none_for_wrong_type, valkey_call
from client.valkey.keys import quoted
from errors import BatchNotFound, JobNotFound
from schemas import JobStatus

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

# Ids are forgotten this long after the last job of their owner or batch was added, results long before.
EXTRA_SECONDS = 7 * 86_400
PAGE = 200
# How many ids one call looks at, at the most: 0.1 s of a server that has nothing else to do.
MOST_LOOKED_AT = 5_000
# KEYS: the batch. ARGV: seconds to keep it, its owner, ids of its jobs.
_MAKE_BATCH = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  for at = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[at]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('LRANGE', KEYS[1], 1, -1)
"""
# An owner's key holds no asterisk: it is quoted there.
EVERYBODY = "rag:jobs:*"


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in a list."""

    job_id: str
    kind: Kind
    status: JobStatus
    created_at: datetime


class JobIndex:
    """Lists of job ids in Valkey, newest first. Jobs that are no longer kept are left out of what is read."""

    def __init__(self, valkey: redis.Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._kept_seconds = ttl_seconds + EXTRA_SECONDS

    def add(self, pipeline: Pipeline, owner: str, jobs: Sequence[Job]) -> None:
        """Add jobs to their owner's list, and to everybody's."""
        for key in (_owner_key(owner), EVERYBODY):
            # A job submitted again, under an Idempotency-Key, keeps its place.
            pipeline.zadd(key, {job.id: job.created_at.timestamp() for job in jobs}, nx=True)
            pipeline.zremrangebyscore(key, "-inf", time.time() - self._kept_seconds)
            pipeline.expire(key, self._kept_seconds)

    async def recent(
        self, owner: str | None, *, limit: int, before: str | None, status: JobStatus | None, kind: Kind | None
    ) -> tuple[list[JobSummary], str | None]:
        """Return up to `limit` of an owner's jobs, newest first, from those older than the job `before`.

        With them comes `before` of the next call, None at the end. Where few of very many match there are fewer than
        `limit`, or none, though more may follow. `owner` None gives everybody's.
        """
        key = EVERYBODY if owner is None else _owner_key(owner)
        found: list[JobSummary] = []
        held: list[str] = []
        async with valkey_call():
            start = await self._place_after(key, before)
            for _ in range(MOST_LOOKED_AT // PAGE):
                page = cast("list[bytes]", await self._valkey.zrevrange(key, start, start + PAGE - 1))
                ids = [decode_text(one) for one in page]
                jobs, gone = await self._look(ids)
                found += [job for job in jobs if status in {None, job.status} and kind in {None, job.kind}]
                if len(found) > limit:
                    return found[:limit], found[limit - 1].job_id
                if len(ids) < PAGE:
                    return found, None
                # All but the last, from which the next call may go on.
                forgotten = held + [job_id for job_id in gone if job_id != ids[-1]]
                held = [job_id for job_id in gone if job_id == ids[-1]]
                if forgotten:
                    await self._valkey.zrem(key, *forgotten)
                start += len(ids) - len(forgotten)
        return found, ids[-1]

    async def _place_after(self, key: str, job_id: str | None) -> int:
        """Return the place that follows a job; where its id is no longer in the list, as its time says."""
        if job_id is None:
            return 0
        place = await self._valkey.zrevrank(key, job_id)
        if place is not None:
            return cast("int", place) + 1
        try:
            minted = id_created_at(job_id)
        except JobNotFound:
            minted = None
        later = "-inf" if minted is None else f"({minted.timestamp()}"
        return await self._valkey.zcount(key, later, "+inf")

    async def make_batch(self, batch_id: str, owner: str, job_ids: Sequence[str]) -> list[str]:
        """Remember jobs, in order, as a batch of `owner`; return those it has, which are others if it was there."""
        async with valkey_call():
            kept = str(self._kept_seconds)
            held = await self._valkey.eval(_MAKE_BATCH, 1, _batch_key(batch_id), kept, owner, *job_ids)
        return [decode_text(one) for one in held]

    async def batch(self, owner: str | None, batch_id: str) -> list[str]:
        """Return the ids of a batch's jobs, in order. Raises BatchNotFound, also for another owner's."""
        async with valkey_call():
            parts = cast("list[bytes]", await self._valkey.lrange(_batch_key(batch_id), 0, -1))
        found = [decode_text(part) for part in parts]
        if not found or owner not in {None, found[0]}:
            raise BatchNotFound(f"there is no batch {batch_id!a}: check the id that POST /chat/batch gave you")
        return found[1:]

    async def count(self, job_ids: Sequence[str]) -> dict[JobStatus, int]:
        """Count jobs by status; those no longer kept are not counted."""
        counts = dict.fromkeys(JobStatus, 0)
        async for job in self._looked_up(job_ids):
            counts[job.status] += 1
        return counts

    async def _looked_up(self, job_ids: Sequence[str]) -> AsyncIterator[JobSummary]:
        for start in range(0, len(job_ids), PAGE):
            async with valkey_call():
                page, _ = await self._look(job_ids[start : start + PAGE])
            for job in page:
                yield job

    async def _look(self, job_ids: Iterable[str]) -> tuple[list[JobSummary], list[str]]:
        """Look jobs up. Returns what can be read of them, and the ids of those that are no longer kept."""
        ids = list(job_ids)
        pipeline = self._valkey.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(Job.key_for(job_id), "status", "origin", "created_at")
        found, gone = [], []
        answers = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
        for job_id, values in zip(ids, answers, strict=True):
            if values == [None, None, None]:
                gone.append(job_id)
            status, origin, created_at = values or (None, None, None)
            known: Any = STATUSES.get(decode_text(status)), KINDS.get(decode_text(origin))
            with suppress(ValueError):  # a time that is none
                made = datetime.fromisoformat(decode_text(created_at))
                if None not in known:
                    found.append(JobSummary(job_id, known[1], known[0], made))
        return found, gone


def _owner_key(owner: str) -> str:
    return f"rag:jobs:{quoted(owner)}"


def _batch_key(batch_id: str) -> str:
    return f"rag:batch:{batch_id}"
