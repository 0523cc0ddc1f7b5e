"""Our jobs under RQ's own workers: `rq worker`, SimpleWorker, a pool. No other module relies on the internals of RQ.

RagWorker renews the leases of its jobs, and writes results only while it holds the jobs. RQ's workers do neither. So
here the job starts a thread that renews the lease as long as the worker lives, and that stops the job once a user has
cancelled it or another worker has taken it over.

RQ writes the result after the job function has returned, so two of its methods are replaced, each on one object:
- `Job.set_status`, on the job that runs: RQ calls it while it gathers the transaction that writes the result, and
  calls no code of ours later. The replacement checks a last time that this execution holds the job.
- `Pipeline.execute`, on that transaction: the only way to drop the result. An exception out of `set_status` would end a
  SimpleWorker, and would have the parent of a forked child write the job as failed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from redis.exceptions import RedisError, WatchError
from rq import get_current_job
from rq.job import Job, JobStatus
from rq.timeouts import JobTimeoutException

from client.llm.deadline import Deadline, current_deadline
from client.rq.event_writer import EventWriter
from client.rq.serializer import PlainSerializer
from client.rq.transitions import ExecutionRef, JobTransitions, StockExecution
from errors import JobCancelled, JobStopped, JobTimedOut, StoreUnavailable
from observability import logs, tracing
from queues.context import JobContext, NoJob, OnStoreOutage
from queues.wiring import store_answers
from schemas import WAITING_FOR_STORE, Failure, Progress
from settings import get_settings

log = logging.getLogger("queues")

RENEW_SECONDS = 0.5
# How often a job asks whether the vector store is back.
PROBE_SECONDS = 1.0
# How long the fork of a job that has ended may take to send its spans.
SPANS_SECONDS = 1.0
# A job that waits for the vector store gives up so long before its time is up.
LAST_ATTEMPT_SECONDS = 5.0
# The worker name that RQ gives to a job that runs where it is enqueued, without a worker and without an execution.
_INLINE = "sync"


def current_job() -> JobContext:
    """Return the job that RQ runs in this thread; NoJob when RQ runs none."""
    job = get_current_job()
    if job is None:
        return NoJob()
    return InlineJob(job) if job.worker_name in {None, "", _INLINE} else StockJob(job)


class InlineJob(JobContext):
    """A job that RQ runs inside the enqueuing process. No other process can take it over."""

    def __init__(self, job: Job) -> None:
        ttl = job.result_ttl if job.result_ttl is not None else get_settings().result_ttl_seconds
        super().__init__(
            job_id=job.id,
            queue=job.origin,
            valkey=job.connection,
            notes=job.meta,
            enqueued_at=job.enqueued_at,
            timeout_seconds=job.timeout or None,
            result_ttl_seconds=ttl,
        )
        self._job = job
        self._events: EventWriter | None = None

    def write_event(self, kind: str, data: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.write(kind, data)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Put the job's id on every log line of the block, and log how the block ended: RQ's own line has no fields."""
        logs.configure_once(get_settings)
        started, outcome = time.monotonic(), "failed"
        with logs.context(job_id=self.job_id, queue=self.queue, request_id=self.request_id):
            try:
                yield
                outcome = "finished"
            finally:
                seconds = round(time.monotonic() - started, 3)
                log.info("job %s %s", self.job_id, outcome, extra=logs.fields(outcome=outcome, seconds=seconds))

    def _open_events(self) -> None:
        ttl_seconds = self.result_ttl_seconds
        self._events = EventWriter(
            self._job.connection, self.job_id, result_ttl_seconds=ttl_seconds, begin=self._begin_attempt
        )
        self._events.start()
        logs.add_context(attempt=self._events.attempt)

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()

    def _begin_attempt(self) -> int:
        """Return the number of this attempt, from 1; 0 when another worker has the job. May raise RedisError."""
        return int(self._job.connection.hincrby(self._job.key, "attempts", 1))

    def _save_notes(self) -> None:
        self._job.save_meta()  # type: ignore[no-untyped-call]

    def save_draft(self, draft: bytes) -> None:
        pass  # nobody takes over a job that runs where it was enqueued

    def saved_draft(self) -> bytes | None:
        return None

    def _describe(self, error: Exception) -> Failure:
        if isinstance(error, JobTimeoutException):  # RQ raises it in the middle of the job function
            error = JobTimedOut.after(str(self._job.timeout))
        return super()._describe(error)


