"""Dead letters: failed jobs in RQ's registries, until they are retried, dropped or expire.

RQ keeps jobs that were cancelled while they ran in the same registries. Such jobs are not dead letters: they stay
cancelled. A retried job sends no second webhook: the id of a delivery is made of job and receiver, so the second
delivery of a job is not created.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import redis.asyncio as redis

from client.rq.records import KINDS, LOCAL_USER, OWNER_FIELD, QUEUES, Kind, decode_text, read_payload, rq_timestamp
from client.rq.scripts import load_script
from client.rq.serializer import NotPlainData, PlainSerializer
from client.valkey import keys
from client.valkey.connection import none_for_wrong_type

# Failures that another attempt repeats: the uploaded file cannot be read, or the upload was deleted.
_PERMANENT = frozenset({"document_error", "unsupported_file", "upload_gone"})
PAGE = 100
# `newest` looks at this many failed jobs of a queue: many of them may have been cancelled while they ran.
MAX_READ = 2_000
_FIELDS = ("ended_at", "meta", "status", OWNER_FIELD, "data")
_RETRY = load_script("retry_dead_letter")
_DROP = load_script("drop_dead_letter")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job.

    `ended_at` is RQ's timestamp, empty when unknown. `code` and `detail` say why the job failed. `payload` is the
    argument of the job's function, empty if it cannot be read.
    """

    job_id: str
    queue: str
    ended_at: str
    code: str
    detail: str
    owner: str
    payload: dict[str, object]

    @property
    def retryable(self) -> bool:
        """False when another attempt would fail in the same way."""
        return self.code not in _PERMANENT

    @property
    def kind(self) -> Kind:
        """The kind of the job, which its queue says."""
        return KINDS[self.queue]


class DeadLetters:
    """The dead letters of all queues. Raises RedisError."""

    def __init__(self, valkey: redis.Redis) -> None:
        self._valkey = valkey

    async def list(self) -> list[DeadLetter]:
        """Return the dead letters of each queue, the oldest first."""
        letters = []
        for queue in QUEUES.values():
            stored = cast("list[bytes]", await self._valkey.zrange(keys.registry("failed", queue), 0, -1))
            letters += [letter async for letter in self._read(queue, stored)]
        return letters

    async def newest(self, limit: int) -> builtins.list[DeadLetter]:
        """Return up to `limit` dead letters of all queues, the newest first."""
        found: list[DeadLetter] = []
        for queue in QUEUES.values():
            stored = cast("list[bytes]", await self._valkey.zrevrange(keys.registry("failed", queue), 0, MAX_READ - 1))
            wanted = len(found) + limit
            async for letter in self._read(queue, stored):
                found.append(letter)
                if len(found) == wanted:
                    break
        return sorted(found, key=lambda letter: letter.ended_at, reverse=True)[:limit]

    async def retry(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Put jobs back on their queues, each in one step. Returns the ids that are not dead letters."""
        return [job_id for job_id in job_ids if not await self._retry(job_id, rq_timestamp())]

    async def drop(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Delete jobs with their results. Returns the ids that are not dead letters."""
        return [job_id for job_id in job_ids if not await self._drop(job_id)]

    async def _retry(self, job_id: str, now: str) -> bool:
        for queue in QUEUES.values():
            retried = [keys.job(job_id), keys.registry("failed", queue), keys.queue(queue)]
            if await _RETRY.call_async(self._valkey, retried, [job_id, now]):
                return True
        return False

    async def _drop(self, job_id: str) -> bool:
        others = [keys.results(job_id), keys.executions(job_id), keys.events(job_id)]
        for queue in QUEUES.values():
            dropped = [keys.job(job_id), keys.registry("failed", queue), *others]
            if await _DROP.call_async(self._valkey, dropped, [job_id]):
                return True
        return False

    async def _read(self, queue: str, stored: Sequence[bytes]) -> AsyncIterator[DeadLetter]:
        ids = [decode_text(job_id) for job_id in stored]
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            pipeline = self._valkey.pipeline(transaction=False)
            for job_id in page:
                pipeline.hmget(keys.job(job_id), *_FIELDS)
            replies = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
            for job_id, values in zip(page, replies, strict=True):
                letter = _letter(queue, job_id, values or [None] * len(_FIELDS))
                if letter is not None:
                    yield letter


def _letter(queue: str, job_id: str, values: Sequence[bytes | None]) -> DeadLetter | None:
    """Return a dead letter; None when the job did not fail. A job without a record is reported as `unknown`."""
    ended, meta, status, owner, data = values
    if status not in {None, b"failed"}:
        return None
    failure = _failure(meta) if any(values) else {"code": "unknown", "detail": "its record is missing"}
    return DeadLetter(
        job_id=job_id,
        queue=queue,
        ended_at=decode_text(ended),
        code=str(failure.get("code", "internal")),
        detail=str(failure.get("detail", "the job failed with an internal error")),
        owner=decode_text(owner) or LOCAL_USER,
        payload=read_payload(data),
    )


def _failure(meta: bytes | None) -> dict[str, object]:
    """Return the failure in a job's notes; {} when the notes hold no failure or cannot be read."""
    try:
        notes = PlainSerializer.loads(meta) if meta else {}
    except NotPlainData:
        return {}
    failure = notes.get("failure") if isinstance(notes, dict) else None
    return failure if isinstance(failure, dict) else {}
