"""The time and the provider calls a job may still use, for the code that the job calls.

A thread that waits for a socket sees no signal and no exception of another thread. So code that opens something that
can block registers a function that shuts it, and stopping the job calls that function.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from errors import JobCancelled, JobStopped, JobTimedOut

# How long a call waits while it is in doubt whether the job is still this worker's, and how often it looks.
DOUBT_SECONDS = 3.0
DOUBT_STEP_SECONDS = 0.01


class Deadline:
    """The end of one job: the time is up, or somebody stops the job. Safe for threads.

    Without `seconds` there is no time limit; while `calls_left` is None any number of provider calls may be made.
    `in_doubt` says whether another worker may have taken the job over, which stops the job once it is known.
    """

    def __init__(self, seconds: float | None = None, *, in_doubt: Callable[[], bool] = lambda: False) -> None:
        self._seconds = seconds
        self._in_doubt = in_doubt
        self._ends_at = None if seconds is None else time.monotonic() + seconds
        self._stopped = threading.Event()
        self._cancelled = False
        self._lock = threading.Lock()
        self._closers: dict[int, Callable[[], object]] = {}
        self._calls_left: int | None = None

    @property
    def expired(self) -> bool:
        """True once the time is up."""
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def remaining(self) -> float | None:
        """Return the seconds left, None without a time limit. Raises as `check` does."""
        self.check()
        return None if self._ends_at is None else max(0.001, self._ends_at - time.monotonic())

    def check(self) -> None:
        """Raise JobTimedOut when the time is up; after a stop JobCancelled if by a user, else JobStopped."""
        if self.expired:
            raise JobTimedOut.after(f"{self._seconds:g}")
        if self._stopped.is_set() and self._cancelled:
            raise JobCancelled("the job was cancelled")
        if self._stopped.is_set():
            raise JobStopped("the job was stopped")

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the deadline. Raises as `check` does."""
        left = self.remaining()
        self._stopped.wait(seconds if left is None else min(seconds, left))
        self.check()

    async def sleep_async(self, seconds: float) -> None:
        """Wait as `sleep` does, in a coroutine."""
        left = self.remaining()
        with self.cancelling_on_stop():
            await asyncio.sleep(seconds if left is None else min(seconds, left))
        self.check()

    def wait_out_doubt(self) -> None:
        """Wait, DOUBT_SECONDS at most, while the job may be another worker's. Raises as `check` does."""
        give_up_at = time.monotonic() + DOUBT_SECONDS
        while self._in_doubt() and time.monotonic() < give_up_at:
            self.sleep(DOUBT_STEP_SECONDS)

    async def wait_out_doubt_async(self) -> None:
        """Wait as `wait_out_doubt` does, in a coroutine."""
        give_up_at = time.monotonic() + DOUBT_SECONDS
        while self._in_doubt() and time.monotonic() < give_up_at:
            await self.sleep_async(DOUBT_STEP_SECONDS)

    def limit_calls(self, max_calls: int | None) -> None:
        """Allow at most `max_calls` provider calls from now on; None allows any number."""
        self._calls_left = max_calls

    def take_call(self) -> bool:
        """Count a provider call. False when no call is left."""
        with self._lock:
            if self._calls_left is None:
                return True
            self._calls_left -= 1
            return self._calls_left >= 0

    @property
    def calls_left(self) -> int | None:
        """How many provider calls are left; None when any number is allowed."""
        return None if self._calls_left is None else max(0, self._calls_left)

    def stop(self, *, cancelled: bool = False) -> None:
        """Stop the job from another thread: shut what the job waits for, and have `check` raise from now on."""
        self._cancelled = cancelled
        self._stopped.set()
        with self._lock:
            closers = list(self._closers.values())
        for close in closers:
            with suppress(Exception):
                close()

    @contextmanager
    def closing_on_stop(self, close: Callable[[], object]) -> Iterator[None]:
        """Have `stop` call `close`, in the thread that stops the job, while the block runs."""
        with self._lock:
            self._closers[id(close)] = close
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._closers.pop(id(close), None)

    @contextmanager
    def cancelling_on_stop(self) -> Iterator[None]:
        """Have `stop` cancel the current task while the block runs: after a stop the block raises as `check` does.

        A cancellation from elsewhere stays a CancelledError.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  the block awaits, so a task runs it
        cancelled_before = task.cancelling()
        stopped = ended = False

        def cancel() -> None:
            nonlocal stopped
            if not ended:
                stopped = True
                task.cancel()

        try:
            with self.closing_on_stop(lambda: loop.call_soon_threadsafe(cancel)):
                yield
        finally:
            ended = True
            if stopped and task.uncancel() <= cancelled_before:
                self.check()


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current_deadline() -> Deadline:
    """Return the deadline of the job that runs this code; outside of a job, a deadline without limits."""
    return _current.get() or Deadline()


@contextmanager
def apply_deadline(deadline: Deadline) -> Iterator[Deadline]:
    """Make `deadline` the current one while the block runs."""
    token = _current.set(deadline)
    try:
        yield deadline
    finally:
        _current.reset(token)


@contextmanager
def job_deadline(seconds: float | None, *, max_calls: int | None) -> Iterator[Deadline]:
    """Run a job under the deadline its worker has set; under a worker that sets none, under a new one of `seconds`."""
    set_by_worker = _current.get()
    with apply_deadline(set_by_worker or Deadline(seconds if seconds is None or seconds > 0 else None)) as deadline:
        deadline.limit_calls(max_calls)
        yield deadline