class StockJob(InlineJob):
    """A job under a worker of RQ: it renews its own lease, and its result is dropped when it has lost the job."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._transitions = JobTransitions(job.connection, job.worker_name or "")
        self._lock = threading.Lock()
        self._execution: StockExecution | None = None
        self._parent_pid: int | None = None  # the worker's process id, where this process is a fork of the worker
        self._deadline: Deadline | None = None
        self._stopped = False
        self._cancelled = False
        self._returned = threading.Event()

    @property
    def on_store_outage(self) -> OnStoreOutage:
        """Wait while there is time left for a last attempt, whose failure then says what is away."""
        if self._deadline is None or self._deadline.expired:
            return "fail"
        left = self._deadline.remaining()
        return "wait" if left is None or left > LAST_ATTEMPT_SECONDS else "fail"

    def wait_for_store(self, outage: StoreUnavailable) -> None:
        if self.on_store_outage != "wait":
            raise outage
        self.report(Progress(stage=WAITING_FOR_STORE))
        while self.on_store_outage == "wait":
            current_deadline().sleep(PROBE_SECONDS)
            if store_answers(get_settings()):
                return

    @contextmanager
    def running(self) -> Iterator[None]:
        """Renew the lease within the block. Raises JobStopped when another worker has the job, JobCancelled."""
        with super().running():
            self._job.set_status = self._fenced(self._job.set_status)  # type: ignore[method-assign]
            try:
                self._require_held()
                threading.Thread(target=self._keep_lease, name="lease", daemon=True).start()
                yield
            finally:
                self._returned.set()

    def _require_held(self) -> None:
        """Raise JobStopped or JobCancelled if this execution may not run. Does not raise while Valkey is away."""
        try:
            held = self._renew_lease()
        except (RedisError, OSError):
            return  # the lease thread asks again
        if not held:
            raise JobStopped("another worker has this job, or it was cancelled before it began")
        if self._cancelled:
            raise JobCancelled("the job was cancelled")

    def _keep_lease(self) -> None:
        while not self._returned.wait(RENEW_SECONDS):
            if self._parent_pid is not None and os.getppid() != self._parent_pid:
                log.error("job %s: its worker died; this process ends, since nobody would read the result", self.job_id)
                os._exit(1)
            try:
                if not self._renew_lease() or self._cancelled:
                    self._stop()
            except (RedisError, OSError):
                continue

    def _renew_lease(self) -> bool:
        """Renew the lease, and note a cancellation. False when another worker has the job. Raises RedisError."""
        execution = self._held_execution()
        if execution is None:
            return False
        held, cancelled = self._transitions.renew_stock_lease(execution)
        self._cancelled = self._cancelled or cancelled
        return held

    def _held_execution(self) -> ExecutionRef | None:
        """Return the execution that RQ made; None when another worker has the job. Raises RedisError."""
        if not self._begin_attempt() or self._execution is None:
            return None
        return ExecutionRef(self.queue, self.job_id, self._execution.execution_id, 0.0)

    def _begin_attempt(self) -> int:
        with self._lock:
            if self._execution is None:
                self._execution = self._transitions.start_stock_execution(self.queue, self.job_id)
                if self._execution.worker_pid == os.getppid():
                    self._parent_pid = os.getppid()
            return self._execution.attempt

    def _save_notes(self) -> None:
        execution = self._held_execution()
        if execution is not None:
            notes = PlainSerializer.dumps(self.notes)
            self._transitions.save_call(execution, "meta", notes).run(self._job.connection)

    def save_draft(self, draft: bytes) -> None:
        with suppress(RedisError, OSError):  # then the next attempt asks again
            execution = self._held_execution()
            if execution is not None:
                self._transitions.save_call(execution, "draft", draft).run(self._job.connection)

    def saved_draft(self) -> bytes | None:
        with suppress(RedisError, OSError):
            return cast("bytes | None", self._job.connection.hget(self._job.key, "draft"))
        return None

    def _set_deadline(self, deadline: Deadline) -> None:
        self._deadline = deadline
        if self._stopped:
            deadline.stop()

    def _stop(self) -> None:
        self._stopped = True
        if self._deadline is not None and not self._returned.is_set():
            self._deadline.stop()

    def _fenced(self, set_status: Callable[..., None]) -> Callable[..., None]:
        """Wrap `Job.set_status` so that RQ writes the result only while this execution holds the job."""

        def fenced_set_status(status: JobStatus, pipeline: Any = None) -> None:
            if pipeline is None:
                set_status(status)
                return
            # Taking a job over touches the key watched here (`JobTransitions.recover_expired`), so the transaction
            # fails when another worker does so between this check and EXEC. For a job that finished RQ watches the
            # key itself, and tries again; for a job that failed RQ neither watches nor repeats.
            if not pipeline.explicit_transaction and not pipeline.command_stack:
                pipeline.watch(self._job.dependents_key)
                pipeline.multi()
                pipeline.execute = _ignoring_watch_error(pipeline.execute)
            if not self._renew_lease():
                log.warning("job %s: its result was dropped: another worker has the job", self.job_id)
                pipeline.execute = _execute_nothing
            if self._parent_pid is not None:
                pipeline.execute = _sending_spans(pipeline.execute)
            if self._cancelled and status is JobStatus.FAILED:
                status = JobStatus.STOPPED
            set_status(status, pipeline=pipeline)
            pipeline.hdel(self._job.key, "cancel")

        return fenced_set_status


def _ignoring_watch_error(execute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def run(*args: Any, **keywords: Any) -> list[Any]:
        try:
            return execute(*args, **keywords)
        except WatchError:
            return []

    return run


def _sending_spans(execute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Send the spans of a job once its result is written: RQ ends the fork with os._exit, so a thread may not do it."""

    def run(*args: Any, **keywords: Any) -> list[Any]:
        replies = execute(*args, **keywords)
        tracing.flush(SPANS_SECONDS)
        return replies

    return run


def _execute_nothing(*_args: Any, **_keywords: Any) -> list[Any]:
    return []
