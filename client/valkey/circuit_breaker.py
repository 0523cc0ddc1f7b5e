"""A circuit breaker that all workers share: while the model provider is down, calls fail at once.

pybreaker keeps its state in Valkey. pybreaker also holds a lock during a call, which would allow one call at a time. So
this class makes no calls: the caller asks `refuses` before a call, and reports `succeeded` or `failed` after it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pybreaker
from redis import Redis

from client.valkey import keys

# How many calls in a row must fail, over all workers, to open the breaker.
FAILURES = 10
# After this pause, one call is let through as a trial.
PAUSE_SECONDS = 15
# A process reads the shared state, and reports a success, at most once in this time.
FRESH_SECONDS = 0.25


class CircuitBreaker:
    """The breaker of the model provider. Raises RedisError while Valkey is away."""

    def __init__(self, valkey: Redis, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._valkey = valkey
        self._pause_seconds = pause_seconds
        self._breaker: pybreaker.CircuitBreaker | None = None
        self._read_at = 0.0
        self._reported_at = 0.0
        self._state = pybreaker.STATE_CLOSED

    def refuses(self) -> bool:
        """Return True if calls are paused now. After the pause, one call is let through over all workers."""
        now = time.monotonic()
        if self._state == pybreaker.STATE_CLOSED and now - self._read_at < FRESH_SECONDS:
            return False
        self._read_at = now
        self._state = self._shared().current_state
        if self._state == pybreaker.STATE_CLOSED:
            return False
        opened_at = self._shared()._state_storage.opened_at  # noqa: SLF001  pybreaker has no public name for it
        pause = timedelta(seconds=self._pause_seconds)
        if self._state == pybreaker.STATE_OPEN and opened_at and datetime.now(UTC) < opened_at + pause:
            return True
        return not self._valkey.set(keys.CIRCUIT_BREAKER_TRIAL, 1, nx=True, px=int(1000 * self._pause_seconds))

    def succeeded(self) -> None:
        """Report a call that the provider answered, also one that it refused."""
        now = time.monotonic()
        if self._state != pybreaker.STATE_CLOSED or now - self._reported_at >= FRESH_SECONDS:
            self._reported_at = now
            self._shared().call(lambda: None)
            self._valkey.delete(keys.CIRCUIT_BREAKER_TRIAL)
            self._state = pybreaker.STATE_CLOSED

    def failed(self) -> None:
        """Report a call that had no answer, or a server error."""
        try:
            self._shared().call(_fail)
        except (_Failure, pybreaker.CircuitBreakerError):
            self._read_at = 0.0
            self._valkey.delete(keys.CIRCUIT_BREAKER_TRIAL)

    def _shared(self) -> pybreaker.CircuitBreaker:
        if self._breaker is None:
            storage = pybreaker.CircuitRedisStorage(
                pybreaker.STATE_CLOSED, self._valkey, namespace=keys.CIRCUIT_BREAKER
            )
            self._breaker = pybreaker.CircuitBreaker(
                fail_max=FAILURES, reset_timeout=self._pause_seconds, state_storage=storage
            )
        return self._breaker


class _Failure(Exception):
    pass


def _fail() -> None:
    raise _Failure
