"""The steps a job takes in Valkey, each one Lua script, so that no crash leaves a job between two of them.

Each step but the first is fenced: it does nothing unless the execution named still holds the job, which is to say
that its pair `{job}:{execution}` is in the registry of started jobs, `rq:wip:{queue}`. Keys that are not among
KEYS are made from ids, which a single Valkey allows (RQ does not run on a cluster either).

A step that ends a job also puts on their queues what waited for it. Should that fail, as records of a stranger's making
can have it, the end holds all the same.
"""

from __future__ import annotations

from client.deferral import AFTER
from client.events import WAKE_CHANNEL

_COMMON = """
-- Whoever waits for a job listens on `rag:wake` (`client.events`).
local ENDED = {finished = true, failed = true, stopped = true, canceled = true}

-- Something of another type under a key of ours would end a script half way.
local function make_room(key, kind)
  local found = redis.call('TYPE', key)['ok']
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end

local clock = tonumber(redis.call('TIME')[1])

-- Whether an execution is known and its lease, by this server's clock, has not run out. Stock workers give none:
-- the record of theirs expires.
local function lives(job, execution)
  local key = 'rq:execution:' .. job .. ':' .. execution
  local lease = redis.call('HGET', key, 'lease_until')
  if lease then return tonumber(lease) > clock end
  return redis.call('EXISTS', key) == 1
end

-- Whether any execution that lives holds the job.
local function is_held(job)
  local key = 'rq:executions:' .. job
  make_room(key, 'zset')
  for _, execution in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if lives(job, execution) then return true end
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
  return held and redis.call('HGET', 'rq:job:' .. job, 'status') == 'started'
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
  if ttl == 0 then
    redis.call('DEL', key, results, 'rq:executions:' .. job, 'rag:events:' .. job)
    redis.call('PUBLISH', '@WAKE@', job)
    return
  end
  redis.call('HSET', key, 'status', status, 'ended_at', now, 'last_heartbeat', now)
  redis.call('HDEL', key, 'deaths')
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
""".replace("@WAKE@", WAKE_CHANNEL)

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
for _ = 1, 1000 do
  local id = place <= #ARGV and redis.call('LPOP', KEYS[1])
  if not id then break end
  local key = 'rq:job:' .. id
  local kind = redis.call('TYPE', key)['ok']
  local was = kind == 'hash' and redis.call('HGET', key, 'status') or ''
  if kind ~= 'hash' then
    drop(id, kind == 'none' and 'its record is gone' or 'its record is no hash')
  elseif ENDED[was] then
    drop(id, 'it has ended')
  elseif not string.match(id, '^[%w_-]+$') then
    redis.call('HSET', key, 'status', 'failed')
    drop(id, 'its id is none')
  elseif was == 'started' and is_held(id) then
    drop(id, 'it runs already')
  else
    local execution = ARGV[place]
    place = place + 1
    local pair = id .. ':' .. execution
    redis.call('HSET', key, 'status', 'started', 'started_at', now, 'last_heartbeat', now, 'worker_name', worker)
    redis.call('PERSIST', key)
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
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
)
TAKE = TAKE.replace("@WAKE@", WAKE_CHANNEL).replace("@FIELDS@", ", ".join(f"'{field}'" for field in FIELDS))

