"""The steps a job takes in Valkey, each one Lua script, so that no crash leaves a job between two of them.

Each step but the first is fenced: it does nothing unless the execution named still holds the job, which is to say
that its pair `{job}:{execution}` is in the registry of started jobs, `rq:wip:{queue}`. Keys that are not among
KEYS are made from ids, which a single Valkey allows (RQ does not run on a cluster either).

A step that ends a job also puts on their queues what waited for it. Should that fail, as records of a stranger's making
can have it, the end holds all the same.
"""

from __future__ import annotations

import zlib
from base64 import b64encode

from client.rq.dependencies import AFTER
from client.rq.event_stream import WAKE_CHANNEL

STOPPED = "Job stopped by user"
DEFAULT_TTL_SECONDS = 86_400

_COMMON = """
-- Whoever waits for a job listens on `rag:wake` (`client.rq.event_stream`).
local ENDED = {finished = true, failed = true, stopped = true, canceled = true}

-- Something of another type under a key of ours would end a script half way.
local function make_room(key, kind)
  local found = redis.call('TYPE', key)['ok']
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end

local clock = tonumber(redis.call('TIME')[1])

-- A field of a job; nil where it has none, or where its record is no hash.
local function field(job, name)
  local found = redis.pcall('HGET', 'rq:job:' .. job, name)
  if type(found) == 'string' then return found end
end

-- Whether an execution is known and its lease, by this server's clock, has not run out. Jobs that are not ours get
-- none under a stock worker: the record of theirs expires. A lease of hours is no lease.
local function lives(job, execution)
  local key = 'rq:execution:' .. job .. ':' .. execution
  if redis.call('TYPE', key)['ok'] ~= 'hash' then return false end
  local lease = redis.call('HGET', key, 'lease_until')
  if not lease then return true end
  lease = tonumber(lease) or 0
  return lease > clock and lease < clock + 3600
end

-- Whether any execution that lives holds the job.
local function is_held(queue, job)
  local key = 'rq:executions:' .. job
  make_room(key, 'zset')
  for _, execution in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if redis.call('ZSCORE', 'rq:wip:' .. queue, job .. ':' .. execution) and lives(job, execution) then return true end
  end
  return false
end

-- Take the job from the execution. False when it did not hold it.
local function let_go(queue, job, execution)
  local pair = job .. ':' .. execution
  local held = redis.call('ZREM', 'rq:wip:' .. queue, pair) == 1
  redis.call('DEL', 'rq:execution:' .. pair)
  make_room('rq:executions:' .. job, 'zset')
  redis.call('ZREM', 'rq:executions:' .. job, execution)
  return held and field(job, 'status') == 'started'
end

local function enqueue(queue, job, now)
  local key = 'rq:job:' .. job
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now)
  redis.call('HDEL', key, 'started_at', 'ended_at', 'worker_name')
  redis.call('PERSIST', key)
  redis.call('LPUSH', 'rq:queue:' .. queue, job)
  redis.call('PUBLISH', '@WAKE@', job)
end

-- Write how a job ended: its record, its result, its registry. `result` holds field and value in turn.
local function close(queue, job, status, now, unix, ttl, result)
  local key, results = 'rq:job:' .. job, 'rq:results:' .. job
  ttl = ttl == ttl and math.min(math.floor(ttl), 10^9) or 86400  -- EXPIRE refuses what is no whole number, or more
  if ttl == 0 then
    redis.call('DEL', key, results, 'rq:executions:' .. job, 'rag:events:' .. job)
    redis.call('PUBLISH', '@WAKE@', job)
    return
  end
  redis.call('HSET', key, 'status', status, 'ended_at', now, 'last_heartbeat', now)
  redis.call('HDEL', key, 'deaths', 'cancel')
  make_room(results, 'stream')
  redis.call('XADD', results, 'MAXLEN', 10, '*', unpack(result))
  local registry = (status == 'finished' and 'rq:finished:' or 'rq:failed:') .. queue
  redis.call('ZADD', registry, ttl < 0 and '+inf' or unix + ttl, job)
  if ttl > 0 then
    redis.call('EXPIRE', key, ttl)
    redis.call('EXPIRE', key .. ':dependents', ttl)
    redis.call('EXPIRE', 'rq:job::' .. job .. ':dependencies', ttl)
    redis.call('EXPIRE', results, ttl)
    redis.call('EXPIRE', 'rag:events:' .. job, ttl)
  else
    redis.call('PERSIST', key)
    redis.call('PERSIST', results)
  end
  redis.call('PUBLISH', '@WAKE@', job)
end

-- Count an attempt at a job. Events name it, and only those of the latest are written (`client.rq.event_stream`).
local function next_attempt(job)
  local attempt = redis.pcall('HINCRBY', 'rq:job:' .. job, 'attempts', 1)
  if type(attempt) == 'number' then return attempt end
  redis.call('HSET', 'rq:job:' .. job, 'attempts', 1)
  return 1
end

-- Whether somebody cancelled the job while it ran (`client.rq.cancel`) and nobody has put it on its list since, as
-- RQ does with a job that failed. Both times are written so that they compare as texts.
local function is_cancelled(job)
  local cancelled = field(job, 'cancel')
  return cancelled and (field(job, 'status') == 'started' or cancelled >= (field(job, 'enqueued_at') or ''))
end

-- End a job that was cancelled while it ran, and that nobody runs now.
local function end_cancelled(queue, job, now, unix)
  local ttl = tonumber(field(job, 'failure_ttl')) or @TTL@
  close(queue, job, 'stopped', now, unix, ttl, {'type', '2', 'worker_name', '', 'exc_string', '@STOPPED@'})
  pcall(release_dependents, job, now)
end
"""
_COMMON = (
    AFTER
    + _COMMON.replace("@WAKE@", WAKE_CHANNEL)
    .replace("@TTL@", str(DEFAULT_TTL_SECONDS))
    .replace("@STOPPED@", b64encode(zlib.compress(STOPPED.encode())).decode())  # as RQ stores it
)

