"""An event loop whose clock jumps to the next timer: code that waits for time alone runs at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Passes the time instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def pass_time(self, seconds: float) -> None:
        self._virtual.now += seconds


def run_in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits timers only."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)


def keep_busy(seconds: float) -> None:
    """Let time pass while the loop, which must be one of `run_in_virtual_time`, does something else."""
    cast("_Loop", asyncio.get_running_loop()).pass_time(seconds)
