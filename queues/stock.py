"""A job of ours under a worker that is not: `rq worker`, its SimpleWorker, a pool.

RagWorker renews the leases of its jobs and writes their endings only while it holds them. Here the job sees to that
itself, with a thread beside it: the thread renews the lease as long as the worker lives, and stops the job when
it was cancelled or is another's. How a job ended is written by RQ, which begins with the job's `set_status`. So
that is where it is looked at last, and where what came too late is dropped.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError, WatchError
from rq.job import Job, JobStatus

from client.llm.deadline import Deadline
from client.rq.serializer import PlainSerializer
from client.rq.transitions import ExecutionRef, JobTransitions, StockExecution
from errors import JobCancelled, JobStopped

log = logging.getLogger("queues")

LOOK_SECONDS = 0.5
# The name under which RQ runs a job at once, where it is enqueued: there is no worker and no execution.
_AT_ONCE = "sync"


class Hold:
    """The hold of one execution on its job. Use `holding`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ledger = JobTransitions(job.connection, job.worker_name or "")
        self._lock = threading.Lock()
        self._begun: StockExecution | None = None
        self._parent: int | None = None
        self._deadline: Deadline | None = None
        self._stopped = False
        self._cancelled = False
        self._done = threading.Event()

    def begin(self) -> int:
        """Take the job in hand; give which attempt at it this is, 0 when it is another's. Raises RedisError."""
        with self._lock:
            if self._begun is None:
                self._begun = self._ledger.start_stock_execution(self._job.origin, self._job.id)
                if self._begun.worker_pid == os.getppid():
                    self._parent = os.getppid()
            return self._begun.attempt

    def start(self) -> None:
        """Watch over the job from now on. Raises JobStopped when it is another's, JobCancelled when cancelled."""
        self._job.save_meta = self._save_meta  # type: ignore[method-assign]
        self._job.set_status = self._guarded(self._job.set_status)  # type: ignore[method-assign]
        try:
            if not self._look():
                raise JobStopped("another worker has this job, or it was cancelled before it began")
            if self._cancelled:
                raise JobCancelled("the job was cancelled")
        except (RedisError, OSError):
            pass  # the thread asks again
        threading.Thread(target=self._watch, name="hold", daemon=True).start()

    def end(self) -> None:
        """Watch no more: the job's function has returned."""
        self._done.set()

    def attach(self, deadline: Deadline) -> None:
        """Name the deadline through which the job is stopped."""
        self._deadline = deadline
        if self._stopped:
            deadline.stop()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            if self._parent is not None and os.getppid() != self._parent:
                log.error("job %s: its worker died, and nobody would hear how it ended", self._job.id)
                os._exit(1)
            try:
                if not self._look() or self._cancelled:
                    self._stop()
            except (RedisError, OSError):
                continue

    def _look(self) -> bool:
        """Renew the lease; see whether the job is still ours, and whether it was cancelled. Raises RedisError."""
        holder = self._holder()
        if holder is None:
            return False
        held, cancelled = self._ledger.renew_stock_lease(holder)
        self._cancelled = self._cancelled or cancelled
        return held

    def _holder(self) -> ExecutionRef | None:
        """Name the execution; None when the job is another's. Raises RedisError."""
        if not self.begin() or self._begun is None:
            return None
        return ExecutionRef(self._job.origin, self._job.id, self._begun.execution_id, 0.0)

    def _stop(self) -> None:
        self._stopped = True
        if self._deadline is not None and not self._done.is_set():
            self._deadline.stop()

    def _save_meta(self) -> None:
        holder = self._holder()
        if holder is not None:
            self._ledger.save_meta(holder, PlainSerializer.dumps(self._job.meta))

    def _guarded(self, write: Callable[..., None]) -> Callable[..., None]:
        """Wrap `Job.set_status`: what RQ is about to write is written only if the job is still ours."""

        def set_status(status: JobStatus, pipeline: Any = None) -> None:
            if pipeline is None:
                write(status)
                return
            # Whoever takes the job away touches what is watched (`scripts.REAP`): between this look and the writing,
            # too. RQ watches it for a job that ended well, and then tries again.
            if not pipeline.explicit_transaction and not pipeline.command_stack:
                pipeline.watch(self._job.dependents_key)
                pipeline.multi()
                pipeline.execute = _or_nothing(pipeline.execute)
            if not self._look():
                log.warning("job %s is not this worker's: its ending is void", self._job.id)
                pipeline.execute = lambda *_args, **_keywords: []
            if self._cancelled and status is JobStatus.FAILED:
                status = JobStatus.STOPPED
            write(status, pipeline=pipeline)
            pipeline.hdel(self._job.key, "cancel")

        return set_status


def _or_nothing(execute: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    def run(*args: Any, **keywords: Any) -> list[Any]:
        try:
            return execute(*args, **keywords)
        except WatchError:
            return []

    return run


@contextmanager
def holding(job: Job) -> Iterator[Hold | None]:
    """Hold a job that a worker which is not ours runs in this thread. Gives None where RQ runs it without a worker."""
    if not job.worker_name or job.worker_name == _AT_ONCE:
        yield None
        return
    hold = Hold(job)
    try:
        hold.start()
        yield hold
    finally:
        hold.end()
