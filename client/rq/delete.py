"""Deleting a job that has ended."""

from __future__ import annotations

from typing import Final

import redis.asyncio as redis

from client.rq.scripts import load_script
from client.valkey import keys

_DELETE_ENDED: Final = load_script("delete_ended")
# Where RQ lists the jobs that have ended.
_REGISTRIES = ("finished", "failed", "canceled")


async def delete_ended(valkey: redis.Redis, job_id: str, *, queue: str) -> bool:
    """Delete an ended job with its results and events. Returns False for a job that has not ended; True without one."""
    of_job = [keys.job(job_id), keys.results(job_id), keys.executions(job_id), keys.events(job_id)]
    registries = [keys.registry(name, queue) for name in _REGISTRIES]
    return bool(await _DELETE_ENDED.call_async(valkey, [*of_job, *registries], [job_id]))
