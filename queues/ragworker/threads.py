"""The threads that run jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from queues.ragworker.execution import Execution


class JobThreads:
    """A pool of threads without an upper bound, of which at most `keep_idle` wait for the next job.

    A job never waits for a thread: `submit` starts one whenever no thread is idle. So a thread that hangs in an
    abandoned job takes no slot from others; a thread that returns late serves again. All threads are daemons: a job
    that hangs does not keep the process alive.
    """

    def __init__(self, run: Callable[[Execution], None], *, keep_idle: int) -> None:
        self._run = run
        self._keep_idle = keep_idle
        self._submitted: SimpleQueue[Execution | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0

    def submit(self, execution: Execution) -> None:
        """Run an execution at once."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                self._threads += 1
                threading.Thread(target=self._loop, name=f"job-{self._threads}", daemon=True).start()
        self._submitted.put(execution)

    def close(self) -> None:
        """End the idle threads now, and the others after their job."""
        with self._lock:
            idle, self._idle, self._keep_idle = self._idle, 0, 0
        for _ in range(idle):
            self._submitted.put(None)

    def _loop(self) -> None:
        while (execution := self._submitted.get()) is not None:
            self._run(execution)
            with self._lock:
                if self._idle >= self._keep_idle:
                    self._threads -= 1
                    return
                self._idle += 1
