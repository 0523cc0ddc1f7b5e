"""Since when workers find the vector store away, and how many uploads lack chunks in it, for `/ready`."""

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


def note_incomplete(valkey: Redis, uploads: int, *, seconds: int) -> None:
    """Note for some time how many uploads lack chunks. Raises RedisError."""
    valkey.set(keys.STORE_INCOMPLETE, uploads, ex=max(1, seconds))


def end_incomplete(valkey: Redis) -> None:
    """Note that no upload lacks chunks. Raises RedisError."""
    valkey.delete(keys.STORE_INCOMPLETE)


async def incomplete_uploads(valkey: aioredis.Redis) -> int:
    """Return how many uploads lack chunks. Raises RedisError."""
    noted = cast("bytes | None", await valkey.get(keys.STORE_INCOMPLETE))
    return int(noted) if noted and noted.isdigit() else 0
