"""Noticing that this process was stopped for a while, as by SIGSTOP or in a paused container.

All time limits pass meanwhile. A call of the model provider then seems to have timed out, though the provider answered
and nobody could read it. And other workers take over the jobs, which this process must not go on with once it wakes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# The longest time between two ticks of a process that runs; ticks come every 0.1 s.
LONGEST_TICK_SECONDS = 5.0


class Suspension:
    """Measures the time between ticks. Safe for threads: one ticks, all may ask."""

    def __init__(
        self, longest_tick_seconds: float = LONGEST_TICK_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._longest_tick_seconds = longest_tick_seconds
        self._clock = clock
        self._ticked_at = clock()
        self._woke_at: float | None = None
        self._confirmed_at = clock()

    def tick(self) -> None:
        """Note that the process runs."""
        now = self._clock()
        if now - self._ticked_at > self._longest_tick_seconds:
            self._woke_at = now
        self._ticked_at = now

    def confirm(self, moment: float) -> None:
        """Note that Valkey said at this moment of the clock, or later, which jobs this worker still holds."""
        self._confirmed_at = moment

    @property
    def unconfirmed(self) -> bool:
        """True if the process was stopped for a while since Valkey last said which jobs this worker still holds."""
        return self.happened_since(self._confirmed_at)

    def happened_since(self, moment: float) -> bool:
        """Return True if the process was stopped for a while after this moment of the clock, or is just waking."""
        if self._woke_at is not None and self._woke_at >= moment:
            return True
        return self._clock() - max(self._ticked_at, moment) > self._longest_tick_seconds
