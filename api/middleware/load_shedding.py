"""Refusing new requests while the event loop of this process cannot keep up with those it has accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import error_response
from errors import ServerBusy

# A request takes several steps of the loop. A single slow step may be a process that was stopped for a moment.
MAX_STEP_SECONDS: Final = 1.0
SLOW_STEPS: Final = 2
TICK_SECONDS: Final = 0.1
RETRY_AFTER_SECONDS: Final = 2
# What restarts a process that does not answer here would not make it faster.
ALWAYS_ANSWERED: Final = "/health"


class LoadShedding:
    """ASGI middleware that answers 503 to a request that comes while steps of the event loop take too long.

    A timer measures the steps: how late it runs is how long the loop was busy with other requests.
    """

    def __init__(self, app: ASGIApp, *, max_step_seconds: float = MAX_STEP_SECONDS) -> None:
        self._app = app
        self._max_step_seconds = max_step_seconds
        self._slow_steps = 0
        self._measured: asyncio.AbstractEventLoop | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the answer to a request: without a coroutine of our own, which every open stream would keep."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if self._measured is None:
            self._measured = asyncio.get_running_loop()
            self._expect_tick(self._measured)
        if self._slow_steps >= SLOW_STEPS and scope["path"] != ALWAYS_ANSWERED:
            error = ServerBusy(
                "the API has more requests than it can answer: try again in a moment",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
            return error_response(error)(scope, receive, send)
        return self._app(scope, receive, send)

    def _expect_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(TICK_SECONDS, self._tick, loop, loop.time() + TICK_SECONDS)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        is_slow = loop.time() - due > self._max_step_seconds
        self._slow_steps = self._slow_steps + 1 if is_slow else 0
        self._expect_tick(loop)
