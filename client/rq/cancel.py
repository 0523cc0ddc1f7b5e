"""Cancelling a job: one that waits is taken from its queue, one that runs is stopped by its worker.

A command to the worker is heard within milliseconds, or not at all: the worker may be gone, or Valkey just back. So
the job is marked as well, in its field `cancel`. Its worker finds the mark with the next heartbeat, and who takes the
job from a dead worker ends it.

A worker of RQ's own says that a job runs only some time after it took the job from the list, the time of a fork. So one
that waits is marked, too: such a worker then finds that there is nothing to run
(`client.rq.transition_scripts.BEGIN`), and `client.rq.records` reads what it said meanwhile as what it is.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import redis.asyncio as redis
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.job import Job

from client.rq.dependencies import AFTER
from client.rq.event_stream import WAKE_CHANNEL, events_key
from client.rq.records import decode_text

RQ_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

# Cancels a job that does not run yet; what waits for it then waits for what it waited for. Marks one that does run, and
# gives the name of its worker, who has to stop it.
_CANCEL = (
    AFTER
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'started' then
  redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
  return redis.call('HGET', KEYS[1], 'worker_name')
end
if status ~= 'queued' and status ~= 'deferred' and status ~= 'scheduled' and status ~= 'created' then return false end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[1], 'status', 'canceled', 'ended_at', ARGV[2], 'cancel', ARGV[2])
give_up_turn(ARGV[6], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[6], ARGV[3])
redis.call('PUBLISH', ARGV[5], ARGV[1])
hand_over(ARGV[1], ARGV[2])
redis.call('EXPIRE', dependents_of(ARGV[1]), ARGV[3])
return false
"""
)


async def cancel(valkey: redis.Redis, job_id: str, *, queue: str, ttl_seconds: int) -> None:
    """Cancel a job of a queue that does not run yet, in one step; tell the worker of one that does to stop it.

    The hash of a cancelled job and its events are kept for `ttl_seconds`. A job that has ended stays as it is.
    """
    unix = time.time()
    keys = [Job.key_for(job_id), f"rq:queue:{queue}", f"rq:canceled:{queue}", f"rq:deferred:{queue}"]
    keys += [f"rq:scheduled:{queue}", events_key(job_id)]
    arguments: list[str | int | float] = [job_id, datetime.fromtimestamp(unix, UTC).strftime(RQ_TIME), ttl_seconds]
    arguments += [unix + ttl_seconds, WAKE_CHANNEL, queue]
    worker = await valkey.eval(_CANCEL, len(keys), *keys, *arguments)
    if worker:
        command = json.dumps({"command": "stop-job", "job_id": job_id})
        await valkey.publish(PUBSUB_CHANNEL_TEMPLATE % decode_text(worker), command)
