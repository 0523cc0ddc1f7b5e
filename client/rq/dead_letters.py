"""Dead letters: failed jobs in RQ's registries, until they are retried, dropped or expire.

RQ keeps jobs that were cancelled while they ran in the same registries. Such jobs are not dead letters: they stay
cancelled. A retried job sends no second webhook: the id of a delivery is made of job and receiver, so the second
delivery of a job is not created.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from redis import Redis

from client.rq.records import QUEUES, rq_timestamp
from client.rq.scripts import load_script
from client.rq.serializer import NotPlainData, PlainSerializer
from client.valkey import keys

# Failures that another attempt repeats: the uploaded file cannot be read, or the upload was deleted.
_PERMANENT = frozenset({"document_error", "unsupported_file", "upload_gone"})
_RETRY = load_script("retry_dead_letter")
_DROP = load_script("drop_dead_letter")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed job.

    `ended_at` is RQ's timestamp, empty when unknown. `code` and `detail` say why the job failed.
    """

    job_id: str
    queue: str
    ended_at: str
    code: str
    detail: str

    @property
    def retryable(self) -> bool:
        """False when another attempt would fail in the same way."""
        return self.code not in _PERMANENT


class DeadLetters:
    """The dead letters of all queues. Raises RedisError."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    def list(self) -> list[DeadLetter]:
        """Return the dead letters of each queue, the oldest first."""
        letters = (
            self._read(queue, job_id.decode(errors="replace"))
            for queue in QUEUES.values()
            for job_id in cast("list[bytes]", self._valkey.zrange(keys.registry("failed", queue), 0, -1))
        )
        return [letter for letter in letters if letter is not None]

    def retry(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Put jobs back on their queues, each in one step. Returns the ids that are not dead letters."""
        return [job_id for job_id in job_ids if not self._retry(job_id, rq_timestamp())]

    def drop(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Delete jobs with their results. Returns the ids that are not dead letters."""
        return [job_id for job_id in job_ids if not self._drop(job_id)]

    def _retry(self, job_id: str, now: str) -> bool:
        return any(
            _RETRY.call(
                self._valkey, [keys.job(job_id), keys.registry("failed", queue), keys.queue(queue)], [job_id, now]
            )
            for queue in QUEUES.values()
        )

    def _drop(self, job_id: str) -> bool:
        others = [keys.results(job_id), keys.executions(job_id), keys.events(job_id)]
        return any(
            _DROP.call(self._valkey, [keys.job(job_id), keys.registry("failed", queue), *others], [job_id])
            for queue in QUEUES.values()
        )

    def _read(self, queue: str, job_id: str) -> DeadLetter | None:
        """Read a dead letter; None when the job did not fail. A job without a record is reported as `unknown`."""
        code, detail = "unknown", "its record is missing"
        ended_at = ""
        if self._valkey.type(keys.job(job_id)) == b"hash":
            fields = self._valkey.hmget(keys.job(job_id), ["ended_at", "meta", "status"])
            ended, meta, status = cast("list[bytes | None]", fields)
            if status not in {None, b"failed"}:
                return None
            ended_at = (ended or b"").decode(errors="replace")
            failure = _failure(meta)
            code = str(failure.get("code", "internal"))
            detail = str(failure.get("detail", "the job failed with an internal error"))
        return DeadLetter(job_id, queue, ended_at, code, detail)


def _failure(meta: bytes | None) -> dict[str, object]:
    """Return the failure in a job's notes; {} when the notes hold no failure or cannot be read."""
    try:
        notes = PlainSerializer.loads(meta) if meta else {}
    except NotPlainData:
        return {}
    failure = notes.get("failure") if isinstance(notes, dict) else None
    return failure if isinstance(failure, dict) else {}
