"""What RQ stores of a job, read with suspicion: whoever can write to Valkey may have written it."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import ValidationError
from rq.job import JobStatus as RqStatus

from client.rq.serializer import NotPlainData, PlainSerializer
from schemas import Answer, Failure, Indexed, JobStatus, JobView, Progress, Removed

Kind = Literal["chat", "document", "webhook"]

QUEUES: Final[Mapping[Kind, str]] = {"chat": "rag_queries", "document": "rag_documents", "webhook": "rag_webhooks"}
PROCESS: Final = "queues.worker.process_pdf"
REMOVE: Final = "queues.worker.remove_upload"
# What a job of each kind calls, unless told otherwise.
FUNCTIONS: Final[Mapping[Kind, str]] = {
    "chat": "queues.worker.process_query",
    "document": PROCESS,
    "webhook": "queues.worker.deliver_webhook",
}
# All that our own workers will call.
ALLOWED: Final = frozenset({*FUNCTIONS.values(), REMOVE})
KINDS: Final[Mapping[str, Kind]] = {queue: kind for kind, queue in QUEUES.items()}
MAX_EXCEPTION_CHARS = 4_096

STATUSES: Final[Mapping[str, JobStatus]] = {
    RqStatus.CREATED: JobStatus.QUEUED,
    RqStatus.QUEUED: JobStatus.QUEUED,
    RqStatus.DEFERRED: JobStatus.QUEUED,
    RqStatus.SCHEDULED: JobStatus.QUEUED,
    RqStatus.STARTED: JobStatus.STARTED,
    RqStatus.FINISHED: JobStatus.FINISHED,
    RqStatus.FAILED: JobStatus.FAILED,
    RqStatus.STOPPED: JobStatus.CANCELLED,
    RqStatus.CANCELED: JobStatus.CANCELLED,
}
# Not RQ's own, which leaves it alone: whose job it is. A job put there by other means has none, and is LOCAL_USER's.
OWNER_FIELD = "owner"
LOCAL_USER = "local"
FIELDS = (
    *("status", "origin", "created_at", "enqueued_at", "started_at", "ended_at", "cancel", "meta", "timeout"),
    OWNER_FIELD,
)


def read_job(job_id: str, job: dict[str, bytes], result: dict[bytes, bytes]) -> JobView:
    """Read what RQ stored. Whatever cannot be read makes a failed job, not an error."""
    kind = KINDS[decode_text(job["origin"])]
    owner = decode_text(job.get(OWNER_FIELD)) or LOCAL_USER
    try:
        status = JobStatus.CANCELLED if _was_withdrawn(job) else STATUSES[decode_text(job["status"])]
        meta = PlainSerializer.loads(job["meta"]) if job.get("meta") else {}
        value = _return_value(result, kind) if status is JobStatus.FINISHED else None
        return JobView(
            job_id=job_id,
            kind=kind,
            owner=owner,
            status=status,
            created_at=_time(job["created_at"]),
            started_at=_time(job.get("started_at")) if status is not JobStatus.QUEUED else None,
            ended_at=_time(job.get("ended_at")) if status.terminal else None,
            progress=Progress.model_validate(meta["progress"])
            if status is JobStatus.STARTED and "progress" in meta
            else None,
            result=value,
            failure=_failure(status, meta, result, decode_text(job.get("timeout"))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, NotPlainData, ValidationError, zlib.error):
        unreadable = Failure(code="unreadable", detail="what is stored of this job cannot be read; ask again")
        return JobView(
            job_id=job_id,
            kind=kind,
            owner=owner,
            status=JobStatus.FAILED,
            created_at=datetime.now(UTC),
            failure=unreadable,
        )


def _was_withdrawn(job: dict[str, bytes]) -> bool:
    """Whether a job that is said to run was cancelled while it waited: its worker is about to find that out."""
    cancelled = job.get("cancel", b"")
    ended_then = bool(cancelled) and cancelled == job.get("ended_at") and cancelled >= job.get("enqueued_at", b"")
    return ended_then and decode_text(job["status"]) == RqStatus.STARTED


def _return_value(result: dict[bytes, bytes], kind: Kind) -> dict[str, object]:
    value = PlainSerializer.loads(b64decode(result[b"return_value"]))
    if not isinstance(value, dict):
        raise NotPlainData("a job returns a dict")
    if kind == "chat":
        Answer.model_validate(value)
    elif kind == "document":
        (Indexed if "chunks" in value else Removed).model_validate(value)
    return value


def _failure(
    status: JobStatus, meta: dict[str, Any], result: dict[bytes, bytes], timeout_seconds: str
) -> Failure | None:
    if status is JobStatus.CANCELLED:
        return Failure(code="cancelled", detail="the job was cancelled")
    if status is not JobStatus.FAILED:
        return None
    said = _exceptionas_text(result)
    if "JobTimeoutException" in said:
        return Failure(
            code="job_timed_out", detail=f"the job ran longer than {timeout_seconds} s (JOB_TIMEOUT_SECONDS)"
        )
    if "failure" in meta:
        return Failure.model_validate(meta["failure"])
    if "AbandonedJobError" in said or "terminated unexpectedly" in said or "intermediate queue" in said:
        return Failure(code="worker_died", detail="the worker died while it ran this job; ask again")
    return Failure(code="internal", detail="the job failed inside; the worker's log says why")


def _exceptionas_text(result: dict[bytes, bytes]) -> str:
    """Return the end of the stored traceback, for telling kinds of failure apart. It is never shown."""
    packed = result.get(b"exc_string")
    if not packed:
        return ""
    text = zlib.decompressobj().decompress(b64decode(packed), 1024 * 1024).decode(errors="replace")
    return text[-MAX_EXCEPTION_CHARS:]


def _time(value: bytes | None) -> Any:
    """Return RQ's time stamp as pydantic reads it; pydantic refuses what is no time."""
    return decode_text(value) or None


def decode_text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""
