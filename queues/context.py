"""The job that a job function runs for, with one interface under every kind of worker.

| class          | module                     | the job runs                                               |
|----------------|----------------------------|------------------------------------------------------------|
| `RagWorkerJob` | queues.ragworker.execution | under RagWorker                                            |
| `StockJob`     | queues.stock               | under a worker of RQ: `rq worker`, SimpleWorker, a pool    |
| `InlineJob`    | queues.stock               | inside the enqueuing process: RQ's `Queue(is_async=False)` |
| `NoJob`        | here                       | nowhere: somebody calls a job function directly            |
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from redis import Redis

from client.llm.deadline import Deadline, job_deadline
from client.rq.origin import ATTEMPT_TRACEPARENT, JobOrigin, origin_of
from client.rq.records import INTERNAL_FAILURE
from errors import AppError, StoreUnavailable
from observability.spans import Span
from schemas import WAITING_FOR_STORE, Failure, Progress

PROGRESS_SECONDS = 0.25

# What becomes of a job that the vector store does not answer: the job fails; it waits inside, as under RQ's workers,
# which cannot pause a queue; or its worker hands it back, and takes no jobs until the store answers.
OnStoreOutage = Literal["fail", "wait", "hand back"]


@dataclass(kw_only=True, eq=False)
class JobContext(ABC):
    """What a job function can read of its job, and publish about it.

    Attributes:
        job_id: empty outside any job.
        queue: the name of the queue, empty outside any job.
        valkey: the connection to the queues; None outside any job.
        notes: the job's progress and failure, as plain data; RQ stores them as `meta`.
        enqueued_at: None when the record has no valid time.
        timeout_seconds: None for no limit.
        trace_id: the trace in which the job runs; None without traces.
        result_ttl_seconds: how long the events are kept after the end of the job; the result is kept as long.

    """

    job_id: str
    queue: str
    valkey: Redis | None
    notes: dict[str, Any] = field(default_factory=dict)
    enqueued_at: datetime | None = None
    timeout_seconds: float | None = None
    result_ttl_seconds: int = 0
    trace_id: str | None = field(default=None, init=False)
    _stage: str = field(default="", init=False)
    _reported_at: float = field(default=0.0, init=False)

    # -- for job functions

    @contextmanager
    def reporting(self, *, max_calls: int | None = None) -> Iterator[None]:
        """Open the job's events, limit its time and its calls of a model, and note why the block failed."""
        self._open_events()
        try:
            with job_deadline(self.timeout_seconds, max_calls=max_calls) as deadline:
                self._set_deadline(deadline)
                yield
        except Exception as error:
            if isinstance(error, StoreUnavailable) and self.on_store_outage == "hand back":
                self.report(Progress(stage=WAITING_FOR_STORE))
            else:
                self._note(failure=self._describe(error).model_dump())
            raise
        finally:
            self._close_events()

    def report(self, progress: Progress) -> None:
        """Publish progress: each stage once, and within a stage at most every PROGRESS_SECONDS."""
        now = time.monotonic()
        if progress.stage != self._stage or now - self._reported_at >= PROGRESS_SECONDS:
            data = progress.model_dump(mode="json", exclude_none=True)
            self._note(progress=data)
            self.write_event("progress", data)
            self._stage, self._reported_at = progress.stage, now

    @abstractmethod
    def save_draft(self, draft: bytes) -> None:
        """Keep on the job what its model answered, so that the next attempt need not ask again."""

    @abstractmethod
    def saved_draft(self) -> bytes | None:
        """Return the draft that an earlier attempt kept; None if no attempt kept a draft, or if Valkey is away."""

    @abstractmethod
    def write_event(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event to the job's stream."""

    def discard_tokens(self) -> None:
        """Start the answer again: readers of the events discard the tokens so far."""
        self.write_event("started", {})

    @property
    def request_id(self) -> str | None:
        """The id of the request that submitted the job; None if the record has none, or not a short, plain text."""
        return self.origin.request_id

    @property
    def origin(self) -> JobOrigin:
        """The request and the spans that the job comes from, as far as its record has them."""
        return origin_of(self.notes)

    def enter_span(self, span: Span) -> None:
        """Keep the span of this attempt among the notes. It is stored with the next notes: no write for it alone."""
        self.trace_id = span.trace_id
        self.notes[ATTEMPT_TRACEPARENT] = span.traceparent

    def seconds_queued(self) -> float | None:
        """Return the seconds from enqueueing to now; None when unknown."""
        if self.enqueued_at is None:
            return None
        return max(0.0, (datetime.now(UTC) - self.enqueued_at).total_seconds())

    @property
    def on_store_outage(self) -> OnStoreOutage:
        """What becomes of the job if the vector store does not answer now."""
        return "fail"

    def wait_for_store(self, outage: StoreUnavailable) -> None:
        """Wait inside the job until the vector store may answer again. Raises `outage` to end the attempt instead."""
        raise outage

    # -- for the kinds of worker

    @contextmanager
    def running(self) -> Iterator[None]:
        """Do around the job function what the worker leaves to the job. Raises JobStopped, JobCancelled."""
        yield

    @abstractmethod
    def _open_events(self) -> None:
        """Write the event `started`, and add the number of the attempt to the log lines."""

    def _close_events(self) -> None:  # noqa: B027  RagWorker announces the end when it writes it
        """Write the events that wait, and announce that the worker is about to write how the job ended."""

    @abstractmethod
    def _save_notes(self) -> None:
        """Write the notes to Valkey, unless another worker has the job."""

    def _set_deadline(self, deadline: Deadline) -> None:  # noqa: B027  RagWorker knows the deadline already
        """Keep the deadline, which stops the job function when another worker takes over or a user cancels."""

    def _describe(self, error: Exception) -> Failure:
        """Return the failure to show to users for an exception of the job function."""
        if isinstance(error, AppError):
            return Failure(code=error_code(type(error)), detail=error.detail)
        return INTERNAL_FAILURE

    def _note(self, **notes: Any) -> None:
        self.notes.update(notes)
        self._save_notes()


class NoJob(JobContext):
    """The context of a job function that is called outside any job: nothing is published."""

    def __init__(self) -> None:
        super().__init__(job_id="", queue="", valkey=None)

    def save_draft(self, draft: bytes) -> None:
        pass

    def saved_draft(self) -> bytes | None:
        return None

    def write_event(self, kind: str, data: dict[str, Any]) -> None:
        pass

    def _open_events(self) -> None:
        pass

    def _save_notes(self) -> None:
        pass


_current: ContextVar[JobContext | None] = ContextVar("job", default=None)


def current_job() -> JobContext | None:
    """Return the job that RagWorker runs in this context; None elsewhere."""
    return _current.get()


@contextmanager
def set_current_job(job: JobContext) -> Iterator[None]:
    """Have `current_job` return this job within the block."""
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)


def error_code(kind: type[AppError]) -> str:
    """Turn a class name into a code: NothingIndexed becomes nothing_indexed."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
