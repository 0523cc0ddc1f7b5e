"""What answers cost, counted by workers for `quotas.Quotas.require_tokens`. Imported only where tokens have a limit."""

from __future__ import annotations

import logging

from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import Redis
from redis.exceptions import RedisError

from client.keys import quoted
from client.quotas import PREFIX, tokens_item

log = logging.getLogger("worker")


def spend(valkey: Redis, *, user_id: str, tokens: int, most: int) -> None:
    """Count tokens that a user's question cost. A Valkey that is away costs the count, not the answer."""
    storage = RedisStorage("redis://", key_prefix=PREFIX, connection_pool=valkey.connection_pool)
    try:
        FixedWindowRateLimiter(storage).hit(tokens_item(most), "tokens", quoted(user_id), cost=tokens)
    except (RedisError, OSError):
        log.warning("%d tokens could not be counted: Valkey does not answer", tokens)
