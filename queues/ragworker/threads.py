"""Threads that run jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from queues.ragworker.execution import Execution


class JobThreads:
    """Threads that are kept for the next job.

    A thread is started whenever none is idle. So one that hangs in a job given up long ago costs nobody a place;
    if it ever returns, it is of use again. They are daemons: a job that hangs does not keep the process alive.
    """

    def __init__(self, run: Callable[[Execution], None], *, keep: int) -> None:
        self._run = run
        self._keep = keep
        self._waiting: SimpleQueue[Execution | None] = SimpleQueue()
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
        self._waiting.put(execution)

    def close(self) -> None:
        """Let idle threads end."""
        with self._lock:
            idle, self._idle, self._keep = self._idle, 0, 0
        for _ in range(idle):
            self._waiting.put(None)

    def _loop(self) -> None:
        while (execution := self._waiting.get()) is not None:
            self._run(execution)
            with self._lock:
                if self._idle >= self._keep:
                    self._threads -= 1
                    return
                self._idle += 1
