"""Job records as RQ stores them, read with suspicion: anybody who can write to Valkey may have written them."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import ValidationError
from rq.job import JobStatus as RqStatus
from rq.utils import now, utcformat, utcparse

from client.rq.build_task import BuildStep
from client.rq.serializer import MAX_BYTES, NotPlainData, PlainSerializer
from client.valkey import keys
from errors import JobTimedOut
from schemas import WAITING_FOR_STORE, Answer, Failure, Indexed, JobStatus, JobView, Progress, Removed

Kind = Literal["chat", "document", "webhook"]

QUEUES: Final[Mapping[Kind, str]] = {"chat": "rag_queries", "document": "rag_documents", "webhook": "rag_webhooks"}
PROCESS_PDF: Final = "queues.worker.process_pdf"
REMOVE_UPLOAD: Final = "queues.worker.remove_upload"
BUILD_INDEX: Final = "queues.worker.build_index"
# The function of a job of each kind, unless its submitter names another.
FUNCTIONS: Final[Mapping[Kind, str]] = {
    "chat": "queues.worker.process_query",
    "document": PROCESS_PDF,
    "webhook": "queues.worker.deliver_webhook",
}
# RagWorker calls no other functions.
ALLOWED_FUNCTIONS: Final = frozenset({*FUNCTIONS.values(), REMOVE_UPLOAD, BUILD_INDEX})
KINDS: Final[Mapping[str, Kind]] = {queue: kind for kind, queue in QUEUES.items()}
MAX_EXCEPTION_CHARS = 4_096
# The payload of a question with 100 names takes 100 kB.
MAX_PAYLOAD_BYTES = 1024 * 1024
# To load the meta takes 5 of the 13 µs of reading a running job. Larger meta than that of our jobs is not remembered.
_SMALL_META_BYTES = 1_024
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
# RQ stores a call as function name, instance, arguments and keyword arguments.
_CALL_PARTS = 4

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
# This program's field in RQ's record. A job that another program enqueued lacks the field and belongs to LOCAL_USER.
OWNER_FIELD = "owner"
LOCAL_USER = "local"
# The failure of a job that raised an error which is not ours.
INTERNAL_FAILURE = Failure(code="internal", detail="the job failed with an internal error; the worker's log says why")
FIELDS = (
    *("status", "origin", "created_at", "enqueued_at", "started_at", "ended_at", "cancel", "meta", "timeout"),
    OWNER_FIELD,
)


def read_replies(
    job_id: str, values: Sequence[bytes | None], results: Sequence[tuple[bytes, dict[bytes, bytes]]]
) -> JobView | None:
    """Return a job from its FIELDS and the latest entry of its results; None if there is no such job."""
    record = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    if "status" not in record or decode_text(record.get("origin")) not in KINDS:
        return None
    return _read_record(job_id, record, results[0][1] if results else {})


def add_reads(pipeline: Any, job_id: str) -> None:
    """Add to a pipeline, sync or async, the two reads whose replies `read_replies` takes."""
    pipeline.hmget(keys.job(job_id), *FIELDS)
    pipeline.xrevrange(keys.results(job_id), count=1)


def read_call(data: bytes | None, *, max_bytes: int = MAX_BYTES) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return a job's function, arguments and keyword arguments, from the field `data` of its record.

    `max_bytes` limits the decompressed field. Raises NotPlainData, with a clause that says what is wrong.
    """
    if not data:
        raise NotPlainData("it has no data")
    text = _decompress(data, max_bytes)
    try:
        call = PlainSerializer.loads(text)
    except NotPlainData as error:
        raise NotPlainData(f"its data cannot be read: {error}") from None
    if not isinstance(call, tuple | list) or len(call) != _CALL_PARTS:
        raise NotPlainData("its data is not a call")
    name, instance, arguments, keywords = call
    if not isinstance(name, str) or instance is not None:
        raise NotPlainData("its data does not name a function")
    if not isinstance(arguments, tuple | list) or not isinstance(keywords, dict):
        raise NotPlainData("its arguments cannot be read")
    return name, tuple(arguments), keywords


def read_payload(data: bytes | None) -> dict[str, object]:
    """Return the only argument of a job's function, from the field `data` of its record; empty if unreadable."""
    try:
        _name, (payload,), _keywords = read_call(data, max_bytes=MAX_PAYLOAD_BYTES)
    except ValueError:  # also NotPlainData, and more or fewer than one argument
        return {}
    return payload if isinstance(payload, dict) else {}


def _decompress(data: bytes, max_bytes: int) -> bytes:
    """Undo RQ's compression. Old records are not compressed."""
    if len(data) > max_bytes:
        raise NotPlainData(f"its data is larger than {max_bytes} bytes")
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, max_bytes)
    except zlib.error:
        return data
    if inflate.unconsumed_tail:
        raise NotPlainData(f"its data is larger than {max_bytes} bytes")
    return text


