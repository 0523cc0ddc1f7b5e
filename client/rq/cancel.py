"""Cancelling a job: a waiting job leaves its queue, a running job is stopped by its worker.

A command reaches a worker within milliseconds or never: the worker may have died, or Valkey may have just restarted. So
the job is marked as well, in its field `cancel`. The worker finds the mark with its next heartbeat, and a process that
takes the job from a dead worker ends it.

A stock worker takes a job from the list, forks, and only then writes that the job runs. So a waiting job is marked,
too. The stock worker then finds the mark and does not run the job (client/rq/lua/start_stock_execution.lua). In the
meantime `client.rq.records` reads the job as cancelled.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import redis.asyncio as redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from client.rq.fair_queue import LUA_CONSTANTS
from client.rq.records import decode_text, rq_timestamp
from client.rq.scripts import load_script
from client.valkey import keys

_CANCEL = load_script("cancel", LUA_CONSTANTS)


async def cancel(valkey: redis.Redis, job_id: str, *, queue: str, ttl_seconds: int) -> None:
    """Cancel a waiting job in one step, or tell the worker of a running job to stop it.

    A job that has ended stays as it is. The record and the events of a cancelled job are kept for `ttl_seconds`.
    Raises RedisError.
    """
    unix = time.time()
    registries = [keys.registry(kind, queue) for kind in ("canceled", "deferred", "scheduled")]
    script_keys = [keys.job(job_id), keys.queue(queue), *registries, keys.events(job_id)]
    now = rq_timestamp(datetime.fromtimestamp(unix, UTC))
    worker = await _CANCEL.call_async(valkey, script_keys, [job_id, now, ttl_seconds, unix + ttl_seconds, queue])
    if worker:
        command = json.dumps({"command": "stop-job", "job_id": job_id})
        await valkey.publish(PUBSUB_CHANNEL_TEMPLATE % decode_text(worker), command)