# From the list into an execution's hands. Takes as many jobs as there are execution ids.
# KEYS: queue list, worker. ARGV: queue, worker's name, now, now in Unix seconds, lease, registry seconds, ids ...
# Returns {1 when suspended, jobs, ids dropped with a reason after each}; a job is {id, execution, status it had,
# fields ...} as in `FIELDS`.
TAKE = (
    _COMMON
    + """
local queue, worker, now, unix = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease, kept = tonumber(ARGV[5]), tonumber(ARGV[6])
local jobs, dropped, place = {}, {}, 7
local function drop(id, reason)
  dropped[#dropped + 1] = id
  dropped[#dropped + 1] = reason
end
if redis.call('EXISTS', 'rq:suspended') == 1 then return {1, jobs, dropped} end
make_room('rq:wip:' .. queue, 'zset')
make_room(KEYS[2], 'hash')
for _ = 1, 1000 do
  local id = place <= #ARGV and redis.call('LPOP', KEYS[1])
  if not id then break end
  local key = 'rq:job:' .. id
  local kind = redis.call('TYPE', key)['ok']
  local was, marked = '', false
  if kind == 'hash' then
    local found = redis.call('HMGET', key, 'status', 'cancel')
    was, marked = found[1] or '', found[2]
  end
  if kind ~= 'hash' then
    drop(id, kind == 'none' and 'its record is gone' or 'its record is no hash')
  elseif ENDED[was] then
    drop(id, 'it has ended')
  elseif not string.match(id, '^[%w_-]+$') then
    redis.call('HSET', key, 'status', 'failed')
    drop(id, 'its id is none')
  elseif was == 'started' and is_held(queue, id) then
    drop(id, 'it runs already')
  elseif marked and is_cancelled(id) then
    end_cancelled(queue, id, now, unix)
    drop(id, 'it was cancelled')
  else
    local execution = ARGV[place]
    place = place + 1
    local pair = id .. ':' .. execution
    redis.call('HSET', key, 'status', 'started', 'started_at', now, 'last_heartbeat', now, 'worker_name', worker)
    redis.call('PERSIST', key)
    if marked then redis.call('HDEL', key, 'cancel') end  -- while it ran before
    next_attempt(id)
    redis.call('HSET', 'rq:execution:' .. pair, 'id', execution, 'created_at', ARGV[4],
      'last_heartbeat', ARGV[4], 'worker_name', worker, 'lease_until', clock + lease)
    redis.call('EXPIRE', 'rq:execution:' .. pair, kept)
    make_room('rq:executions:' .. id, 'zset')
    redis.call('ZADD', 'rq:executions:' .. id, unix + kept + 60, execution)
    redis.call('EXPIRE', 'rq:executions:' .. id, kept + 60)
    redis.call('ZADD', 'rq:wip:' .. queue, unix + kept, pair)
    redis.call('PUBLISH', '@WAKE@', id)
    jobs[#jobs + 1] = {id, execution, was, redis.call('HMGET', key, @FIELDS@)}
  end
end
if #jobs > 0 and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'state', 'busy', 'current_job', jobs[#jobs][1])
end
return {0, jobs, dropped}
"""
)

