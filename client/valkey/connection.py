"""Calls from the API to Valkey: a time limit for each, and errors that a client understands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError, ResponseError

from errors import QueueUnavailable

# Two tries of 1 s each, and 0.2 s for the rest.
CALL_SECONDS = 2.2
RETRY_AFTER_SECONDS = 5


@asynccontextmanager
async def valkey_call(seconds: float = CALL_SECONDS) -> AsyncIterator[None]:
    """Limit the time of the Valkey calls in the block, and turn their errors into QueueUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except AuthenticationError:
        raise _unavailable("Valkey rejected the password: check VALKEY_URL") from None
    except OutOfMemoryError:
        raise _unavailable("Valkey has no memory left for another job; try again later") from None
    except (RedisError, OSError, TimeoutError):
        raise _unavailable("the queue cannot be reached; try again in a moment") from None


def none_for_wrong_type(replies: Iterable[Any]) -> list[Any]:
    """Return a pipeline's replies; None where a key holds the wrong type. Raises any other error among them."""
    checked: list[Any] = []
    for reply in replies:
        if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
            checked.append(None)
        elif isinstance(reply, RedisError):
            raise reply
        else:
            checked.append(reply)
    return checked


def _unavailable(detail: str) -> QueueUnavailable:
    return QueueUnavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
