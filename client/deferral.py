"""Jobs that wait for other jobs, laid out as RQ 2.12 lays them out, so that the worker that ends the last of those
puts them on their queue (rq.queue.Queue.enqueue_dependents).

RQ does this from its client in several steps under WATCH. Here it is one script, so that a job that ends at that
very moment is either seen as ended, or sees who waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from redis import Redis
from rq.job import Job
from rq.utils import now, utcformat

from client.fair_turns import KEPT_SECONDS, TURNS

# KEYS: job, registry of deferred jobs, its dependencies, then job and dependents of each dependency.
# ARGV: id, queue, time, number of dependencies, their ids, then the fields of the job.
_SUBMIT: Final = (
    TURNS
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local count = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], unpack(ARGV, 5 + count))
local waits = false
for i = 1, count do
    local status = redis.call('HGET', KEYS[2 + 2 * i], 'status')
    if status and not string.find('finished failed canceled stopped', status, 1, true) then
        waits = true
        redis.call('SADD', KEYS[3 + 2 * i], ARGV[1])
        redis.call('SADD', KEYS[3], ARGV[4 + i])
    end
end
if waits then
    redis.call('HSET', KEYS[1], 'status', 'deferred')
    redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
    local own = own_key(ARGV[2], field(ARGV[1], 'owner'))
    make_room(own)
    redis.call('ZADD', own, DEFERRED, ARGV[1])
    redis.call('EXPIRE', own, @KEPT@)
else
    redis.call('HSET', KEYS[1], 'status', 'queued')
    adopt(ARGV[2])
    take_turn(ARGV[2], ARGV[1], field(ARGV[1], 'owner'), field(ARGV[1], 'priority') == 'high')
end
return 1
""".replace("@KEPT@", str(KEPT_SECONDS))
)

# A worker that died between ending a job and putting on the queue what waited for it leaves that waiting.
# KEYS: registry of deferred jobs. ARGV: latest time, how many to look at, queue.
_RELEASE: Final = (
    TURNS
    + """
local released = 0
adopt(ARGV[3])
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
            take_turn(ARGV[3], id, field(id, 'owner'), field(id, 'priority') == 'high')
            released = released + 1
        end
    end
end
return released
"""
)

# What waits for a job that has ended. KEYS: its dependents. ARGV: job, time as RQ writes it. Returns how many came to
# their queues. RQ's own way restores each of them, and would unpack what a stranger wrote.
_RELEASE_DEPENDENTS: Final = (
    TURNS
    + """
if redis.call('TYPE', KEYS[1])['ok'] ~= 'set' then return 0 end
local released = 0
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local any_end, waits = field(id, 'allow_dependency_failures') == '1', false
    local key = 'rq:job::' .. id .. ':dependencies'
    local dependencies = redis.call('TYPE', key)['ok'] == 'set' and redis.call('SMEMBERS', key) or {ARGV[1]}
    for _, dependency in ipairs(dependencies) do
        local status = field(dependency, 'status')
        local good = any_end and 'finished failed canceled stopped' or 'finished'
        if status ~= '' and not string.find(good, status, 1, true) then waits = true end
    end
    if not waits then
        local queue = field(id, 'origin')
        redis.call('SREM', KEYS[1], id)
        if field(id, 'status') == 'deferred' and queue ~= '' then
            redis.pcall('ZREM', 'rq:deferred:' .. queue, id)
            redis.call('HSET', 'rq:job:' .. id, 'status', 'queued', 'enqueued_at', ARGV[2])
            redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
            adopt(queue)
            take_turn(queue, id, field(id, 'owner'), field(id, 'priority') == 'high')
            released = released + 1
        end
    end
end
return released
"""
)


def submit_after(pipeline: Any, job: Job, *, dependencies: Sequence[str], fields: list[Any]) -> None:
    """Add to the pipeline: keep the job until these jobs have ended, or put it on its queue if they have.

    `fields` as `client.fair_turns.owned` gives them.
    """
    keys = [job.key, f"rq:deferred:{job.origin}", job.dependencies_key]
    for dependency in dependencies:
        keys += [Job.key_for(dependency), Job.dependents_key_for(dependency)]
    arguments = [job.id, job.origin, f"{job.created_at.timestamp():.0f}", len(dependencies), *dependencies, *fields]
    pipeline.eval(_SUBMIT, len(keys), *keys, *arguments)


def release_stranded(pipeline: Any, queue_name: str, *, before: float, limit: int) -> None:
    """Add to the pipeline: put jobs on their queue that wait since `before`, in Unix time, for jobs that have ended.

    It also gives those their turn that a stock worker has put on the queue.
    """
    pipeline.eval(_RELEASE, 1, f"rq:deferred:{queue_name}", f"{before:.0f}", limit, queue_name)


def release_dependents(valkey: Redis, job_id: str) -> int:
    """Put jobs on their queues that have waited for this one, which has ended; return how many. Raises RedisError."""
    moment = str(utcformat(now()))
    return cast("int", valkey.eval(_RELEASE_DEPENDENTS, 1, Job.dependents_key_for(job_id), job_id, moment))