FIELDS = (
    "data",
    "origin",
    "created_at",
    "enqueued_at",
    "timeout",
    "result_ttl",
    "failure_ttl",
    "meta",
    "description",
    "deaths",
    "attempts",
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
)
TAKE = TAKE.replace("@WAKE@", WAKE_CHANNEL).replace("@FIELDS@", ", ".join(f"'{field}'" for field in FIELDS))

# From an execution's hands to the end. KEYS: worker. ARGV: queue, job, execution, status, now, now in Unix
# seconds, ttl, meta or '', counter of the worker, seconds worked, fields and values of the result ...
# Returns 1 when written, 2 when this execution had written it before, 0 when the execution no longer holds the job.
FINISH = (
    _COMMON
    + """
local queue, job, execution, status, now, unix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if not let_go(queue, job, execution) then
  local kind = redis.call('TYPE', 'rq:results:' .. job)['ok']
  local last = kind == 'stream' and redis.call('XREVRANGE', 'rq:results:' .. job, '+', '-', 'COUNT', 1)[1]
  for place = 1, last and #last[2] or 0, 2 do
    if last[2][place] == 'execution_id' and last[2][place + 1] == execution then return 2 end
  end
  return 0
end
if ARGV[8] ~= '' then redis.call('HSET', 'rq:job:' .. job, 'meta', ARGV[8]) end
local result = {}
for place = 11, #ARGV do result[#result + 1] = ARGV[place] end
close(queue, job, status, now, unix, tonumber(ARGV[7]), result)
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.pcall('HINCRBY', KEYS[1], ARGV[9], 1)
  redis.pcall('HINCRBYFLOAT', KEYS[1], 'total_working_time', ARGV[10])
  if redis.pcall('HGET', KEYS[1], 'current_job') == job then redis.call('HDEL', KEYS[1], 'current_job') end
end
pcall(release_dependents, job, now)
return 1
"""
)

# From an execution's hands back to the front of the list, unless it was cancelled: then to its end. ARGV: queue, job,
# execution, now, now in Unix seconds. Returns 1 when it is on the list, 2 when it has ended.
HAND_BACK = (
    _COMMON
    + """
if not let_go(ARGV[1], ARGV[2], ARGV[3]) then return 0 end
if is_cancelled(ARGV[2]) then
  end_cancelled(ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[5]))
  return 2
end
enqueue(ARGV[1], ARGV[2], ARGV[4])
return 1
"""
)

# Renew leases. KEYS: worker. ARGV: now, now in Unix seconds, lease, registry seconds, worker's seconds, state,
# worker's name, and for each execution queue, job, execution, Unix seconds of its start.
# Returns {1 when the worker is known, places of executions that lost their job, places of those whose job was
# cancelled}; places count from 1.
BEAT = (
    _COMMON
    + """
local now, unix, lease, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
make_room(KEYS[1], 'hash')
local known, lost, cancelled = redis.call('EXISTS', KEYS[1]), {}, {}
if known == 1 then
  redis.call('HSET', KEYS[1], 'last_heartbeat', now, 'state', ARGV[6])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
for place = 8, #ARGV, 4 do
  local queue, job, execution = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  local pair = job .. ':' .. execution
  local held = redis.pcall('ZSCORE', 'rq:wip:' .. queue, pair)
  if type(held) == 'string' and field(job, 'status') == 'started' then
    local key = 'rq:execution:' .. pair
    make_room(key, 'hash')
    make_room('rq:executions:' .. job, 'zset')
    redis.call('HSET', key, 'id', execution, 'created_at', ARGV[place + 3], 'last_heartbeat', ARGV[2],
      'worker_name', ARGV[7], 'lease_until', clock + lease)
    redis.call('EXPIRE', key, kept)
    redis.call('HSET', 'rq:job:' .. job, 'last_heartbeat', now)
    redis.call('ZADD', 'rq:wip:' .. queue, unix + kept, pair)
    redis.call('ZADD', 'rq:executions:' .. job, unix + kept + 60, execution)
    redis.call('EXPIRE', 'rq:executions:' .. job, kept + 60)
    if is_cancelled(job) then cancelled[#cancelled + 1] = (place - 8) / 4 + 1 end
  else
    lost[#lost + 1] = (place - 8) / 4 + 1
  end
end
return {known, lost, cancelled}
"""
)

