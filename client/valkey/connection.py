"""Talking to Valkey from the API: never for long, and with errors a client understands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError, ResponseError

from errors import QueueUnavailable

DEADLINE_SECONDS = 2.2
RETRY_AFTER_SECONDS = 5


@asynccontextmanager
async def deadline(seconds: float = DEADLINE_SECONDS) -> AsyncIterator[None]:
    """Bound a talk with Valkey in time, and turn its errors into QueueUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except AuthenticationError:
        raise _unavailable("Valkey rejected the password: check VALKEY_URL") from None
    except OutOfMemoryError:
        raise _unavailable("Valkey has no memory left for another job; try again later") from None
    except (RedisError, OSError, TimeoutError):
        raise _unavailable("the queue cannot be reached; try again in a moment") from None


def of_right_type(answers: Iterable[Any]) -> list[Any]:
    """Give a pipeline's answers, None for a key under which there is something of another type. Raises RedisError."""
    found = []
    for answer in answers:
        strange = isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE")
        if isinstance(answer, RedisError) and not strange:
            raise answer
        found.append(None if strange else answer)
    return found


def _unavailable(detail: str) -> QueueUnavailable:
    return QueueUnavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
