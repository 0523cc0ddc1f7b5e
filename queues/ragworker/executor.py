"""What runs jobs: readers that take them, threads that run them, and the one place that decides how each ends."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from uuid import uuid4

from redis.exceptions import RedisError

from client.llm.deadline import apply_deadline
from client.rq.serializer import NotPlainData, PlainSerializer
from client.rq.transitions import (
    STOPPED,
    ExecutionRef,
    FinalStatus,
    JobOutcome,
    JobTransitions,
    TakenJob,
    encode_exception,
    encode_result,
)
from errors import AppError
from observability import logs
from queues.context import entered
from queues.ragworker.capacity import Capacity
from queues.ragworker.execution import Execution, InvalidJobRecord, open_execution, ttl
from queues.ragworker.result_writer import ResultWriter
from queues.ragworker.threads import JobThreads

log = logging.getLogger("rq.worker")

# How long a reader waits in one go for a job, a place, the end of a suspension or of an outage.
WAIT_SECONDS = 2
PAUSE_SECONDS = 0.5
# RQ's name for a time-out, by which the API and dashboards tell it from other failures.
TIMED_OUT = "rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value ({} seconds)"


class Executor:
    """Jobs of some queues, each with a share of `concurrency` places.

    `burst` ends the readers when their lists are empty; `most` bounds how many jobs are taken in all.
    """

    def __init__(
        self,
        ledger: JobTransitions,
        shares: Mapping[str, int],
        *,
        concurrency: int,
        functions: Collection[str],
        default_timeout_seconds: int,
        burst: bool = False,
        most: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._functions = functions
        self._default_timeout_seconds = default_timeout_seconds
        self._burst = burst
        self._left = most
        self._slots = Capacity(concurrency, shares)
        self._runner = JobThreads(self._perform, keep=concurrency)
        self.writer = ResultWriter(ledger, self._written)
        self._running: dict[str, Execution] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(queue,), name=f"reader-{queue}", daemon=True) for queue in shares
        ]
        self.done = 0

    def start(self) -> None:
        """Begin to take jobs."""
        self.writer.start()
        for reader in self._readers:
            reader.start()

    @property
    def reading(self) -> bool:
        """Whether any reader goes on. One that only waits for a job does, for a while, after `stop_taking`."""
        return any(reader.is_alive() for reader in self._readers)

    @property
    def busy(self) -> bool:
        """Whether any job is being taken, runs, or has an ending that is not written."""
        return self._slots.used > 0 or self.writer.pending > 0

    def holders(self) -> list[ExecutionRef]:
        """Return what runs now, for the heartbeat."""
        with self._lock:
            return [execution.holder for execution in self._running.values()]

    def stop_taking(self) -> None:
        """Take no more jobs."""
        self._stopping.set()
        self._slots.close()

    def close(self, *, give_up: bool) -> None:
        """End the threads; `give_up` leaves endings unwritten that Valkey does not take now."""
        self.stop_taking()
        self.writer.close(give_up=give_up)
        self._runner.close()

    # -- ending jobs before they end themselves

    def end_expired(self) -> None:
        """Fail the jobs whose time is up."""
        for execution in self._matching(lambda execution: execution.deadline.expired):
            seconds = execution.job.timeout_seconds
            detail = f"the job ran longer than {seconds} s (JOB_TIMEOUT_SECONDS)"
            self._cut_short(execution, "failed", TIMED_OUT.format(seconds), "job_timed_out", detail)

    def stop_job(self, job_id: str) -> bool:
        """Stop a job that runs here. False when none does."""
        found = self._matching(lambda execution: execution.holder.job_id == job_id)
        for execution in found:
            self._cut_short(execution, "stopped", STOPPED, "cancelled", "the job was cancelled")
        return bool(found)

    def lose(self, holders: list[ExecutionRef]) -> None:
        """Drop jobs that were taken from this worker: cancelled, or given to another."""
        for holder in holders:
            execution = self._running.get(holder.execution_id)
            if execution is not None and execution.claim():
                log.warning("%s: %s was cancelled or taken by another worker", holder.queue, holder.job_id)
                execution.deadline.stop()
                self._forget(execution.holder)

    def hand_back_all(self) -> None:
        """Give what runs back to its lists, for another worker. Raises RedisError when Valkey is away."""
        for execution in self._matching(lambda _execution: True):
            if execution.claim():
                execution.deadline.stop()
                if self._ledger.hand_back(execution.holder):
                    log.warning("%s: %s was handed back", execution.holder.queue, execution.holder.job_id)
                self._forget(execution.holder)

    def _cut_short(self, execution: Execution, status: FinalStatus, said: str, code: str, detail: str) -> None:
        if not execution.claim():
            return
        execution.deadline.stop(cancelled=status == "stopped")
        job = execution.job
        meta = _dumps(job.notes | {"failure": {"code": code, "detail": detail}})
        self._finish(execution, JobOutcome(status, encode_exception(said), execution.failure_ttl, meta))
        log.warning("%s: %s %s: %s", execution.holder.queue, execution.holder.job_id, status, detail)

    def _matching(self, condition: Callable[[Execution], bool]) -> list[Execution]:
        with self._lock:
            return [execution for execution in self._running.values() if condition(execution)]

    # -- taking jobs

    def _read(self, queue: str) -> None:
        """Take jobs of one queue until told to stop: first a place, then a job for it."""
        unsure: set[str] = set()
        while not self._stopping.is_set() and self._left != 0:
            try:
                if unsure:
                    self._ledger.hand_back_unconfirmed(queue, unsure)
                    unsure.clear()
                if not self._burst and not self._ledger.wait_for_job(queue, WAIT_SECONDS):
                    continue
                if not self._take(queue, unsure) and self._burst and not self.busy:
                    return
            except (RedisError, OSError):
                self._stopping.wait(PAUSE_SECONDS)  # the caretaker says so in the log
            except Exception:
                log.exception("%s: taking jobs failed; trying again", queue)
                self._stopping.wait(PAUSE_SECONDS)

    def _take(self, queue: str, unsure: set[str]) -> bool:
        """Take as many jobs as there are places for. False when the list was empty."""
        places = self._slots.acquire(queue, timeout_seconds=WAIT_SECONDS)
        if not places:
            return True
        used = 0
        try:
            identities = [uuid4().hex for _ in range(self._allowed(places))]
            unsure.update(identities)
            catch = self._ledger.take(queue, identities)
            unsure.difference_update(identities)
            for job_id, reason in catch.dropped:
                log.warning("%s: %s left out: %s", queue, job_id, reason)
            used = len(catch.jobs)
            self._spend(used)
            for taken in catch.jobs:
                self._begin(taken)
        finally:
            self._slots.release(queue, places - used)
        if catch.suspended:
            self._stopping.wait(PAUSE_SECONDS)
        elif self._burst and not catch.jobs:
            self._stopping.wait(0.01)
        return bool(catch.jobs or catch.dropped)

    def _allowed(self, places: int) -> int:
        with self._lock:
            return places if self._left is None else min(places, self._left)

    def _spend(self, count: int) -> None:
        with self._lock:
            if self._left is not None:
                self._left = max(0, self._left - count)

    def _begin(self, taken: TakenJob) -> None:
        """Start a job, or quarantine it: among the dead letters, with a log line."""
        try:
            execution = open_execution(
                taken,
                valkey=self._ledger.valkey,
                functions=self._functions,
                default_timeout_seconds=self._default_timeout_seconds,
                write_meta=self.writer.keep_meta,
            )
        except Exception as error:  # noqa: BLE001  whatever a record leads to must not end the worker
            reason = str(error) if isinstance(error, InvalidJobRecord) else f"{type(error).__name__} while it was read"
            log.error("%s: %s is quarantined: %s", taken.holder.queue, taken.holder.job_id, reason)  # noqa: TRY400
            detail = "what is stored of this job cannot be run; ask again"
            meta = PlainSerializer.dumps({"failure": {"code": "unreadable", "detail": detail}})
            kept = ttl(taken.fields, "failure_ttl")
            self.writer.finish(
                taken.holder, JobOutcome("failed", encode_exception(f"Quarantined: {reason}"), kept, meta)
            )
            return
        with self._lock:
            self._running[taken.holder.execution_id] = execution
        self._runner.submit(execution)

    # -- running jobs

    def _perform(self, execution: Execution) -> None:
        """Run a job in this thread, and hand over how it ended unless somebody else has decided that."""
        ending = Context().run(self._outcome, execution)  # a context of its own: nothing leaks into the next job
        if execution.claim():
            self._finish(execution, ending)

    def _outcome(self, execution: Execution) -> JobOutcome:
        job = execution.job
        started = time.monotonic()
        logs.add_context(job_id=job.job_id, queue=job.queue)
        try:
            with apply_deadline(execution.deadline), entered(job):
                result = encode_result(execution.call())
            return JobOutcome("finished", result, execution.result_ttl, _dumps(job.notes), time.monotonic() - started)
        except BaseException as error:  # a job may raise SystemExit; the worker goes on
            expected = isinstance(error, AppError)  # then the job's notes say what happened
            holder = execution.holder
            log.warning("%s: %s: %s", holder.queue, holder.job_id, type(error).__name__, exc_info=not expected)
            said = encode_exception(traceback.format_exc())
            return JobOutcome("failed", said, execution.failure_ttl, _dumps(job.notes), time.monotonic() - started)

    def _finish(self, execution: Execution, ending: JobOutcome) -> None:
        self.writer.finish(execution.holder, ending)

    def _written(self, holder: ExecutionRef, ending: JobOutcome, answer: int) -> None:
        """Take note that an ending is in Valkey, or never will be (0)."""
        execution = self._running.get(holder.execution_id)
        if answer == 0:
            log.warning("%s: %s was no longer ours: its ending is void", holder.queue, holder.job_id)
        else:
            told = logs.fields(
                job_id=holder.job_id,
                queue=holder.queue,
                attempt=execution.job.attempt if execution is not None else None,
                outcome=ending.status,
                seconds=round(ending.seconds, 3),
            )
            log.info("%s: %s %s in %.3f s", holder.queue, holder.job_id, ending.status, ending.seconds, extra=told)
        self._forget(holder)

    def _forget(self, holder: ExecutionRef) -> None:
        with self._lock:
            self._running.pop(holder.execution_id, None)
            self.done += 1
        self._slots.release(holder.queue)


def _dumps(meta: object) -> bytes | None:
    try:
        return PlainSerializer.dumps(meta) if meta else None
    except NotPlainData:
        return None
