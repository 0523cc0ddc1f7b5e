"""Deleting a job that has ended."""

from __future__ import annotations

import asyncio
from typing import Final

import redis.asyncio as redis

from client.rq.scripts import load_script
from client.valkey import keys

_DELETE_ENDED: Final = load_script("delete_ended")
TRIES: Final = 10
TRY_SECONDS = 0.1
# Where RQ lists the jobs that have ended.
_REGISTRIES = ("finished", "failed", "canceled")


async def delete_ended(valkey: redis.Redis, job_id: str, *, queue: str) -> bool:
    """Delete an ended job with its results and events; True without one.

    Returns False for a job that has not ended, or whose webhooks are not queued yet, after a short wait.
    """
    of_job = [keys.job(job_id), keys.results(job_id), keys.executions(job_id), keys.events(job_id)]
    of_job.append(keys.outbox_entry(job_id))
    registries = [keys.registry(name, queue) for name in _REGISTRIES]
    for _ in range(TRIES):
        if await _DELETE_ENDED.call_async(valkey, [*of_job, *registries], [job_id]):
            return True
        await asyncio.sleep(TRY_SECONDS)
    return False