# From an execution's hands to the end. KEYS: worker. ARGV: queue, job, execution, status, now, now in Unix
# seconds, ttl, meta or '', counter of the worker, seconds worked, fields and values of the result ...
# Returns 1 when written, 2 when this execution had written it before, 0 when the execution no longer holds the job.
FINISH = (
    AFTER
    + _COMMON
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
  redis.call('HINCRBY', KEYS[1], ARGV[9], 1)
  redis.call('HINCRBYFLOAT', KEYS[1], 'total_working_time', ARGV[10])
  if redis.call('HGET', KEYS[1], 'current_job') == job then redis.call('HDEL', KEYS[1], 'current_job') end
end
pcall(release_dependents, job, now)
return 1
"""
)

# From an execution's hands back to the front of the list. ARGV: queue, job, execution, now. Returns 1 when done.
HAND_BACK = (
    _COMMON
    + """
if not let_go(ARGV[1], ARGV[2], ARGV[3]) then return 0 end
enqueue(ARGV[1], ARGV[2], ARGV[4])
return 1
"""
)

# Renew leases. KEYS: worker. ARGV: now, now in Unix seconds, lease, registry seconds, worker's seconds, state,
# worker's name, and for each execution queue, job, execution, Unix seconds of its start.
# Returns {1 when the worker is known, place of each execution that lost its job, from 1 ...}.
BEAT = (
    _COMMON
    + """
local now, unix, lease, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answer = {redis.call('EXISTS', KEYS[1])}
if answer[1] == 1 then
  redis.call('HSET', KEYS[1], 'last_heartbeat', now, 'state', ARGV[6])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
for place = 8, #ARGV, 4 do
  local queue, job, execution = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  local pair = job .. ':' .. execution
  local held = redis.call('ZSCORE', 'rq:wip:' .. queue, pair)
  if held and redis.call('HGET', 'rq:job:' .. job, 'status') == 'started' then
    local key = 'rq:execution:' .. pair
    redis.call('HSET', key, 'id', execution, 'created_at', ARGV[place + 3], 'last_heartbeat', ARGV[2],
      'worker_name', ARGV[7], 'lease_until', clock + lease)
    redis.call('EXPIRE', key, kept)
    redis.call('HSET', 'rq:job:' .. job, 'last_heartbeat', now)
    redis.call('ZADD', 'rq:wip:' .. queue, unix + kept, pair)
    redis.call('ZADD', 'rq:executions:' .. job, unix + kept + 60, execution)
    redis.call('EXPIRE', 'rq:executions:' .. job, kept + 60)
  else
    answer[#answer + 1] = (place - 8) / 4 + 1
  end
end
return answer
"""
)

# What nobody holds any more: pairs in the registry whose lease has run out. ARGV: queue.
FIND_DEAD = (
    _COMMON
    + """
local dead = {}
for _, pair in ipairs(redis.call('ZRANGE', 'rq:wip:' .. ARGV[1], 0, -1)) do
  local job, execution = string.match(pair, '^(.*):(.*)$')
  if job and not lives(job, execution) then dead[#dead + 1] = pair end
end
return dead
"""
)

# From a dead execution's hands back to the front of the list, or to the dead letters. ARGV: queue, job, execution,
# now, now in Unix seconds, attempts allowed, ttl where the job has none, meta of a dead letter, fields and values
# of its result ...
# Returns 'requeued', 'dead', 'alive' (nothing was done) or 'dropped' (the job had ended or is held by another).
REAP = (
    AFTER
    + _COMMON
    + """
local queue, job, execution, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = 'rq:job:' .. job
if lives(job, execution) then return 'alive' end
if redis.call('TYPE', key)['ok'] ~= 'hash' then
  redis.call('ZREM', 'rq:wip:' .. queue, job .. ':' .. execution)
  return 'dropped'
end
if not let_go(queue, job, execution) or is_held(job) then return 'dropped' end
if not tonumber(redis.call('HGET', key, 'deaths') or 0) then redis.call('HDEL', key, 'deaths') end
if redis.call('HINCRBY', key, 'deaths', 1) < tonumber(ARGV[6]) then
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
# ARGV: job. Returns 1 when the job was put back.
PUT_BACK = (
    _COMMON
    + """
if is_held(ARGV[1]) or redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
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

# Progress and other notes of a running job. ARGV: queue, job, execution, meta. Returns 1 when written.
KEEP_META = """
if not redis.call('ZSCORE', 'rq:wip:' .. ARGV[1], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
if redis.call('HGET', 'rq:job:' .. ARGV[2], 'status') ~= 'started' then return 0 end
redis.call('HSET', 'rq:job:' .. ARGV[2], 'meta', ARGV[4])
return 1
"""