# What nobody holds any more: pairs in the registry whose lease has run out. ARGV: queue.
FIND_DEAD = (
    _COMMON
    + """
local dead = {}
make_room('rq:wip:' .. ARGV[1], 'zset')
for _, pair in ipairs(redis.call('ZRANGE', 'rq:wip:' .. ARGV[1], 0, -1)) do
  local job, execution = string.match(pair, '^(.*):(.*)$')
  if job and not lives(job, execution) then dead[#dead + 1] = pair end
end
return dead
"""
)

# From a dead execution's hands back to the front of the list, to the dead letters or, when it was cancelled, to its
# end. ARGV: queue, job, execution,
# now, now in Unix seconds, attempts allowed, ttl where the job has none, meta of a dead letter, fields and values
# of its result ...
# Returns 'requeued', 'dead', 'cancelled', 'alive' (nothing was done) or 'dropped' (the job had ended or is held by
# another).
REAP = (
    _COMMON
    + """
local queue, job, execution, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = 'rq:job:' .. job
if lives(job, execution) then return 'alive' end
if redis.call('TYPE', key)['ok'] ~= 'hash' then
  redis.call('ZREM', 'rq:wip:' .. queue, job .. ':' .. execution)
  return 'dropped'
end
-- A stock worker that is about to write how this job ended watches this key, and will write nothing (`queues.stock`).
redis.pcall('SADD', key .. ':dependents', '-')
redis.pcall('SREM', key .. ':dependents', '-')
if not let_go(queue, job, execution) or is_held(queue, job) then return 'dropped' end
if is_cancelled(job) then
  end_cancelled(queue, job, now, tonumber(ARGV[5]))
  return 'cancelled'
end
local deaths = redis.pcall('HINCRBY', key, 'deaths', 1)
if type(deaths) ~= 'number' then
  deaths = 1
  redis.call('HSET', key, 'deaths', deaths)
end
if deaths < tonumber(ARGV[6]) then
  enqueue(queue, job, now)
  return 'requeued'
end
redis.call('HSET', key, 'meta', ARGV[8])
local result = {}
for place = 9, #ARGV do result[#result + 1] = ARGV[place] end
local ttl = tonumber(redis.call('HGET', key, 'failure_ttl') or ARGV[7]) or tonumber(ARGV[7])
close(queue, job, 'failed', now, tonumber(ARGV[5]), ttl, result)
pcall(release_dependents, job, now)
return 'dead'
"""
)

# What a stock worker took from the list and died with before it started it. KEYS: list, intermediate list.
# ARGV: job, queue. Returns 1 when the job was put back.
PUT_BACK = (
    _COMMON
    + """
if is_held(ARGV[2], ARGV[1]) or redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
local key = 'rq:job:' .. ARGV[1]
if redis.call('TYPE', key)['ok'] ~= 'hash' or redis.call('HGET', key, 'status') ~= 'queued' then return 0 end
if redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
redis.call('LPUSH', KEYS[1], ARGV[1])
return 1
"""
)

# Jobs whose time has come, from the schedule to their list. ARGV: queue, now, now in Unix seconds. Returns how many.
PROMOTE = """
local due = redis.call('ZRANGEBYSCORE', 'rq:scheduled:' .. ARGV[1], 0, ARGV[3], 'LIMIT', 0, 500)
for _, job in ipairs(due) do
  local key = 'rq:job:' .. job
  redis.call('ZREM', 'rq:scheduled:' .. ARGV[1], job)
  if redis.call('TYPE', key)['ok'] == 'hash' and redis.call('HGET', key, 'status') == 'scheduled' then
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[2])
    redis.call(redis.call('HGET', key, 'enqueue_at_front') == '1' and 'LPUSH' or 'RPUSH',
      'rq:queue:' .. ARGV[1], job)
  end
end
return #due
"""

