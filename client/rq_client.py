"""The queues. All knowledge of how RQ lays out jobs in Valkey, for those who submit and read them.

Jobs are written as RQ 2.12 writes them, so that stock workers run them. Reading takes one round trip, and never
unpickles more than plain data.
"""

from __future__ import annotations

import asyncio
import uuid
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import redis.asyncio as redis
from pydantic import ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.scripts import UNIQUE_ENQUEUE_SCRIPT
from uuid_utils.compat import uuid7

from client.wire import NotPlainData, PlainSerializer
from errors import JobExpired, JobNotFound, QueueUnavailable
from schemas import Failure, JobStatus, JobView, Priority, Progress

Kind = Literal["chat", "document", "webhook"]

QUEUES: Final[Mapping[Kind, str]] = {"chat": "rag_queries", "document": "rag_documents", "webhook": "rag_webhooks"}
FUNCTIONS: Final[Mapping[Kind, str]] = {
    "chat": "queues.worker.process_query",
    "document": "queues.worker.process_pdf",
    "webhook": "queues.worker.deliver_webhook",
}
KINDS: Final[Mapping[str, Kind]] = {queue: kind for kind, queue in QUEUES.items()}

# One try and one retry of 1 s each, under a deadline for all of it: with redis-py's defaults a Valkey that
# swallows packets held an enqueue for 59 s.
SOCKET_TIMEOUT_SECONDS = 1.0
DEADLINE_SECONDS = 2.2
RETRY_AFTER_SECONDS = 5
MAX_CONNECTIONS = 64
MAX_EXCEPTION_CHARS = 4_096
UUID_WITH_TIME = 7

