"""How long a piece of work may go on, for the code it calls: how much time is left, and whether to stop.

A thread that waits for a socket sees no signal and no exception of another thread. So whoever opens something that
can block registers how to shut it, and ending the scope shuts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from errors import JobCancelled, JobStopped, JobTimedOut


class Deadline:
    """The time and the calls of one job. `seconds` None is no limit; so is `calls_left` None."""

    def __init__(self, seconds: float | None = None) -> None:
        self._limit = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._ended = threading.Event()
        self._cancelled = False
        self._lock = threading.Lock()
        self._open: dict[int, Callable[[], None]] = {}
        self._calls_left: int | None = None

    @property
    def expired(self) -> bool:
        """True once its time is up."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def remaining(self) -> float | None:
        """Return the seconds left; None without a limit. Raises as `check` does."""
        self.check()
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def check(self) -> None:
        """Raise JobTimedOut when the time is up, JobStopped when the scope was ended, JobCancelled by a user."""
        if self.expired:
            raise JobTimedOut(f"the job ran longer than {self._limit:g} s (JOB_TIMEOUT_SECONDS)")
        if self._ended.is_set() and self._cancelled:
            raise JobCancelled("the job was cancelled")
        if self._ended.is_set():
            raise JobStopped("the job was stopped")

    def sleep(self, seconds: float) -> None:
        """Wait, but not past the end. Raises as `check` does."""
        left = self.remaining()
        self._ended.wait(seconds if left is None else min(seconds, left))
        self.check()

    def allow_calls(self, most: int | None) -> None:
        """Bound the calls of the model provider from now on."""
        self._calls_left = most

    def use_call(self) -> bool:
        """Count a call of the model provider; False when no more are allowed."""
        with self._lock:
            if self._calls_left is None:
                return True
            self._calls_left -= 1
            return self._calls_left >= 0

    @property
    def calls_left(self) -> int | None:
        """How many calls of the model provider are still allowed; None when any number is."""
        return None if self._calls_left is None else max(0, self._calls_left)

    def end(self, *, cancelled: bool = False) -> None:
        """Stop the work: shut what it waits for, and have it raise at its next check."""
        self._cancelled = cancelled
        self._ended.set()
        with self._lock:
            closers = list(self._open.values())
        for close in closers:
            with suppress(Exception):
                close()

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """Have `close` called, from another thread, if the scope ends within the block."""
        with self._lock:
            self._open[id(close)] = close
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._open.pop(id(close), None)


_current: ContextVar[Deadline | None] = ContextVar("scope", default=None)


def current_deadline() -> Deadline:
    """Return the scope this code runs in; one without limits outside of any."""
    return _current.get() or Deadline()


@contextmanager
def within(scope: Deadline) -> Iterator[Deadline]:
    """Run the block in a scope."""
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def job_deadline(seconds: float | None, *, max_calls: int | None) -> Iterator[Deadline]:
    """Run a job in the scope its worker gave it; under a worker that gives none, in one of `seconds`."""
    given = _current.get()
    with within(given or Deadline(seconds if seconds is None or seconds > 0 else None)) as scope:
        scope.allow_calls(max_calls)
        yield scope
