"""What clients are told of errors of Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.exceptions import AuthenticationError, OutOfMemoryError
from redis.exceptions import ConnectionError as ValkeyConnectionError

from client.valkey.connection import valkey_call
from errors import QueueUnavailable
from webhooks.store import translated_errors

CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")


def in_async_call(error: Exception) -> None:
    async def call() -> None:
        async with valkey_call():
            raise error

    asyncio.run(call())


def in_sync_call(error: Exception) -> None:
    with translated_errors():
        raise error


@pytest.mark.parametrize("raise_in_call", [in_async_call, in_sync_call])
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (AuthenticationError("invalid username-password pair"), "rejected the password"),
        (OutOfMemoryError("command not allowed"), "no memory left"),
        (ValkeyConnectionError("gone"), "cannot be reached"),
        (TimeoutError(), "cannot be reached"),
        (CLOSED, "cannot be reached"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_of_valkey_becomes_a_503_that_says_which(
    raise_in_call: Callable[[Exception], None], error: Exception, sentence: str
) -> None:
    with pytest.raises(QueueUnavailable, match=sentence) as caught:
        raise_in_call(error)
    assert caught.value.retry_after_seconds


@pytest.mark.parametrize("raise_in_call", [in_async_call, in_sync_call])
def test_an_error_of_the_program_stays(raise_in_call: Callable[[Exception], None]) -> None:
    with pytest.raises(RuntimeError, match="another"):
        raise_in_call(RuntimeError("another"))
