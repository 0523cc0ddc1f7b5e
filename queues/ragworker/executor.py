"""Runs jobs: reader threads take them, the event loop or job threads run them, and the executor decides how each ends.

Questions run in the event loop. Ingestion and deliveries, which block, run in a thread each.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from uuid import uuid4

from redis.exceptions import RedisError

from client.llm.deadline import apply_deadline
from client.rq.serializer import NotPlainData, PlainSerializer
from client.rq.transitions import (
    STOPPED,
    ExecutionRef,
    FinalStatus,
    HandBack,
    JobOutcome,
    JobTransitions,
    TakenJob,
    encode_exception,
    encode_result,
)
from errors import AppError, JobTimedOut, ProviderTimeout, ProviderUnavailable, StoreUnavailable
from observability import logs
from queues.context import set_current_job
from queues.measuring import count_lost_job
from queues.ragworker.capacity import Capacity
from queues.ragworker.draft_spool import DraftSpool
from queues.ragworker.drain import Drain
from queues.ragworker.execution import Execution, InvalidJobRecord, open_execution, ttl_seconds
from queues.ragworker.job_writer import JobWriter
from queues.ragworker.loop import JobLoop, canceller
from queues.ragworker.store_pause import StorePause
from queues.ragworker.suspension import Suspension
from queues.ragworker.threads import JobThreads

log = logging.getLogger("rq.worker")

# The longest single wait of a reader for a job or a slot.
WAIT_SECONDS = 2
# The pause of a reader while the queues are suspended or Valkey is away.
PAUSE_SECONDS = 0.5
# The pause of a reader while the next job has to run alone.
SUSPECT_SECONDS = 0.1
# RQ's text for a time-out, by which the API and dashboards tell a time-out from other failures.
TIMED_OUT = "rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value ({} seconds)"


class Executor:
    """Runs the jobs of some queues, at most `concurrency` in all, and of each queue at most its limit.

    With `burst` the readers end when their lists are empty. `max_jobs` bounds how many jobs are taken in all.
    `compute_threads` threads compute for the jobs of the event loop; `on_close` is awaited in the loop at the end.
    A job that finds the vector store away is handed back, and its like are not taken until `store_answers`.
    """

    def __init__(
        self,
        transitions: JobTransitions,
        limits: Mapping[str, int],
        *,
        concurrency: int,
        functions: Collection[str],
        default_timeout_seconds: int,
        compute_threads: int,
        on_close: Callable[[], Awaitable[None]],
        store_answers: Callable[[], bool],
        spool: DraftSpool,
        burst: bool = False,
        max_jobs: int | None = None,
    ) -> None:
        self._transitions = transitions
        self._functions = functions
        self._default_timeout_seconds = default_timeout_seconds
        self._burst = burst
        self._jobs_left = max_jobs
        self._capacity = Capacity(concurrency, limits)
        self._threads = JobThreads(self._run, keep_idle=concurrency)
        self._loop = JobLoop(self._run_in_loop, threads=compute_threads, on_close=on_close)
        self._spool = spool
        self._writer = JobWriter(transitions, self._on_written, on_draft_written=spool.discard)
        self._suspension = Suspension()
        self._store_pause = StorePause(transitions.valkey, store_answers, limits)
        self._drain = Drain(transitions.valkey, transitions.worker)
        self._executions: dict[str, Execution] = {}  # the running executions, by execution id
        self._suspects: set[str] = set()  # the running executions that have to run alone
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(queue,), name=f"reader-{queue}", daemon=True) for queue in limits
        ]
        self.jobs_done = 0

    def start(self) -> None:
        """Begin to take jobs."""
        self._spool.start()
        self._writer.start()
        self._loop.start()
        for reader in self._readers:
            reader.start()

    @property
    def reading(self) -> bool:
        """True while any reader runs: up to WAIT_SECONDS after `stop_taking`."""
        return any(reader.is_alive() for reader in self._readers)

    @property
    def busy(self) -> bool:
        """True while a job is being taken, runs, or has an outcome that is not written yet."""
        return self._capacity.used > 0 or self._writer.pending > 0

    def running(self) -> list[ExecutionRef]:
        """Return the executions whose leases the heartbeat has to renew."""
        with self._lock:
            return [execution.ref for execution in self._executions.values()]

    def stop_taking(self) -> None:
        """Take no more jobs."""
        self._stopping.set()
        self._capacity.close()
        self._store_pause.close()

    def close(self, *, discard: bool) -> None:
        """End the threads. With `discard`, outcomes that are not written yet are dropped."""
        self.stop_taking()
        self._writer.close(discard=discard)
        self._threads.close()
        self._loop.close()
        self._spool.close()

    # -- ending jobs from outside

    def fail_expired(self) -> None:
        """Fail the jobs whose time is up. Must be called often: the time between calls shows a stopped process."""
        self._suspension.tick()
        for execution in self._matching(lambda execution: execution.deadline.expired):
            seconds = execution.job.timeout_seconds
            detail = JobTimedOut.after(str(seconds)).detail
            self._end_early(execution, "failed", TIMED_OUT.format(seconds), "job_timed_out", detail)

    def stop_job(self, job_id: str) -> bool:
        """Stop a job. False when the job does not run here."""
        executions = self._matching(lambda execution: execution.ref.job_id == job_id)
        for execution in executions:
            self._end_early(execution, "stopped", STOPPED, "cancelled", "the job was cancelled")
        return bool(executions)

    def keep_held(self, moment: float, lost: list[ExecutionRef]) -> None:
        """Keep the executions that held their jobs at a moment of the monotonic clock, and drop those that did not.

        The job of a dropped execution was cancelled, or another worker has taken it over.
        """
        for ref in lost:
            execution = self._executions.get(ref.execution_id)
            if execution is not None and execution.claim():
                log.warning("%s: %s was cancelled or taken over by another worker", ref.queue, ref.job_id)
                execution.deadline.stop()
                self._remove(execution.ref)
        self._suspension.confirm(moment)

    def hand_back_all(self) -> None:
        """Put the running jobs back on their lists, for another worker. Raises RedisError when Valkey is away."""
        for execution in self._matching(lambda _execution: True):
            if execution.claim():
                execution.deadline.stop()
                if self._transitions.hand_back(execution.ref):
                    log.warning("%s: %s was handed back", execution.ref.queue, execution.ref.job_id)
                self._remove(execution.ref)

    def _end_early(self, execution: Execution, status: FinalStatus, text: str, code: str, detail: str) -> None:
        """End a job now, unless its outcome has been decided. `text` is stored in place of a traceback."""
        if not execution.claim():
            return
        execution.deadline.stop(cancelled=status == "stopped")
        notes = _dumps(execution.job.notes | {"failure": {"code": code, "detail": detail}})
        outcome = JobOutcome(status, encode_exception(text), execution.failure_ttl, notes)
        self._writer.write_outcome(execution.ref, outcome)
        log.warning("%s: %s %s: %s", execution.ref.queue, execution.ref.job_id, status, detail)

    def _matching(self, condition: Callable[[Execution], bool]) -> list[Execution]:
        with self._lock:
            return [execution for execution in self._executions.values() if condition(execution)]

    # -- taking jobs

    def _read(self, queue: str) -> None:
        """Take jobs of one queue until `stop_taking`: first a slot, then a job for the slot."""
        unconfirmed: set[str] = set()
        while not self._stopping.is_set() and self._jobs_left != 0:
            try:
                if self._suspects or self._drain.stops(queue):
                    self._stopping.wait(SUSPECT_SECONDS)
                    continue
                if self._store_pause.stops(queue):
                    self._drain.end(queue)
                    self._store_pause.wait(PAUSE_SECONDS)
                    continue
                if unconfirmed:
                    self._transitions.hand_back_unconfirmed(queue, unconfirmed)
                    unconfirmed.clear()
                if not self._burst and not self._transitions.wait_for_job(queue, WAIT_SECONDS):
                    self._drain.end(queue)
                    continue
                if not self._take(queue, unconfirmed) and self._burst and not self.busy:
                    return
            except (RedisError, OSError):
                self._stopping.wait(PAUSE_SECONDS)  # Maintenance logs the outage
            except Exception:
                log.exception("%s: taking jobs failed; trying again", queue)
                self._stopping.wait(PAUSE_SECONDS)

    def _take(self, queue: str, unconfirmed: set[str]) -> bool:
        """Take a job for each free slot. False when the list was empty.

        While the reply is outstanding, `unconfirmed` holds the execution ids: after a lost reply their jobs go back.
        """
        slots = self._capacity.acquire(queue, timeout_seconds=WAIT_SECONDS)
        if not slots:
            return True
        used = 0
        try:
            if self._store_pause.stops(queue):  # since the reader began to wait
                return True
            execution_ids = [uuid4().hex for _ in range(self._jobs_allowed(slots))]
            unconfirmed.update(execution_ids)
            idle = self._capacity.used == slots or self._drain.is_over(queue)
            result = self._transitions.take(queue, execution_ids, idle=idle)
            unconfirmed.difference_update(execution_ids)
            for job_id, reason in result.dropped:
                log.warning("%s: %s was dropped: %s", queue, job_id, reason)
            used = len(result.jobs)
            self._count_taken(used)
            for taken in result.jobs:
                self._start_job(taken)
        finally:
            self._capacity.release(queue, slots - used)
        if not result.suspect_waits:
            self._drain.end(queue)
        if result.suspended:
            self._stopping.wait(PAUSE_SECONDS)
        elif result.suspect_waits:
            self._drain.go_on(queue)
            self._stopping.wait(SUSPECT_SECONDS)
        elif self._burst and not result.jobs:
            self._stopping.wait(0.01)
        return bool(result.jobs or result.dropped)

    def _jobs_allowed(self, slots: int) -> int:
        with self._lock:
            return slots if self._jobs_left is None else min(slots, self._jobs_left)

    def _count_taken(self, count: int) -> None:
        with self._lock:
            if self._jobs_left is not None:
                self._jobs_left = max(0, self._jobs_left - count)

    def _start_job(self, taken: TakenJob) -> None:
        """Start a job, or quarantine one whose record cannot be trusted."""
        try:
            execution = open_execution(
                taken,
                valkey=self._transitions.valkey,
                functions=self._functions,
                default_timeout_seconds=self._default_timeout_seconds,
                writer=self._writer,
                spool=self._spool,
                store_pause=self._store_pause,
                suspension=self._suspension,
            )
        except Exception as error:  # noqa: BLE001  no record may end the worker
            reason = str(error) if isinstance(error, InvalidJobRecord) else f"{type(error).__name__} while it was read"
            self._quarantine(taken, reason)
            return
        with self._lock:
            self._executions[taken.execution.execution_id] = execution
            if execution.is_suspect:
                self._suspects.add(taken.execution.execution_id)
        (self._loop if execution.is_coroutine else self._threads).submit(execution)

    def _quarantine(self, taken: TakenJob, reason: str) -> None:
        """Fail a job without running it, which puts it among the dead letters."""
        log.error("%s: %s is quarantined: %s", taken.execution.queue, taken.execution.job_id, reason)
        detail = "the stored record of this job cannot be run; ask again"
        notes = PlainSerializer.dumps({"failure": {"code": "unreadable", "detail": detail}})
        ttl = ttl_seconds(taken.fields, "failure_ttl")
        outcome = JobOutcome("failed", encode_exception(f"Quarantined: {reason}"), ttl, notes)
        count_lost_job(taken.execution.queue, "unreadable")
        self._writer.write_outcome(taken.execution, outcome)

    # -- running jobs

    def _run(self, execution: Execution) -> None:
        """Run a job in this thread, and write its outcome unless another thread has decided it."""
        outcome = Context().run(self._outcome_of, execution)  # in a new context: nothing leaks into the next job
        self._settle(execution, outcome)

    async def _run_in_loop(self, execution: Execution) -> None:
        """Run a job in the event loop, and write its outcome unless another thread has decided it."""
        self._settle(execution, await self._awaited_outcome_of(execution))

    def _settle(self, execution: Execution, outcome: JobOutcome | HandBack) -> None:
        if not execution.claim():
            return
        if isinstance(outcome, HandBack) and outcome.store_away:
            self._store_pause.begin()  # first, so that no reader takes the job again at once
            execution.job.count_store_failure()
        self._writer.write_outcome(execution.ref, outcome)

    def _outcome_of(self, execution: Execution) -> JobOutcome | HandBack:
        started = time.monotonic()
        try:
            with _job_context(execution):
                result = encode_result(execution.call())
        except BaseException as error:  # noqa: BLE001  a job may raise SystemExit; the worker goes on
            return self._failure(execution, error, started)
        return _success(execution, result, started)

    async def _awaited_outcome_of(self, execution: Execution) -> JobOutcome | HandBack:
        started = time.monotonic()
        try:
            with _job_context(execution), execution.deadline.closing_on_stop(canceller()):
                result = encode_result(await execution.call())
        except BaseException as error:  # noqa: BLE001  also CancelledError, after which the outcome is dropped
            return self._failure(execution, error, started)
        return _success(execution, result, started)

    def _failure(self, execution: Execution, error: BaseException, started: float) -> JobOutcome | HandBack:
        """Return the outcome of a job that raised `error`, and log why it failed."""
        job, seconds = execution.job, time.monotonic() - started
        if isinstance(error, StoreUnavailable) and job.on_store_outage == "hand back":
            return HandBack(seconds, store_away=True)
        expected = isinstance(error, AppError)  # then the job's notes hold the reason
        log.warning("%s: %s: %s", job.queue, job.job_id, type(error).__name__, exc_info=None if expected else error)
        if isinstance(error, ProviderTimeout | ProviderUnavailable) and self._suspension.happened_since(started):
            return HandBack(seconds)
        text = encode_exception("".join(traceback.format_exception(error)))
        return JobOutcome("failed", text, execution.failure_ttl, _dumps(job.notes), seconds)

    def _on_written(self, ref: ExecutionRef, outcome: JobOutcome | HandBack, written: bool) -> None:  # noqa: FBT001
        execution = self._executions.get(ref.execution_id)
        job = execution.job if execution is not None else None  # None for a job that was quarantined
        if isinstance(outcome, JobOutcome):
            self._spool.discard(ref.job_id)
        if written:
            fields = logs.fields(
                job_id=ref.job_id,
                queue=ref.queue,
                request_id=job.request_id if job is not None else None,
                trace_id=job.trace_id if job is not None else None,
                attempt=job.attempt if job is not None else None,
                outcome=outcome.status,
                seconds=round(outcome.seconds, 3),
            )
            log.info("%s: %s %s in %.3f s", ref.queue, ref.job_id, outcome.status, outcome.seconds, extra=fields)
        else:
            log.warning("%s: %s: its outcome was dropped: this worker no longer holds the job", ref.queue, ref.job_id)
        self._remove(ref)

    def _remove(self, ref: ExecutionRef) -> None:
        with self._lock:
            self._executions.pop(ref.execution_id, None)
            self._suspects.discard(ref.execution_id)
            self.jobs_done += 1
        self._capacity.release(ref.queue)


@contextmanager
def _job_context(execution: Execution) -> Iterator[None]:
    """Make the execution's job and deadline the current ones, and put the job on each log line."""
    job = execution.job
    logs.add_context(job_id=job.job_id, queue=job.queue, request_id=job.request_id)
    with apply_deadline(execution.deadline), set_current_job(execution.job):
        yield


def _success(execution: Execution, result: str, started: float) -> JobOutcome:
    seconds = time.monotonic() - started
    return JobOutcome("finished", result, execution.result_ttl, _dumps(execution.job.notes), seconds)


def _dumps(notes: object) -> bytes | None:
    try:
        return PlainSerializer.dumps(notes) if notes else None
    except NotPlainData:
        return None
