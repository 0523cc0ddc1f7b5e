"""The id of the deployment whose Valkey this is."""

from __future__ import annotations

from typing import cast

from redis import Redis

from client.valkey import keys

# What stands in place of the id while a backup is restored, so that no process starts on half of the data.
RESTORING = "restoring"


def read_deployment(valkey: Redis) -> str | None:
    """Return the id; None for a Valkey that has none yet. Raises RedisError."""
    return as_id(cast("bytes | None", valkey.get(keys.DEPLOYMENT)))


def as_id(stored: bytes | None) -> str | None:
    """Return the id that a Valkey keeps; None if it keeps none."""
    return stored.decode(errors="replace") if stored else None


def write_deployment(valkey: Redis, deployment_id: str) -> str:
    """Write the id unless there is one. Returns the id that there is now. Raises RedisError."""
    valkey.set(keys.DEPLOYMENT, deployment_id, nx=True)
    return read_deployment(valkey) or deployment_id


def begin_restore(valkey: Redis) -> None:
    """Note in place of the id that a restore is under way. Raises RedisError."""
    valkey.set(keys.DEPLOYMENT, RESTORING)


def end_restore(valkey: Redis, deployment_id: str | None) -> None:
    """Write the id of the restored deployment; None for a deployment that has none yet. Raises RedisError."""
    if deployment_id is None:
        valkey.delete(keys.DEPLOYMENT)
    else:
        valkey.set(keys.DEPLOYMENT, deployment_id)
