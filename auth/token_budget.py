"""The tokens that answers cost: workers count them and hold users to the daily limit.

Imported only where TOKENS_PER_DAY is set, for the import costs 40 ms.
"""

from __future__ import annotations

import logging

from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import Redis
from redis.exceptions import RedisError

from auth.quotas import seconds_until, token_limit
from client.valkey import keys
from client.valkey.keys import quoted
from errors import TooManyRequests

log = logging.getLogger("worker")


def require_tokens(valkey: Redis, *, user_id: str, limit: int) -> None:
    """Refuse a user who has no tokens left today. Raises TooManyRequests; does nothing while Valkey is unavailable."""
    item = token_limit(limit)
    try:
        window = _limiter(valkey).get_window_stats(item, "tokens", quoted(user_id))
    except (RedisError, OSError):
        log.warning("the tokens of a user could not be read: Valkey does not answer")
        return
    if window.remaining <= 0:
        reset_seconds = seconds_until(window.reset_time)
        raise TooManyRequests(
            f"the {limit} tokens of the day were used up before this question's turn (TOKENS_PER_DAY): "
            f"ask again in {reset_seconds} s",
            retry_after_seconds=reset_seconds,
        )


def count_tokens(valkey: Redis, *, user_id: str, tokens: int, limit: int) -> None:
    """Count the tokens of a user's question. If Valkey is unavailable the count is lost, not the answer."""
    try:
        _limiter(valkey).hit(token_limit(limit), "tokens", quoted(user_id), cost=tokens)
    except (RedisError, OSError):
        log.warning("%d tokens were not counted: Valkey does not answer", tokens)


def _limiter(valkey: Redis) -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(
        RedisStorage("redis://", key_prefix=keys.QUOTAS, connection_pool=valkey.connection_pool)
    )
