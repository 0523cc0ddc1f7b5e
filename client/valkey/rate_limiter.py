"""A limit of calls per minute that all workers share, in Valkey."""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from client.valkey import keys
from client.valkey.scripts import load

_RESERVE = load(Path(__file__).parent / "lua" / "reserve_call.lua")
MS_PER_MINUTE = 60_000


class RateLimiter:
    """At most `per_minute` calls a minute, over all workers, with bursts of up to one second's calls."""

    def __init__(self, valkey: Redis, per_minute: int) -> None:
        self._valkey = valkey
        self._interval = MS_PER_MINUTE / per_minute
        self._burst = max(1, per_minute // 60)

    def reserve(self, max_seconds: float) -> float | None:
        """Reserve a call and return the seconds to wait before it; None, without a call, if over `max_seconds`."""
        limit = int(max_seconds * 1000)
        wait = int(_RESERVE.call(self._valkey, [keys.RATE_LIMITER], [self._interval, self._burst, limit]))
        return None if wait < 0 else wait / 1000
