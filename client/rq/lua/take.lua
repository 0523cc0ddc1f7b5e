-- Take jobs from a list, one for each execution id.
-- KEYS: queue list, worker.
-- ARGV: queue, worker's name, now, now in Unix seconds, lease seconds, registry seconds, name of the process, '1' when
-- no job runs in the worker, execution ids ...
-- Returns {1 when suspended, jobs, ids that were dropped with a reason after each, 1 when a suspect waits}; a job is {id,
-- execution, previous status, values of FIELDS}.
-- A suspect is a job whose workers died SUSPECT_LOSSES times with other jobs. It is taken alone, by an idle worker: if
-- the worker dies again, then of this job.
-- include transitions.lua
local queue, worker, now, unix = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lease, ttl = tonumber(ARGV[5]), tonumber(ARGV[6])
local jobs, dropped, place, suspect_waits = {}, {}, 9, 0

local function drop(id, reason)
  dropped[#dropped + 1] = id
  dropped[#dropped + 1] = reason
end

local function start(id, execution, previous, marked)
  local key, pair = JOB .. id, id .. ':' .. execution
  redis.call('HSET', key, 'status', 'started', 'started_at', now, 'last_heartbeat', now, 'worker_name', worker)
  redis.call('PERSIST', key)
  if marked then redis.call('HDEL', key, 'cancel') end  -- of an earlier run
  count_attempt(id)
  redis.call('HSET', EXECUTION .. pair, 'id', execution, 'created_at', ARGV[4],
    'last_heartbeat', ARGV[4], 'worker_name', worker, 'lease_until', clock + lease, 'holder', ARGV[7])
  redis.call('EXPIRE', EXECUTION .. pair, ttl)
  delete_wrong_type(EXECUTIONS .. id, 'zset')
  redis.call('ZADD', EXECUTIONS .. id, unix + ttl + 60, execution)
  redis.call('EXPIRE', EXECUTIONS .. id, ttl + 60)
  redis.call('ZADD', WIP .. queue, unix + ttl, pair)
  redis.call('PUBLISH', WAKE_CHANNEL, id)
  jobs[#jobs + 1] = {id, execution, previous, redis.call('HMGET', key, unpack(FIELDS))}
end

local function is_suspect(id)
  local losses = redis.pcall('HGET', JOB .. id, 'losses')
  return type(losses) == 'string' and (tonumber(losses) or 0) >= SUSPECT_LOSSES
end

if redis.call('EXISTS', SUSPENDED) == 1 then return {1, jobs, dropped, 0} end
delete_wrong_type(WIP .. queue, 'zset')
delete_wrong_type(KEYS[2], 'hash')
for _ = 1, 1000 do
  local id = place <= #ARGV and redis.call('LPOP', KEYS[1])
  if not id then break end
  local suspect = is_suspect(id)
  if suspect and (ARGV[8] ~= '1' or #jobs > 0) then
    redis.call('LPUSH', KEYS[1], id)
    suspect_waits = 1
    break
  end
  local key = JOB .. id
  local kind = redis.call('TYPE', key)['ok']
  local previous, marked = '', false
  if kind == 'hash' then
    local found = redis.call('HMGET', key, 'status', 'cancel')
    previous, marked = found[1] or '', found[2]
  end
  if kind ~= 'hash' then
    drop(id, kind == 'none' and 'its record is gone' or 'its record is not a hash')
  elseif ENDED[previous] then
    drop(id, 'it has ended')
  elseif not string.match(id, '^[%w_-]+$') then
    redis.call('HSET', key, 'status', 'failed')
    drop(id, 'its id is not a job id')
  elseif previous == 'started' and is_held(queue, id) then
    drop(id, 'it runs already')
  elseif marked and is_cancelled(id) then
    end_cancelled(queue, id, now, unix)
    drop(id, 'it was cancelled')
  else
    start(id, ARGV[place], previous, marked)
    place = suspect and #ARGV + 1 or place + 1
  end
end
if #jobs > 0 and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('HSET', KEYS[2], 'state', 'busy', 'current_job', jobs[#jobs][1])
end
return {0, jobs, dropped, suspect_waits}