# A job of ours begins under a worker that is not ours, which has made the execution. ARGV: queue, job, worker's name,
# lease. Returns {execution, which attempt it is, process id of the worker}, or {'', 0, ''} when the job is another's,
# or was cancelled between its list and here: it then is what it was before the worker said that it runs.
BEGIN = (
    _COMMON
    + """
local queue, job, worker = ARGV[1], ARGV[2], ARGV[3]
if field(job, 'status') ~= 'started' then return {'', 0, ''} end
make_room('rq:executions:' .. job, 'zset')
local found, latest = nil, -1
for _, execution in ipairs(redis.call('ZRANGE', 'rq:executions:' .. job, 0, -1)) do
  local pair = job .. ':' .. execution
  local name = redis.pcall('HGET', 'rq:execution:' .. pair, 'worker_name')
  if name == worker and redis.call('ZSCORE', 'rq:wip:' .. queue, pair) then
    local born = tonumber(redis.call('HGET', 'rq:execution:' .. pair, 'created_at')) or 0
    if born > latest then found, latest = execution, born end
  end
end
if not found then return {'', 0, ''} end
local cancelled = field(job, 'cancel')
if cancelled and cancelled < (field(job, 'enqueued_at') or '') then  -- while it ran, or waited, before
  redis.call('HDEL', 'rq:job:' .. job, 'cancel')
elseif cancelled and cancelled == field(job, 'ended_at') then
  let_go(queue, job, found)
  redis.call('HSET', 'rq:job:' .. job, 'status', 'canceled')
  local forgotten = tonumber(redis.call('ZSCORE', 'rq:canceled:' .. queue, job)) or clock
  redis.call('EXPIRE', 'rq:job:' .. job, math.max(1, math.ceil(forgotten - clock)))  -- RQ took its expiry away
  pcall(release_dependents, job, cancelled)  -- that came meanwhile
  return {'', 0, ''}
end
redis.call('HSET', 'rq:execution:' .. job .. ':' .. found, 'lease_until', clock + tonumber(ARGV[4]))
local pid = redis.pcall('HGET', 'rq:worker:' .. worker, 'pid')
return {found, next_attempt(job), type(pid) == 'string' and pid or ''}
"""
)

# Renew the lease of such a job. ARGV: queue, job, execution, lease, registry seconds. Returns 0 when the execution no
# longer holds the job, 1 when it does, 2 when it does and the job was cancelled.
HOLD = (
    _COMMON
    + """
local queue, job, pair, kept = ARGV[1], ARGV[2], ARGV[2] .. ':' .. ARGV[3], tonumber(ARGV[5])
local key, all = 'rq:execution:' .. pair, 'rq:executions:' .. job
if redis.call('TYPE', key)['ok'] ~= 'hash' or field(job, 'status') ~= 'started' then return 0 end
if type(redis.pcall('ZSCORE', 'rq:wip:' .. queue, pair)) ~= 'string' then return 0 end
redis.call('HSET', key, 'lease_until', clock + tonumber(ARGV[4]))
-- RQ's worker renews these every 30 s, and while SimpleWorker runs a job not at all.
if redis.call('TTL', key) < kept then redis.call('EXPIRE', key, kept) end
redis.call('ZADD', 'rq:wip:' .. queue, 'XX', 'GT', clock + kept, pair)
make_room(all, 'zset')
redis.call('ZADD', all, 'GT', clock + kept + 60, ARGV[3])
if redis.call('TTL', all) < kept + 60 then redis.call('EXPIRE', all, kept + 60) end
return is_cancelled(job) and 2 or 1
"""
)

# Out of the registry of cancelled jobs with those whose record has expired. RQ gives those it cancels itself no time to
# live, and their place in the registry the time of the cancelling. ARGV: queue, now in Unix seconds, how many to look
# at, seconds until those still there are looked at again. Returns how many were looked at.
FORGET_CANCELLED = """
local key = 'rq:canceled:' .. ARGV[1]
local found = redis.call('ZRANGEBYSCORE', key, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, job in ipairs(found) do
  if redis.call('EXISTS', 'rq:job:' .. job) == 1 then
    redis.call('ZADD', key, ARGV[2] + ARGV[4], job)
  else
    redis.call('ZREM', key, job)
  end
end
return #found
"""

# Progress and other notes of a running job. ARGV: queue, job, execution, meta. Returns 1 when written.
KEEP_META = """
if not redis.call('ZSCORE', 'rq:wip:' .. ARGV[1], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
if redis.call('HGET', 'rq:job:' .. ARGV[2], 'status') ~= 'started' then return 0 end
redis.call('HSET', 'rq:job:' .. ARGV[2], 'meta', ARGV[4])
return 1
"""
