"""Valkeys that tests kill."""

from __future__ import annotations

from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from tests.support import acl


def answers(valkey: Redis) -> bool:
    """Return True if the server can be reached and has loaded its file."""
    with suppress(RedisError):
        return bool(valkey.ping())
    return False


def wait_until_on_disk(valkey: Redis) -> None:
    """Wait until the server's append-only file holds all that was written so far, by any client.

    A kill -9 may lose the writes after the last sync, which happens once a second.
    """
    valkey.set("tests:barrier", "1")
    synced, _replicas = acl.ask(valkey, "WAITAOF", "1", "0", "20000")
    assert synced == 1
