"""Calls from the API to Valkey: errors that a client understands."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from errors import QueueUnavailable

RETRY_AFTER_SECONDS = 5
IN_CLUSTER = (
    "Valkey runs in cluster mode, where a job's keys are on several servers: "
    "set VALKEY_URL to a server with cluster-enabled no"
)
IS_REPLICA = "VALKEY_URL names a replica, which takes no writes: name the primary"
DISK_REFUSES = "Valkey cannot write to its disk, which may be full: make room there; Valkey's log names the cause"
_CAUSES: tuple[tuple[tuple[type[RedisError], ...], str], ...] = (
    ((AuthenticationError,), "Valkey rejected the password: check VALKEY_URL"),
    ((NoPermissionError,), "Valkey's user may not do this: give it the rights of deploy/valkey/users.acl"),
    ((OutOfMemoryError,), "Valkey has no memory left for another job; try again later"),
    ((ReadOnlyError,), IS_REPLICA),
    ((ClusterError, ClusterCrossSlotError, AskError), IN_CLUSTER),  # MovedError is an AskError
)


class valkey_call:  # noqa: N801  used like a function, and a generator would cost 5 µs more
    """Turn the errors of the Valkey calls in the block into QueueUnavailable. The client limits the time of a call."""

    async def __aenter__(self) -> None:
        """Enter the block."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise QueueUnavailable in place of an error of Valkey."""
        shown = queue_unavailable(error)
        if shown is not None:
            raise shown from None


def queue_unavailable(error: BaseException | None) -> QueueUnavailable | None:
    """Return what a client is told of an error of Valkey; None for every other error."""
    for kinds, detail in _CAUSES:
        if isinstance(error, kinds):
            return unavailable(detail)
    if isinstance(error, ResponseError) and str(error).startswith("MISCONF"):
        return unavailable(DISK_REFUSES)
    if isinstance(error, RedisError | OSError) or _is_closed_transport(error):
        return unavailable("the queue cannot be reached; try again in a moment")
    return None


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


def _is_closed_transport(error: BaseException | None) -> bool:
    """Return True for the error of uvloop when something is written to a connection that was just closed."""
    return isinstance(error, RuntimeError) and "handler is closed" in str(error)


def unavailable(detail: str) -> QueueUnavailable:
    """Return the error that tells a client to try again later."""
    return QueueUnavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