_STATUSES: Final[Mapping[str, JobStatus]] = {
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
FIELDS = ("status", "origin", "created_at", "started_at", "ended_at", "meta", "timeout")


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue: `waiting` jobs, and the names of the `workers` that listen on it."""

    name: str
    waiting: int
    workers: tuple[str, ...]


class JobQueue:
    """The queues of one Valkey server. Connects on first use; safe for many tasks of one event loop."""

    def __init__(self, url: str, *, job_timeout_seconds: int, result_ttl_seconds: int) -> None:
        self._job_timeout_seconds = job_timeout_seconds
        self._result_ttl_seconds = result_ttl_seconds
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_SECONDS,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self._valkey = redis.Redis(connection_pool=pool)

    async def submit(
        self,
        kind: Kind,
        payload: dict[str, Any],
        *,
        priority: Priority = Priority.NORMAL,
        also: Callable[[Any, str], None] | None = None,
    ) -> JobView:
        """Put a job on its queue in one atomic step and return it.

        `payload` is plain data, the only argument of the job's function. `also` gets the pipeline and the job's id,
        and adds what is to be written before the job. Raises QueueUnavailable.
        """
        job = self._job(kind, payload)
        fields = [part for pair in job.to_dict().items() if pair[1] is not None for part in pair]
        side = "L" if priority is Priority.HIGH else "R"
        queue_key = _queue_key(QUEUES[kind])
        async with _deadline():
            pipeline = self._valkey.pipeline(transaction=False)
            pipeline.sadd("rq:queues", queue_key)
            if also is not None:
                also(pipeline, job.id)
            # A reply that got lost makes redis-py send this again. The script then finds the id taken, which is
            # what was wanted: its answer does not matter.
            pipeline.eval(UNIQUE_ENQUEUE_SCRIPT, 2, job.key, queue_key, job.id, side, -1, *fields)
            await pipeline.execute()
        return JobView(job_id=job.id, kind=kind, status=JobStatus.QUEUED, created_at=job.created_at)

    async def fetch(self, job_id: str) -> JobView:
        """Read a job. Raises JobNotFound, JobExpired, QueueUnavailable."""
        minted = _parse_id(job_id)
        async with _deadline():
            pipeline = self._valkey.pipeline(transaction=False)
            pipeline.hmget(Job.key_for(job_id), *FIELDS)
            pipeline.xrevrange(_results_key(job_id), count=1)
            values, results = await pipeline.execute()
            try:
                view = parse_job(job_id, values, results)
            except LookupError:
                raise self._missing(job_id, minted) from None
            if view.status is JobStatus.QUEUED:
                index = cast("int | None", await self._valkey.lpos(_queue_key(QUEUES[view.kind]), job_id))
                view = view.model_copy(update={"position": None if index is None else index + 1})
        return view

    async def states(self) -> list[QueueState]:
        """Look at each queue: how many jobs wait, and who listens. Raises QueueUnavailable."""
        async with _deadline():
            pipeline = self._valkey.pipeline(transaction=False)
            for name in QUEUES.values():
                pipeline.llen(_queue_key(name))
                pipeline.smembers(f"rq:workers:{name}")
            answers = await pipeline.execute()
            states = []
            for name, waiting, keys in zip(QUEUES.values(), answers[::2], answers[1::2], strict=True):
                states.append(QueueState(name=name, waiting=waiting, workers=await self._alive(keys)))
        return states

    async def close(self) -> None:
        """Close the connections."""
        await self._valkey.aclose()
        await self._valkey.connection_pool.disconnect()

    def _job(self, kind: Kind, payload: dict[str, Any]) -> Job:
        job = Job.create(
            FUNCTIONS[kind],
            args=(payload,),
            id=str(uuid7()),
            origin=QUEUES[kind],
            connection=cast("Any", self._valkey),  # kept, never used: the job is only laid out here
            timeout=self._job_timeout_seconds,
            result_ttl=self._result_ttl_seconds,
            failure_ttl=self._result_ttl_seconds,
            status=RqStatus.QUEUED,
            description=FUNCTIONS[kind].rpartition(".")[2],  # else the whole call, question and all, in every log
            serializer=PlainSerializer,
        )
        job.enqueued_at = job.created_at
        return job

    async def _alive(self, worker_keys: set[bytes]) -> tuple[str, ...]:
        if not worker_keys:
            return ()
        keys = sorted(worker_keys)
        pipeline = self._valkey.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, "birth", "death")
        answers = await pipeline.execute()
        return tuple(
            _text(key).removeprefix("rq:worker:")
            for key, (birth, death) in zip(keys, answers, strict=True)
            if birth and not death
        )

    def _missing(self, job_id: str, minted: datetime | None) -> JobNotFound | JobExpired:
        age = (datetime.now(UTC) - minted).total_seconds() if minted else 0.0
        if age > self._result_ttl_seconds:
            return JobExpired(
                f"job {job_id} is no longer kept: results can be read for {self._result_ttl_seconds} s "
                "(RESULT_TTL_SECONDS). Ask again"
            )
        return JobNotFound(f"there is no job {job_id}: check the id that POST /chat gave you")


def _parse_id(job_id: str) -> datetime | None:
    """Return when an id was made, or None when ids of its kind do not tell. Raises JobNotFound for no id of ours."""
    try:
        parsed = uuid.UUID(job_id)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != job_id:
        raise JobNotFound("that is no job id: job ids look like 0190a8c4-1d2e-7c3a-9f00-0123456789ab")
    if parsed.version != UUID_WITH_TIME:
        return None
    try:
        return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)  # RFC 9562, 5.7
    except (ValueError, OverflowError, OSError):
        return None


def parse_job(
    job_id: str, values: Sequence[bytes | None], results: Sequence[tuple[Any, dict[bytes, bytes]]]
) -> JobView:
    """Read a job from its FIELDS and its last result. Raises LookupError when there is none of ours."""
    job = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    if "status" not in job or _text(job.get("origin")) not in KINDS:
        raise LookupError(job_id)
    return _view(job_id, job, results[0][1] if results else {})


def _view(job_id: str, job: dict[str, bytes], result: dict[bytes, bytes]) -> JobView:
    """Read what RQ stored. Whatever cannot be read makes a failed job, not an error."""
    kind = KINDS[_text(job["origin"])]
    try:
        status = _STATUSES[_text(job["status"])]
        meta = PlainSerializer.loads(job["meta"]) if job.get("meta") else {}
        value = _return_value(result) if status is JobStatus.FINISHED else None
        return JobView(
            job_id=job_id,
            kind=kind,
            status=status,
            created_at=_time(job["created_at"]),
            started_at=_time(job.get("started_at")) if status is not JobStatus.QUEUED else None,
            ended_at=_time(job.get("ended_at")) if status.terminal else None,
            progress=Progress.model_validate(meta["progress"])
            if status is JobStatus.STARTED and "progress" in meta
            else None,
            result=value,
            failure=_failure(status, meta, result, _text(job.get("timeout"))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, NotPlainData, ValidationError, zlib.error):
        unreadable = Failure(code="unreadable", detail="what is stored of this job cannot be read; ask again")
        return JobView(
            job_id=job_id, kind=kind, status=JobStatus.FAILED, created_at=datetime.now(UTC), failure=unreadable
        )


def _return_value(result: dict[bytes, bytes]) -> dict[str, object]:
    value = PlainSerializer.loads(b64decode(result[b"return_value"]))
    if not isinstance(value, dict):
        raise NotPlainData("a job returns a dict")
    return value


def _failure(
    status: JobStatus, meta: dict[str, Any], result: dict[bytes, bytes], timeout_seconds: str
) -> Failure | None:
    if status is JobStatus.CANCELLED:
        return Failure(code="cancelled", detail="the job was cancelled")
    if status is not JobStatus.FAILED:
        return None
    said = _exception_text(result)
    if "JobTimeoutException" in said:
        return Failure(
            code="job_timed_out", detail=f"the job ran longer than {timeout_seconds} s (JOB_TIMEOUT_SECONDS)"
        )
    if "failure" in meta:
        return Failure.model_validate(meta["failure"])
    if "AbandonedJobError" in said or "terminated unexpectedly" in said or "intermediate queue" in said:
        return Failure(code="worker_died", detail="the worker died while it ran this job; ask again")
    return Failure(code="internal", detail="the job failed inside; the worker's log says why")


def _exception_text(result: dict[bytes, bytes]) -> str:
    """Return the end of the stored traceback, for telling kinds of failure apart. It is never shown."""
    packed = result.get(b"exc_string")
    if not packed:
        return ""
    text = zlib.decompressobj().decompress(b64decode(packed), 1024 * 1024).decode(errors="replace")
    return text[-MAX_EXCEPTION_CHARS:]


def _time(value: bytes | None) -> Any:
    """Return RQ's time stamp as pydantic reads it; pydantic refuses what is no time."""
    return _text(value) or None


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _queue_key(name: str) -> str:
    return f"rq:queue:{name}"


def _results_key(job_id: str) -> str:
    return f"rq:results:{job_id}"


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Bound a talk with Valkey in time, and turn its errors into QueueUnavailable."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except AuthenticationError:
        raise _unavailable("Valkey rejected the password: check VALKEY_URL") from None
    except OutOfMemoryError:
        raise _unavailable("Valkey has no memory left for another job; try again later") from None
    except (RedisError, OSError, TimeoutError):
        raise _unavailable("the queue cannot be reached; try again in a moment") from None


def _unavailable(detail: str) -> QueueUnavailable:
    return QueueUnavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
