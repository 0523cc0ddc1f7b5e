"""Since when workers find the vector store away, for `/ready`."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import redis.asyncio as aioredis
from redis import Redis

from client.valkey import keys

# The note outlives a worker that dies during an outage for so long.
KEEP_SECONDS = 10


def note_outage(valkey: Redis, since: datetime) -> None:
    """Note an outage, or that it goes on. The first `since` is kept. Raises RedisError."""
    if not valkey.set(keys.STORE_OUTAGE, since.isoformat(), nx=True, ex=KEEP_SECONDS):
        valkey.expire(keys.STORE_OUTAGE, KEEP_SECONDS)


def end_outage(valkey: Redis) -> None:
    """Note that the vector store answers. Another worker that does not reach the store notes its outage again."""
    valkey.delete(keys.STORE_OUTAGE)


async def outage_since(valkey: aioredis.Redis) -> datetime | None:
    """Return since when a worker finds the vector store away; None while all reach it. Raises RedisError."""
    noted = cast("bytes | None", await valkey.get(keys.STORE_OUTAGE))
    try:
        return datetime.fromisoformat(noted.decode()) if noted else None
    except ValueError:
        return None
