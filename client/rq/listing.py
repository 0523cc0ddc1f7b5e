"""The jobs of an owner: the recent ones, and the batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import redis.asyncio as redis

from client.rq.ids import id_created_at
from client.rq.records import KINDS, STATUSES, Kind, decode_text, read_payload
from client.rq.scripts import load_script
from client.valkey import keys
from client.valkey.connection import none_for_wrong_type, valkey_call
from errors import BatchNotFound, JobNotFound
from schemas import JobStatus

# A list is kept this long after the results of the last job that was added to it.
EXTRA_SECONDS = 7 * 86_400
PAGE = 200
# One call reads at most this many ids: 0.1 s of an idle server.
MAX_READ = 5_000
_MAKE_BATCH = load_script("make_batch")


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in a list."""

    job_id: str
    kind: Kind
    status: JobStatus
    created_at: datetime


class JobIndex:
    """Lists of job ids, newest first, which the script `submit` writes. Reading skips expired jobs.

    `ttl_seconds`: how long results are kept.
    """

    def __init__(self, valkey: redis.Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._ttl_seconds = ttl_seconds + EXTRA_SECONDS

    async def recent(
        self, owner: str | None, *, limit: int, before: str | None, status: JobStatus | None, kind: Kind | None
    ) -> tuple[list[JobSummary], str | None]:
        """Return up to `limit` jobs of an owner that are older than the job `before`, newest first.

        `owner` None: of all owners. The second value is `before` for the next call; None at the end. One call reads
        MAX_READ ids: if few of them match, fewer than `limit` jobs are returned, or none, though more may follow.
        """
        key = keys.ALL_JOBS if owner is None else keys.owner_jobs(owner)
        matching: list[JobSummary] = []
        expired_last: list[str] = []
        async with valkey_call():
            start = await self._place_after(key, before)
            for _ in range(MAX_READ // PAGE):
                page = cast("list[bytes]", await self._valkey.zrevrange(key, start, start + PAGE - 1))
                ids = [decode_text(job_id) for job_id in page]
                jobs, expired = await self._read(ids)
                matching += [job for job in jobs if status in {None, job.status} and kind in {None, job.kind}]
                if len(matching) > limit:
                    return matching[:limit], matching[limit - 1].job_id
                if len(ids) < PAGE:
                    return matching, None
                # The last id of the page stays for now: the next call may start from it.
                removable = expired_last + [job_id for job_id in expired if job_id != ids[-1]]
                expired_last = [job_id for job_id in expired if job_id == ids[-1]]
                if removable:
                    await self._valkey.zrem(key, *removable)
                start += len(ids) - len(removable)
        return matching, ids[-1]

    async def payloads(self, jobs: Iterable[JobSummary]) -> list[dict[str, object]]:
        """Return the payload of each job, in one round trip; empty where it cannot be read."""
        async with valkey_call():
            pipeline = self._valkey.pipeline(transaction=False)
            for job in jobs:
                pipeline.hget(keys.job(job.job_id), "data")
            return [read_payload(data) for data in none_for_wrong_type(await pipeline.execute(raise_on_error=False))]

    async def _place_after(self, key: str, job_id: str | None) -> int:
        """Return the place after a job; for an id that has left the list, the place after the time in the id."""
        if job_id is None:
            return 0
        place = await self._valkey.zrevrank(key, job_id)
        if place is not None:
            return cast("int", place) + 1
        try:
            created_at = id_created_at(job_id)
        except JobNotFound:
            created_at = None
        newer_than = "-inf" if created_at is None else f"({created_at.timestamp()}"
        return await self._valkey.zcount(key, newer_than, "+inf")

    async def make_batch(self, batch_id: str, owner: str, job_ids: Sequence[str]) -> list[str]:
        """Store jobs, in order, as a batch of `owner`, unless the batch exists. Returns the ids of the stored batch."""
        async with valkey_call():
            arguments = [str(self._ttl_seconds), owner, *job_ids]
            stored = await _MAKE_BATCH.call_async(self._valkey, [keys.batch(batch_id)], arguments)
        return [decode_text(job_id) for job_id in stored]

    async def batch(self, owner: str | None, batch_id: str) -> list[str]:
        """Return the ids of a batch's jobs, in order. Raises BatchNotFound, also for another owner's batch."""
        async with valkey_call():
            parts = cast("list[bytes]", await self._valkey.lrange(keys.batch(batch_id), 0, -1))
        stored = [decode_text(part) for part in parts]
        if not stored or owner not in {None, stored[0]}:
            raise BatchNotFound(f"there is no batch {batch_id!a}: check the id that POST /chat/batch gave you")
        return stored[1:]

    async def count(self, job_ids: Sequence[str]) -> dict[JobStatus, int]:
        """Count jobs by status; expired jobs are not counted."""
        counts = dict.fromkeys(JobStatus, 0)
        async for job in self._read_all(job_ids):
            counts[job.status] += 1
        return counts

    async def _read_all(self, job_ids: Sequence[str]) -> AsyncIterator[JobSummary]:
        for start in range(0, len(job_ids), PAGE):
            async with valkey_call():
                page, _ = await self._read(job_ids[start : start + PAGE])
            for job in page:
                yield job

    async def _read(self, job_ids: Iterable[str]) -> tuple[list[JobSummary], list[str]]:
        """Return the jobs whose records can be read, and the ids of the expired ones."""
        ids = list(job_ids)
        pipeline = self._valkey.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(keys.job(job_id), "status", "origin", "created_at")
        jobs, expired = [], []
        replies = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
        for job_id, values in zip(ids, replies, strict=True):
            if values == [None, None, None]:
                expired.append(job_id)
            stored_status, origin, created_at = values or (None, None, None)
            status, kind = STATUSES.get(decode_text(stored_status)), KINDS.get(decode_text(origin))
            if status is None or kind is None:
                continue
            with suppress(ValueError):  # a text that is not a time
                jobs.append(JobSummary(job_id, kind, status, datetime.fromisoformat(decode_text(created_at))))
        return jobs, expired
