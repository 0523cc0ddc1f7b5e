"""Jobs that wait for other jobs, laid out as RQ 2.12 lays them out, so that the worker that ends the last of those
puts them on their queue (rq.queue.Queue.enqueue_dependents).

RQ does this from its client in several steps under WATCH. Here each is part of the script that submits or ends a job:
a job that ends at that very moment is either seen as ended, or sees who waits for it, and nothing can come in between.
"""

from __future__ import annotations

from typing import Any, Final

from rq.utils import now, utcformat

from client.rq.fair_queue import KEPT_SECONDS, TURNS

# For scripts that submit or end jobs. `now` is the time as RQ writes it.
AFTER: Final = (
    TURNS
    + """
local ANY_END = 'finished failed canceled stopped'
local adopted = {}

local function dependencies_of(job) return 'rq:job::' .. job .. ':dependencies' end
local function dependents_of(job) return 'rq:job:' .. job .. ':dependents' end

local function members(key)
  return redis.call('TYPE', key)['ok'] == 'set' and redis.call('SMEMBERS', key) or {}
end

-- Whether a job still has to end for another, which takes any end of it or only a good one. None that is gone has. One
-- that RQ's own tools cancelled while it waited stands for what it waited for: what comes after it comes after that
-- still. `seen` is for itself, that it asks of each once.
local function unended(job, any_end, seen)
  local status = field(job, 'status')
  if status == '' then return false end
  if status ~= 'canceled' or not any_end then
    return not string.find(any_end and ANY_END or 'finished', status, 1, true)
  end
  seen = seen or {}
  seen[job] = true
  for _, id in ipairs(members(dependencies_of(job))) do
    if not seen[id] and unended(id, true, seen) then return true end
  end
  return false
end

-- Have a job wait for one that has not ended.
local function wait_for(job, before)
  redis.call('SADD', dependents_of(before), job)
  redis.call('SADD', dependencies_of(job), before)
end

-- Have a job that was just written wait for others, in whichever way they end. False when none is left to wait for.
local function defer(queue, job, before)
  local waits = false
  for _, id in ipairs(before) do
    if unended(id, true) then
      wait_for(job, id)
      waits = true
    end
  end
  if not waits then return false end
  redis.call('HSET', 'rq:job:' .. job, 'status', 'deferred')
  redis.call('ZADD', 'rq:deferred:' .. queue, redis.call('TIME')[1], job)
  local own = own_key(queue, field(job, 'owner'))
  make_room(own)
  redis.call('ZADD', own, DEFERRED, job)
  redis.call('EXPIRE', own, @KEPT@)
  return true
end

-- Put a job on its queue, unless there is something left that it waits for. `ended` is what it is known to wait for.
local function release(job, now, ended)
  local queue, any_end = field(job, 'origin'), field(job, 'allow_dependency_failures') == '1'
  if field(job, 'status') ~= 'deferred' or queue == '' then return false end
  local before = members(dependencies_of(job))
  if #before == 0 then before = {ended} end
  for _, id in ipairs(before) do
    if unended(id, any_end) then return false end
  end
  redis.pcall('ZREM', 'rq:deferred:' .. queue, job)
  redis.call('DEL', dependencies_of(job))
  redis.call('HSET', 'rq:job:' .. job, 'status', 'queued', 'enqueued_at', now)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  if not adopted[queue] then adopt(queue) end
  adopted[queue] = true
  take_turn(queue, job)
  return true
end

-- Put on their queues what has waited for a job that has ended, and for no other. RQ's own way restores each of them,
-- and would unpack what a stranger wrote.
local function release_dependents(job, now)
  local released = 0
  for _, id in ipairs(members(dependents_of(job))) do
    if release(id, now, job) then released = released + 1 end
    if field(id, 'status') ~= 'deferred' then redis.call('SREM', dependents_of(job), id) end
  end
  return released
end

-- A job that will never run leaves what it waits for to those that wait for it: their turn comes after that still.
local function hand_over(job, now)
  local before = members(dependencies_of(job))
  for _, id in ipairs(before) do redis.call('SREM', dependents_of(id), job) end
  redis.call('DEL', dependencies_of(job))
  for _, heir in ipairs(members(dependents_of(job))) do
    if field(heir, 'status') == 'deferred' and field(heir, 'allow_dependency_failures') == '1' then
      redis.call('SREM', dependents_of(job), heir)
      redis.call('SREM', dependencies_of(heir), job)
      for _, id in ipairs(before) do
        if unended(id, true) then wait_for(heir, id) end
      end
      release(heir, now)
    end
  end
end
""".replace("@KEPT@", str(KEPT_SECONDS))
)

# What ended under a worker that knows nothing of this. ARGV: job, time as RQ writes it.
_RELEASE_DEPENDENTS: Final = AFTER + "return release_dependents(ARGV[1], ARGV[2])"

# A stock worker that dies between ending a job and putting on the queue what waited for it leaves that waiting.
# ARGV: queue, latest time, how many to pass over, how many to look at, time as RQ writes it. Returns how many came to
# the queue, and how many to pass over the next time: 0 at the end.
_RELEASE_STRANDED: Final = (
    AFTER
    + """
local key, released, gone = 'rq:deferred:' .. ARGV[1], 0, 0
adopt(ARGV[1])
local found = redis.call('ZRANGE', key, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
for _, id in ipairs(found) do
  if release(id, ARGV[5]) then released = released + 1 end
  if field(id, 'status') ~= 'deferred' then
    redis.call('ZREM', key, id)
    gone = gone + 1
  end
end
return {released, #found < tonumber(ARGV[4]) and 0 or tonumber(ARGV[3]) + #found - gone}
"""
)


async def release_dependents(valkey: Any, job_id: str) -> int:
    """Put jobs on their queues that have waited for this one, which has ended; return how many. Raises RedisError."""
    return int(await valkey.eval(_RELEASE_DEPENDENTS, 0, job_id, rq_timestamp()))


async def release_stranded(valkey: Any, queue: str, *, before: float, skip: int, limit: int) -> tuple[int, int]:
    """Put jobs on their queue that wait since `before`, in Unix time, for jobs that have ended. Raises RedisError.

    Looks at `limit` jobs, the oldest but `skip`. Returns how many were released, and `skip` for the next time, 0 at
    the end. It also gives those their turn that a stock worker has put on the queue.
    """
    released, skip = await valkey.eval(_RELEASE_STRANDED, 0, queue, f"{before:.0f}", skip, limit, rq_timestamp())
    return int(released), int(skip)


def rq_timestamp() -> str:
    """Return the time as RQ writes it."""
    return str(utcformat(now()))
