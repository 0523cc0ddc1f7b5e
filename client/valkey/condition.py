"""Whether a Valkey server can keep the queues, from what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import redis.asyncio as redis
from redis import Redis

from client.valkey import keys
from client.valkey.connection import DISK_REFUSES, IN_CLUSTER, IS_REPLICA, unavailable

_SECTIONS = ("memory", "persistence", "replication", "cluster")


@dataclass(frozen=True, slots=True)
class ValkeyCondition:
    """The state of a server that takes jobs. `suspended`: `rq suspend` keeps all workers from taking jobs."""

    suspended: bool
    warnings: list[str]


async def read_condition(valkey: redis.Redis) -> ValkeyCondition:
    """Read the state of the server. Raises QueueUnavailable if it takes no jobs, and RedisError."""
    info = await valkey.info(*_SECTIONS)
    if info.get("cluster_enabled"):
        raise unavailable(IN_CLUSTER)
    if info.get("role") not in {None, "master"}:
        raise unavailable(IS_REPLICA)
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        raise unavailable(DISK_REFUSES)
    warnings = []
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"Valkey drops jobs and results when its memory is full (maxmemory-policy {policy}): set it to noeviction"
        )
    if not info.get("aof_enabled") and info.get("rdb_last_bgsave_status", "ok") != "ok":
        warnings.append(
            "Valkey could not save its last snapshot and may refuse jobs: make room on its disk; its log has the cause"
        )
    return ValkeyCondition(suspended=bool(await valkey.exists(keys.SUSPENDED)), warnings=warnings)


def read_memory(valkey: Redis) -> tuple[int, int]:
    """Return how many bytes the server uses, and may use: its maxmemory, else all of its machine. Raises RedisError."""
    info = valkey.info("memory")
    return int(info["used_memory"]), int(info.get("maxmemory") or info.get("total_system_memory") or 0)
