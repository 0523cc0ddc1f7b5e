"""Threads for calls that block, a few for each kind of call, so that a slow kind does not delay the others.

Nothing that `/health` needs runs here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from errors import ServerBusy

_P = ParamSpec("_P")
_R = TypeVar("_R")

BUSY_SECONDS = 5


class BoundedPool:
    """Runs functions in `threads` threads of its own. Refuses calls while `max_waiting` calls wait."""

    def __init__(self, kind: str, *, threads: int, max_waiting: int) -> None:
        self._kind = kind
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"api-{kind}")
        self._max_calls = threads + max_waiting
        self._calls = 0

    async def run(self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a function as asyncio.to_thread does. Raises ServerBusy."""
        if self._calls >= self._max_calls:
            raise ServerBusy(
                f"too many requests wait for the server's {self._kind}: try again in {BUSY_SECONDS} s",
                retry_after_seconds=BUSY_SECONDS,
            )
        call = partial(copy_context().run, function, *args, **kwargs)
        self._calls += 1
        running = asyncio.get_running_loop().run_in_executor(self._executor, call)
        running.add_done_callback(self._ended)
        return await running

    def close(self) -> None:
        """Drop the calls that wait. Those that run end by themselves."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ended(self, _call: object) -> None:
        self._calls -= 1


class Pools:
    """The pools of one API process."""

    def __init__(self) -> None:
        self.sql = BoundedPool("database", threads=4, max_waiting=2_000)
        # Storing a file takes an fsync, or an upload to S3.
        self.files = BoundedPool("files", threads=4, max_waiting=1_000)
        # Each thread has a reader process that draws or reads a page.
        self.pages = BoundedPool("pages", threads=2, max_waiting=100)
        # A lookup takes up to two seconds where a resolver hangs: with these numbers the last waits eight.
        self.resolver = BoundedPool("resolver", threads=8, max_waiting=24)
        self.webhooks = BoundedPool("webhooks", threads=4, max_waiting=200)

    def close(self) -> None:
        """Close the pools."""
        for pool in (self.sql, self.files, self.pages, self.resolver, self.webhooks):
            pool.close()
