"""A bound on calls per minute that all workers share, in Valkey."""

from __future__ import annotations

from redis import Redis

# The generic cell rate algorithm: one number says when the next call may go, in milliseconds of Valkey's clock.
# KEYS: the number. ARGV: milliseconds between calls, how many may go at once, longest wait.
# Returns how long to wait, or -1 when that is longer, and then nothing is taken.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval, at_once = tonumber(ARGV[1]), tonumber(ARGV[2])
local free_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) or 0, now) + interval
local wait = math.max(0, math.ceil(free_at - interval * at_once - now))
if wait > tonumber(ARGV[3]) then return -1 end
redis.call('SET', KEYS[1], free_at, 'PX', math.ceil(free_at - now) + 60000)
return wait
"""
KEY = "rag:provider:bucket"
MS_PER_MINUTE = 60_000


class RateLimiter:
    """At most `per_minute` calls in a minute, a second's worth of them at once."""

    def __init__(self, valkey: Redis, per_minute: int) -> None:
        self._valkey = valkey
        self._interval = MS_PER_MINUTE / per_minute
        self._at_once = max(1, per_minute // 60)

    def reserve(self, most_seconds: float) -> float | None:
        """Take a place for a call. Gives the seconds to wait for it; None when they would be more than `most`."""
        limit = int(most_seconds * 1000)
        wait = int(self._valkey.eval(_TAKE, 1, KEY, self._interval, self._at_once, limit))
        return None if wait < 0 else wait / 1000
