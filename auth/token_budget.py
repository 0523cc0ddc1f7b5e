"""What answers cost, counted and held to the limit by workers. Imported only where tokens have a limit."""

from __future__ import annotations

import logging
import math
import time

from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import Redis
from redis.exceptions import RedisError

from auth.quotas import PREFIX, tokens_item
from client.valkey.keys import quoted
from errors import TooManyRequests

log = logging.getLogger("worker")


def require(valkey: Redis, *, user_id: str, most: int) -> None:
    """Make sure that a user has tokens left today. Raises TooManyRequests; not while Valkey is away."""
    item = tokens_item(most)
    try:
        spent = _limiter(valkey).get_window_stats(item, "tokens", quoted(user_id))
    except (RedisError, OSError):
        log.warning("tokens could not be counted: Valkey does not answer")
        return
    if spent.remaining <= 0:
        left = max(1, math.ceil(spent.reset_time - time.time()))
        raise TooManyRequests(
            f"the {most} tokens of the day were used up before this question's turn came (TOKENS_PER_DAY): "
            f"ask again in {left} s",
            retry_after_seconds=left,
        )


def spend(valkey: Redis, *, user_id: str, tokens: int, most: int) -> None:
    """Count tokens that a user's question cost. A Valkey that is away costs the count, not the answer."""
    try:
        _limiter(valkey).hit(tokens_item(most), "tokens", quoted(user_id), cost=tokens)
    except (RedisError, OSError):
        log.warning("%d tokens could not be counted: Valkey does not answer", tokens)


def _limiter(valkey: Redis) -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(RedisStorage("redis://", key_prefix=PREFIX, connection_pool=valkey.connection_pool))