def _read_record(job_id: str, job: dict[str, bytes], result: dict[bytes, bytes]) -> JobView:
    """Return a job from its record and its latest result.

    A record that cannot be read makes a failed job, not an error.
    """
    kind = KINDS[decode_text(job["origin"])]
    owner = decode_text(job.get(OWNER_FIELD)) or LOCAL_USER
    try:
        status = JobStatus.CANCELLED if _cancelled_while_waiting(job) else STATUSES[decode_text(job["status"])]
        meta = _load_meta(job["meta"]) if job.get("meta") else {}
        value = _return_value(result, kind) if status is JobStatus.FINISHED else None
        return JobView(
            job_id=job_id,
            kind=kind,
            owner=owner,
            status=status,
            created_at=_time(job["created_at"]),
            started_at=_time(job.get("started_at")) if status is not JobStatus.QUEUED else None,
            ended_at=_time(job.get("ended_at")) if status.terminal else None,
            progress=_progress(status, meta),
            result=value,
            failure=_failure(status, meta, result, decode_text(job.get("timeout"))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, NotPlainData, ValidationError, zlib.error):
        unreadable = Failure(code="unreadable", detail="the stored job cannot be read; ask again")
        return JobView(
            job_id=job_id,
            kind=kind,
            owner=owner,
            status=JobStatus.FAILED,
            created_at=datetime.now(UTC),
            failure=unreadable,
        )


def _load_meta(data: bytes) -> Any:
    return _load_small_meta(data) if len(data) <= _SMALL_META_BYTES else PlainSerializer.loads(data)


@lru_cache(maxsize=1_024)
def _load_small_meta(data: bytes) -> Any:
    """Load the meta of a job, which stays the same for many reads of a running job. The result must not be changed."""
    return PlainSerializer.loads(data)


def _progress(status: JobStatus, meta: Mapping[str, Any]) -> Progress | None:
    """Return the progress of a started job; of a queued job, only that it waits for the vector store."""
    if "progress" not in meta or status not in {JobStatus.STARTED, JobStatus.QUEUED}:
        return None
    progress = Progress.model_validate(meta["progress"])
    return progress if status is JobStatus.STARTED or progress.stage == WAITING_FOR_STORE else None


def _cancelled_while_waiting(job: dict[str, bytes]) -> bool:
    """Return True if a started job was cancelled while it waited: its worker is about to find that out."""
    cancelled = job.get("cancel", b"")
    while_waiting = bool(cancelled) and cancelled == job.get("ended_at") and cancelled >= job.get("enqueued_at", b"")
    return while_waiting and decode_text(job["status"]) == RqStatus.STARTED


def _return_value(result: dict[bytes, bytes], kind: Kind) -> dict[str, object]:
    value = PlainSerializer.loads(b64decode(result[b"return_value"]))
    if not isinstance(value, dict):
        raise NotPlainData("a job returns a dict")
    if kind == "chat":
        Answer.model_validate(value)
    elif kind == "document":
        (Indexed if "chunks" in value else BuildStep if "built" in value else Removed).model_validate(value)
    return value


def _failure(
    status: JobStatus, meta: Mapping[str, Any], result: dict[bytes, bytes], timeout_seconds: str
) -> Failure | None:
    if status is JobStatus.CANCELLED:
        return Failure(code="cancelled", detail="the job was cancelled")
    if status is not JobStatus.FAILED:
        return None
    traceback = _traceback_end(result)
    if "JobTimeoutException" in traceback:
        return Failure(code="job_timed_out", detail=JobTimedOut.after(timeout_seconds).detail)
    if "failure" in meta:
        return Failure.model_validate(meta["failure"])
    if "AbandonedJobError" in traceback or "terminated unexpectedly" in traceback or "intermediate queue" in traceback:
        return Failure(code="worker_died", detail="the worker died while it ran this job; ask again")
    return INTERNAL_FAILURE


def _traceback_end(result: dict[bytes, bytes]) -> str:
    """Return the end of the stored traceback, to distinguish kinds of failure. Clients never see the text."""
    packed = result.get(b"exc_string")
    if not packed:
        return ""
    text = zlib.decompressobj().decompress(b64decode(packed), 1024 * 1024).decode(errors="replace")
    return text[-MAX_EXCEPTION_CHARS:]


def _time(value: bytes | None) -> Any:
    """Return RQ's timestamp for pydantic, which refuses a text that is not a time."""
    return decode_text(value) or None


def decode_text(value: bytes | None) -> str:
    """Return stored text; "" for None. Bytes that are not UTF-8 are replaced."""
    return value.decode(errors="replace") if value else ""


def rq_timestamp(moment: datetime | None = None) -> str:
    """Return a time, or the time now, as RQ writes it. Such texts compare as their times do."""
    return str(utcformat(moment or now()))


def read_timestamp(text: str) -> datetime:
    """Read a time that RQ wrote. Raises ValueError."""
    if _TIMESTAMP.fullmatch(text):
        return datetime.fromisoformat(text)  # 1 µs; RQ takes 12
    return utcparse(text)
