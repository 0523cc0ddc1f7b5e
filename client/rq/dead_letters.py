"""Dead letters: jobs that failed, in RQ's registries of failed jobs, until they are retried, dropped or expire.

RQ keeps jobs that were cancelled while they ran in the same registries. Those are no dead letters: they stay cancelled.
A job that is retried sends no second webhook: a delivery has the id of its job and receiver, and is made once.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from redis import Redis
from rq.utils import now, utcformat

from client.rq.event_stream import events_key
from client.rq.records import QUEUES
from client.rq.serializer import NotPlainData, PlainSerializer

# Failures that lie in the uploaded file, or in an upload that this job no longer has: another attempt fails again.
_PERMANENT = frozenset({"document_error", "unsupported_file", "upload_gone"})

# Back to the end of its list, as if it had never run. KEYS: record, registry, list. ARGV: id, now.
_RETRY = """
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' or redis.call('HGET', KEYS[1], 'status') ~= 'failed' then return 0 end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'enqueued_at', ARGV[2])
redis.call('HDEL', KEYS[1], 'started_at', 'ended_at', 'worker_name', 'deaths', 'cancel', 'exc_info')
redis.call('PERSIST', KEYS[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
return 1
"""

# Gone for good, also when nothing but its place in the registry is left. KEYS: record, registry, results, executions,
# events. ARGV: id.
_DROP = """
local status = redis.pcall('HGET', KEYS[1], 'status')
if type(status) == 'string' and status ~= 'failed' then return 0 end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5])
return 1
"""


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
        """False when another attempt fails in the same way, since the cause is the uploaded file."""
        return self.code not in _PERMANENT


class DeadLetters:
    """The dead letters of all queues. Raises RedisError."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    def list(self) -> list[DeadLetter]:
        """Return them, the oldest first within each queue."""
        letters = (
            self._letter(queue, job_id.decode(errors="replace"))
            for queue in QUEUES.values()
            for job_id in cast("list[bytes]", self._valkey.zrange(f"rq:failed:{queue}", 0, -1))
        )
        return [letter for letter in letters if letter is not None]

    def retry(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Put jobs back on their lists, each in one step. Returns the ids that were no dead letters."""
        moment = str(utcformat(now()))
        return [job_id for job_id in job_ids if not self._each_queue(_RETRY, job_id, moment)]

    def drop(self, job_ids: Iterable[str]) -> builtins.list[str]:
        """Delete jobs with their results. Returns the ids that were no dead letters."""
        return [job_id for job_id in job_ids if not self._each_queue(_DROP, job_id)]

    def _each_queue(self, script: str, job_id: str, *arguments: str) -> bool:
        for queue in QUEUES.values():
            beside = [f"rq:results:{job_id}", f"rq:executions:{job_id}", events_key(job_id)]
            keys = [f"rq:job:{job_id}", f"rq:failed:{queue}", *(beside if script is _DROP else [f"rq:queue:{queue}"])]
            if self._valkey.eval(script, len(keys), *keys, job_id, *arguments):
                return True
        return False

    def _letter(self, queue: str, job_id: str) -> DeadLetter | None:
        """Read a dead letter; None when the job did not fail."""
        code, detail = "unknown", "its record says nothing"
        ended_at = ""
        if self._valkey.type(f"rq:job:{job_id}") == b"hash":
            fields = self._valkey.hmget(f"rq:job:{job_id}", ["ended_at", "meta", "status"])
            ended, meta, status = cast("list[bytes | None]", fields)
            if status not in {None, b"failed"}:
                return None
            ended_at = (ended or b"").decode(errors="replace")
            failure = _failure(meta)
            code, detail = str(failure.get("code", "internal")), str(failure.get("detail", "the job failed inside"))
        return DeadLetter(job_id, queue, ended_at, code, detail)


def _failure(meta: bytes | None) -> dict[str, object]:
    try:
        notes = PlainSerializer.loads(meta) if meta else {}
    except NotPlainData:
        return {}
    failure = notes.get("failure") if isinstance(notes, dict) else None
    return failure if isinstance(failure, dict) else {}
