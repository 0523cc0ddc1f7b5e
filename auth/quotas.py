"""How much a caller may ask for, counted in Valkey by the library `limits`, for all processes of the API and workers.

Requests are counted by key, over a window that slides; uploads and tokens by user, over a day that begins with the
first of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import redis.asyncio as redis
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from client.valkey.connection import valkey_call
from client.valkey.keys import quoted
from errors import TooManyRequests, rate_limit_headers
from schemas import Caller
from settings import Settings

PREFIX = "rag:limits"


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of one limit: `left` of `most` in a window of `seconds`, which ends in `reset_seconds`."""

    name: str
    most: int
    seconds: int
    left: int
    reset_seconds: int

    def headers(self) -> Mapping[str, str]:
        """Return the RateLimit header fields."""
        policy = f"q={self.most};w={self.seconds}"
        return rate_limit_headers(self.name, policy, left=self.left, seconds=self.reset_seconds)


class Quotas:
    """The limits that the settings set; what they do not is without limit. Shares the connections of `pool`.

    Every method raises TooManyRequests, whose quota tells when to come back, and QueueUnavailable.
    """

    def __init__(self, settings: Settings, pool: redis.ConnectionPool) -> None:
        options: dict[str, Any] = {"connection_pool": pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=PREFIX, **options)
        self._by_second = SlidingWindowCounterRateLimiter(storage)
        self._by_day = FixedWindowRateLimiter(storage)
        minute, uploads, tokens = settings.requests_per_minute, settings.uploads_per_day, settings.tokens_per_day
        self._requests = RateLimitItemPerMinute(minute) if minute else None
        self._uploads = RateLimitItemPerDay(uploads) if uploads else None
        self._tokens = tokens_item(tokens) if tokens else None

    async def count_request(self, caller: Caller) -> Quota | None:
        """Count a request; return what is left, None when requests have no limit."""
        if self._requests is None:
            return None
        whose = caller.key_id or caller.user_id
        return await _count(self._by_second, self._requests, "requests", whose)

    async def count_uploads(self, user_id: str, files: int) -> None:
        """Count files that a user sends."""
        if self._uploads is None:
            return
        async with valkey_call():
            # Looked at first, since the library counts what it refuses, too: one form too many would use up the day.
            fits = await self._by_day.test(self._uploads, "uploads", quoted(user_id), cost=files)
            quota = await _left(self._by_day, self._uploads, "uploads", user_id)
        if files > self._uploads.amount:
            quota = replace(quota, reset_seconds=quota.seconds)  # waiting will not help, nor is it begun to be waited
        if not fits:
            raise _refusal(quota)
        await _count(self._by_day, self._uploads, "uploads", user_id, cost=files)

    async def require_tokens(self, user_id: str) -> None:
        """Make sure that a user has not used up the tokens of the day. Workers count them."""
        if self._tokens is not None:
            async with valkey_call():
                quota = await _left(self._by_day, self._tokens, "tokens", user_id)
            if quota.left == 0:
                raise _refusal(quota)


async def _count(limiter: RateLimiter, item: RateLimitItem, name: str, whose: str, *, cost: int = 1) -> Quota:
    async with valkey_call():
        good = await limiter.hit(item, name, quoted(whose), cost=cost)
        quota = await _left(limiter, item, name, whose)
    if not good:
        raise _refusal(quota)
    return quota


async def _left(limiter: RateLimiter, item: RateLimitItem, name: str, whose: str) -> Quota:
    seen = await limiter.get_window_stats(item, name, quoted(whose))
    reset_seconds = max(1, math.ceil(seen.reset_time - time.time()))
    return Quota(name, item.amount, item.get_expiry(), max(0, seen.remaining), reset_seconds)


def _refusal(quota: Quota) -> TooManyRequests:
    what = {"requests": "REQUESTS_PER_MINUTE", "uploads": "UPLOADS_PER_DAY", "tokens": "TOKENS_PER_DAY"}[quota.name]
    return TooManyRequests(
        f"the limit of {quota.most} {quota.name} is reached ({what}): come back in {quota.reset_seconds} s",
        retry_after_seconds=quota.reset_seconds,
        headers=quota.headers(),
    )


def tokens_item(tokens: int) -> RateLimitItem:
    """Describe the limit of tokens, as API and workers both count it."""
    return RateLimitItemPerDay(tokens)
