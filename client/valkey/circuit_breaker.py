"""A circuit breaker that all workers share: while the model provider is down, calls fail at once.

Three keys in Valkey hold its state: how many calls in a row failed; while calls are paused, a key that expires with the
pause; while one call is on trial after a pause, a key that expires if the caller dies. Each step is one round trip.
"""

from __future__ import annotations

import time
from typing import Any, cast

from redis import Redis

from client.valkey import keys

# How many calls in a row must fail, over all workers, to open the breaker.
FAILURES = 10
# After this pause, one call is let through as a trial.
PAUSE_SECONDS = 15
# While calls succeed, a process reads the shared state at most once in this time.
FRESH_SECONDS = 0.25


class CircuitBreaker:
    """The breaker of the model provider. Safe for threads. Raises RedisError while Valkey is away."""

    def __init__(self, valkey: Redis, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._valkey = valkey
        self._pause_ms = int(1000 * pause_seconds)
        self._read_at = float("-inf")
        self._failures = 0

    def is_due(self) -> bool:
        """Return True if the caller must ask `refuses` before a call. Costs 0.2 µs, and no Valkey.

        While the breaker is closed, one caller in FRESH_SECONDS must ask; the others rely on the state that is known.
        """
        now = time.monotonic()
        if self._failures < FAILURES and now - self._read_at < FRESH_SECONDS:
            return False
        self._read_at = now
        return True

    def refuses(self) -> bool:
        """Return True if calls are paused now. After the pause, one call is let through over all workers."""
        reply = self._valkey.mget(keys.CIRCUIT_BREAKER_FAILURES, keys.CIRCUIT_BREAKER_PAUSE)
        failures, paused = cast("list[Any]", reply)
        self._failures = int(failures or 0)
        if self._failures < FAILURES:
            return False
        return bool(paused) or not self._valkey.set(keys.CIRCUIT_BREAKER_TRIAL, 1, nx=True, px=self._pause_ms)

    @property
    def awaits_success(self) -> bool:
        """True if a success must be reported: calls before it failed."""
        return self._failures > 0

    def succeeded(self) -> None:
        """Report a call that the provider answered, also one that it refused: the next failure counts as the first."""
        self._valkey.delete(keys.CIRCUIT_BREAKER_FAILURES, keys.CIRCUIT_BREAKER_PAUSE, keys.CIRCUIT_BREAKER_TRIAL)
        self._failures = 0

    def is_open(self) -> bool:
        """Return True from the moment at which calls are paused until a call succeeds."""
        return int(cast("bytes | None", self._valkey.get(keys.CIRCUIT_BREAKER_FAILURES)) or 0) >= FAILURES

    def failed(self) -> None:
        """Report a call that had no answer, or a server error."""
        self._failures = int(self._valkey.incr(keys.CIRCUIT_BREAKER_FAILURES))
        if self._failures >= FAILURES:
            # A call that began before the pause and fails during it does not make the pause longer.
            self._valkey.set(keys.CIRCUIT_BREAKER_PAUSE, 1, nx=True, px=self._pause_ms)
            self._valkey.delete(keys.CIRCUIT_BREAKER_TRIAL)
