"""A circuit breaker that all workers share: while the provider is down, calls fail at once instead of each in turn.

pybreaker keeps its state in Valkey. It holds a lock while it makes a call, which would have one call at a time; so
calls are made outside of it, and it is only asked before and told after.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pybreaker
from redis import Redis

# So many calls in a row must fail, over all workers.
FAILURES = 10
# Then so long passes before one call is let through to look.
PAUSE_SECONDS = 15
# State is looked up, and success noted, at most so often in a process.
FRESH_SECONDS = 0.25
_NAMESPACE = "rag:provider"
_TRIAL_KEY = "rag:provider:trial"


class CircuitBreaker:
    """The breaker of the model provider. Raises RedisError while Valkey is away."""

    def __init__(self, valkey: Redis, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._valkey = valkey
        self._pause_seconds = pause_seconds
        self._breaker: pybreaker.CircuitBreaker | None = None
        self._looked_at = 0.0
        self._noted_at = 0.0
        self._state = pybreaker.STATE_CLOSED

    def refuses(self) -> bool:
        """Tell whether calls are paused now. When the pause is over, one caller in all is let through."""
        now = time.monotonic()
        if self._state == pybreaker.STATE_CLOSED and now - self._looked_at < FRESH_SECONDS:
            return False
        self._looked_at = now
        self._state = self._shared().current_state
        if self._state == pybreaker.STATE_CLOSED:
            return False
        opened_at = self._shared()._state_storage.opened_at  # noqa: SLF001  it has no public name
        pause = timedelta(seconds=self._pause_seconds)
        if self._state == pybreaker.STATE_OPEN and opened_at and datetime.now(UTC) < opened_at + pause:
            return True
        return not self._valkey.set(_TRIAL_KEY, 1, nx=True, px=int(1000 * self._pause_seconds))

    def succeeded(self) -> None:
        """Note that a call was answered, if only with a refusal."""
        now = time.monotonic()
        if self._state != pybreaker.STATE_CLOSED or now - self._noted_at >= FRESH_SECONDS:
            self._noted_at = now
            self._shared().call(lambda: None)
            self._valkey.delete(_TRIAL_KEY)
            self._state = pybreaker.STATE_CLOSED

    def failed(self) -> None:
        """Note that a call was not answered, or with a failure of the server's."""
        try:
            self._shared().call(_fail)
        except (_Failure, pybreaker.CircuitBreakerError):
            self._looked_at = 0.0
            self._valkey.delete(_TRIAL_KEY)

    def _shared(self) -> pybreaker.CircuitBreaker:
        if self._breaker is None:
            storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, self._valkey, namespace=_NAMESPACE)
            self._breaker = pybreaker.CircuitBreaker(
                fail_max=FAILURES, reset_timeout=self._pause_seconds, state_storage=storage
            )
        return self._breaker


class _Failure(Exception):
    pass


def _fail() -> None:
    raise _Failure
