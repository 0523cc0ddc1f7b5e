"""Limits on requests, uploads and tokens, counted in Valkey by the library `limits` for all API and worker processes.

Requests are counted for each key over a sliding minute, and wrong keys for each address. Uploads and tokens are counted
for each user over a day that begins with the first of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from client.valkey import keys
from client.valkey.connection import valkey_call
from client.valkey.keys import quoted
from client.valkey.multiplexed import MultiplexedRedis
from errors import QueueUnavailable, TooManyRequests, Unauthenticated, rate_limit_headers
from schemas import Caller
from settings import Settings

_SETTINGS = {"requests": "REQUESTS_PER_MINUTE", "uploads": "UPLOADS_PER_DAY", "tokens": "TOKENS_PER_DAY"}
FAILED_KEYS_PER_MINUTE = 30
_FAILED_KEYS = RateLimitItemPerMinute(FAILED_KEYS_PER_MINUTE)
# The part of an IPv6 address that names a network: its hosts choose the rest.
_IPV6_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class Quota:
    """The state of one limit: `remaining` of `limit` in a window of `window_seconds` that ends in `reset_seconds`."""

    name: str
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: int

    def headers(self) -> Mapping[str, str]:
        """Return the RateLimit header fields."""
        policy = f"q={self.limit};w={self.window_seconds}"
        return rate_limit_headers(self.name, policy, remaining=self.remaining, reset_seconds=self.reset_seconds)


class Quotas:
    """The limits that the settings name; without a setting there is no limit. Shares the connection of `valkey`.

    Every method raises TooManyRequests, which holds the time to wait, and QueueUnavailable.
    """

    def __init__(self, settings: Settings, valkey: MultiplexedRedis) -> None:
        options: dict[str, Any] = {"connection_pool": valkey.connection_pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=keys.QUOTAS, **options)
        storage.bridge.storage = valkey  # type: ignore[attr-defined]  # the library would make a client with connections of its own
        storage.bridge.register_scripts()
        self._storage = storage
        self._per_minute = SlidingWindowCounterRateLimiter(storage)
        self._per_day = FixedWindowRateLimiter(storage)
        requests, uploads, tokens = settings.requests_per_minute, settings.uploads_per_day, settings.tokens_per_day
        self._requests = RateLimitItemPerMinute(requests) if requests else None
        self._uploads = RateLimitItemPerDay(uploads) if uploads else None
        self._tokens = token_limit(tokens) if tokens else None

    async def count_request(self, caller: Caller) -> Quota | None:
        """Count a request and return what is left; None if requests have no limit."""
        if self._requests is None:
            return None
        return await _count(self._per_minute, self._requests, "requests", caller.key_id or caller.user_id)

    async def count_failed_key(self, address: str, refusal: Unauthenticated) -> None:
        """Count a wrong key or token from an IP address. Raises TooManyRequests beyond FAILED_KEYS_PER_MINUTE.

        Only wrong keys count and only wrong keys are refused: a valid key from the same address, as behind NAT, is
        never locked out. A key has 256 random bits, so the limit need not slow down guessing; it bounds what a guesser
        costs.
        """
        network = _network(address)
        async with valkey_call():
            if await self._per_minute.hit(_FAILED_KEYS, "failed-keys", quoted(network)):
                return
            quota = await _read(self._per_minute, _FAILED_KEYS, "failed-keys", network)
        raise TooManyRequests(
            f"{FAILED_KEYS_PER_MINUTE} wrong keys or tokens came from your address within a minute: "
            f"try again in {quota.reset_seconds} s. {refusal.detail}",
            retry_after_seconds=quota.reset_seconds,
        )

    async def count_uploads(self, user_id: str, files: int) -> None:
        """Count files that a user uploads."""
        if self._uploads is None:
            return
        async with valkey_call():
            # `hit` also counts refused files: without this test, a form with too many files would use up the quota.
            fits = await self._per_day.test(self._uploads, "uploads", quoted(user_id), cost=files)
            quota = await _read(self._per_day, self._uploads, "uploads", user_id)
        if files > self._uploads.amount:
            # The files fit into no window. Give the time of a whole window, for the current one may end in a moment.
            quota = replace(quota, reset_seconds=quota.window_seconds)
        if not fits:
            raise _too_many(quota)
        await _count(self._per_day, self._uploads, "uploads", user_id, cost=files)

    async def require_uploads(self, user_id: str) -> None:
        """Refuse a user who has used up the uploads of the day."""
        if self._uploads is not None:
            async with valkey_call():
                quota = await _read(self._per_day, self._uploads, "uploads", user_id)
            if quota.remaining == 0:
                raise _too_many(quota)

    async def give_back_uploads(self, user_id: str, files: int) -> None:
        """Uncount files that were counted but not stored. If Valkey is unavailable they stay counted."""
        if self._uploads is not None:
            with suppress(QueueUnavailable):
                async with valkey_call():
                    await self._storage.incr(
                        self._uploads.key_for("uploads", quoted(user_id)), self._uploads.get_expiry(), amount=-files
                    )

    async def used_today(self, user_id: str) -> tuple[int | None, int | None]:
        """Return how many uploads and how many tokens a user has used today; None for what has no limit."""
        used = []
        async with valkey_call():
            for item, name in ((self._uploads, "uploads"), (self._tokens, "tokens")):
                quota = None if item is None else await _read(self._per_day, item, name, user_id)
                used.append(None if quota is None else quota.limit - quota.remaining)
        return used[0], used[1]

    async def require_tokens(self, user_id: str) -> None:
        """Refuse a user who has used up the tokens of the day. Workers count the tokens."""
        if self._tokens is not None:
            async with valkey_call():
                quota = await _read(self._per_day, self._tokens, "tokens", user_id)
            if quota.remaining == 0:
                raise _too_many(quota)


async def _count(limiter: RateLimiter, item: RateLimitItem, name: str, subject: str, *, cost: int = 1) -> Quota:
    """Count `cost` for a key or a user and return what is left. Raises TooManyRequests."""
    async with valkey_call():
        within_limit = await limiter.hit(item, name, quoted(subject), cost=cost)
        quota = await _read(limiter, item, name, subject)
    if not within_limit:
        raise _too_many(quota)
    return quota


async def _read(limiter: RateLimiter, item: RateLimitItem, name: str, subject: str) -> Quota:
    window = await limiter.get_window_stats(item, name, quoted(subject))
    remaining = max(0, window.remaining)
    return Quota(name, item.amount, item.get_expiry(), remaining, seconds_until(window.reset_time))


def _network(address: str) -> str:
    """Return the address whose failures are counted together: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), _IPV6_NETWORK_BITS), strict=False))


def _too_many(quota: Quota) -> TooManyRequests:
    return TooManyRequests(
        f"the limit of {quota.limit} {quota.name} is reached ({_SETTINGS[quota.name]}): "
        f"try again in {quota.reset_seconds} s",
        retry_after_seconds=quota.reset_seconds,
        headers=quota.headers(),
    )


def token_limit(tokens_per_day: int) -> RateLimitItem:
    """Return the limit on tokens that the API and the workers share."""
    return RateLimitItemPerDay(tokens_per_day)


def seconds_until(reset_time: float) -> int:
    """Return the full seconds until a time in Unix seconds, at least 1."""
    return max(1, math.ceil(reset_time - time.time()))
