"""The event loop that runs the jobs written as coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import Any

from queues.ragworker.execution import Execution

log = logging.getLogger("rq.worker")

CLOSE_SECONDS = 5.0


class JobLoop:
    """One event loop in a thread of its own, for any number of jobs at once.

    What a job computes, and calls that block, it hands to `threads` threads with `asyncio.to_thread`. `on_close` is
    awaited in the loop before it ends.
    """

    def __init__(
        self,
        run: Callable[[Execution], Coroutine[Any, Any, None]],
        *,
        threads: int,
        on_close: Callable[[], Awaitable[None]],
    ) -> None:
        self._run = run
        self._on_close = on_close
        self._loop = _new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="compute"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, execution: Execution) -> None:
        """Run an execution at once. Stopping its deadline cancels its task."""
        self._loop.call_soon_threadsafe(self._start_task, execution)

    def close(self) -> None:
        """Cancel the tasks that still run, and end the loop."""
        closing = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with suppress(TimeoutError):
            closing.result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _start_task(self, execution: Execution) -> None:
        # In a new context, so that nothing leaks from one job into the next.
        task = self._loop.create_task(self._run(execution), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._on_close()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop where it is installed: a streamed token takes 8 us of CPU instead of 10."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def canceller() -> Callable[[], None]:
    """Return a function that cancels the current task, from any thread."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def cancel() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel) if task is not None else None

    return cancel
