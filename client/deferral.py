"""Jobs that wait for other jobs, laid out as RQ 2.12 lays them out, so that the worker that ends the last of those
puts them on their queue (rq.queue.Queue.enqueue_dependents).

RQ does this from its client in several steps under WATCH. Here it is one script, so that a job that ends at that
very moment is either seen as ended, or sees who waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rq.job import Job

# KEYS: job, its queue, registry of deferred jobs, its dependencies, then job and dependents of each dependency.
# ARGV: id, side (L or R), time, number of dependencies, their ids, then the fields of the job.
_SUBMIT: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local count = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], unpack(ARGV, 5 + count))
local waits = false
for i = 1, count do
    local status = redis.call('HGET', KEYS[3 + 2 * i], 'status')
    if status and not string.find('finished failed canceled stopped', status, 1, true) then
        waits = true
        redis.call('SADD', KEYS[4 + 2 * i], ARGV[1])
        redis.call('SADD', KEYS[4], ARGV[4 + i])
    end
end
if waits then
    redis.call('HSET', KEYS[1], 'status', 'deferred')
    redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
else
    redis.call('HSET', KEYS[1], 'status', 'queued')
    redis.call(ARGV[2] == 'L' and 'LPUSH' or 'RPUSH', KEYS[2], ARGV[1])
end
return 1
"""

# A worker that died between ending a job and putting on the queue what waited for it leaves that waiting.
# KEYS: registry of deferred jobs, queue. ARGV: latest time, how many to look at.
_RELEASE: Final = """
local released = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
    local waits = false
    for _, dependency in ipairs(redis.call('SMEMBERS', 'rq:job::' .. id .. ':dependencies')) do
        local status = redis.call('HGET', 'rq:job:' .. dependency, 'status')
        if status and not string.find('finished failed canceled stopped', status, 1, true) then waits = true end
    end
    if not waits then
        redis.call('ZREM', KEYS[1], id)
        if redis.call('HGET', 'rq:job:' .. id, 'status') == 'deferred' then
            redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
            redis.call('RPUSH', KEYS[2], id)
            released = released + 1
        end
    end
end
return released
"""


def submit_after(
    pipeline: Any, job: Job, queue_key: str, *, dependencies: Sequence[str], side: str, fields: list[Any]
) -> None:
    """Add to the pipeline: keep the job until these jobs have ended, or put it on its queue if they have."""
    keys = [job.key, queue_key, f"rq:deferred:{job.origin}", job.dependencies_key]
    for dependency in dependencies:
        keys += [Job.key_for(dependency), Job.dependents_key_for(dependency)]
    arguments = [job.id, side, f"{job.created_at.timestamp():.0f}", len(dependencies), *dependencies, *fields]
    pipeline.eval(_SUBMIT, len(keys), *keys, *arguments)


def release_stranded(pipeline: Any, queue_name: str, *, before: float, limit: int) -> None:
    """Add to the pipeline: put jobs on their queue that wait since `before`, in Unix time, for jobs that have ended."""
    pipeline.eval(_RELEASE, 2, f"rq:deferred:{queue_name}", f"rq:queue:{queue_name}", f"{before:.0f}", limit)
