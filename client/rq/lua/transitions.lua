-- Parts of the steps that a job takes. `now` is the time as RQ writes it, `unix` the worker's clock in Unix seconds.
-- include dependencies.lua

local ENDED = {finished = true, failed = true, stopped = true, canceled = true}

-- The server's clock: leases are written and compared by it.
local clock = tonumber(redis.call('TIME')[1])

-- Return true if an execution exists and its lease has not run out. Under a stock worker, only jobs of ours have a
-- lease; the execution of any other job lives until its record expires. `dead` holds names of dead processes: what they
-- execute is not alive. A lease that ends later than any worker grants, as after the clock was set back, is not believed.
local function is_alive(job, execution, dead)
  local key = EXECUTION .. job .. ':' .. execution
  if redis.call('TYPE', key)['ok'] ~= 'hash' then return false end
  local found = redis.call('HMGET', key, 'lease_until', 'holder')
  if dead and found[2] and dead[found[2]] then return false end
  if not found[1] then return true end
  local lease = tonumber(found[1]) or 0
  return lease > clock and lease <= clock + LONGEST_LEASE
end

-- Return the arguments from `first` on as a set.
local function arguments_from(first)
  local set = {}
  for place = first, #ARGV do set[ARGV[place]] = true end
  return set
end

-- Return true if a live execution holds the job.
local function is_held(queue, job)
  local key = EXECUTIONS .. job
  delete_wrong_type(key, 'zset')
  for _, execution in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    if redis.call('ZSCORE', WIP .. queue, job .. ':' .. execution) and is_alive(job, execution) then return true end
  end
  return false
end

-- Take the job from the execution. Return false if the execution did not hold it.
local function end_execution(queue, job, execution)
  local pair = job .. ':' .. execution
  local held = redis.call('ZREM', WIP .. queue, pair) == 1
  redis.call('DEL', EXECUTION .. pair)
  delete_wrong_type(EXECUTIONS .. job, 'zset')
  redis.call('ZREM', EXECUTIONS .. job, execution)
  return held and field(job, 'status') == 'started'
end

-- Put a job at the front of its queue.
local function requeue(queue, job, now)
  local key = JOB .. job
  redis.call('HSET', key, 'status', 'queued', 'enqueued_at', now)
  redis.call('HDEL', key, 'started_at', 'ended_at', 'worker_name')
  redis.call('PERSIST', key)
  redis.call('LPUSH', QUEUE .. queue, job)
  redis.call('PUBLISH', WAKE_CHANNEL, job)
end

-- Write how a job ended: its record, its result, its registry. `result` holds fields and values in turn.
local function write_end(queue, job, status, now, unix, ttl, result)
  local key, results = JOB .. job, RESULTS .. job
  ttl = ttl == ttl and math.min(math.floor(ttl), 10^9) or 86400  -- EXPIRE takes whole numbers up to a limit only
  if ttl == 0 then
    redis.call('DEL', key, results, EXECUTIONS .. job, EVENTS .. job)
    redis.call('PUBLISH', WAKE_CHANNEL, job)
    return
  end
  redis.call('HSET', key, 'status', status, 'ended_at', now, 'last_heartbeat', now)
  redis.call('HDEL', key, 'deaths', 'losses', 'draft', 'cancel')
  delete_wrong_type(results, 'stream')
  redis.call('XADD', results, 'MAXLEN', 10, '*', unpack(result))
  local registry = (status == 'finished' and FINISHED_JOBS or FAILED_JOBS) .. queue
  redis.call('ZADD', registry, ttl < 0 and '+inf' or unix + ttl, job)
  if ttl > 0 then
    for _, name in ipairs({key, dependents_of(job), dependencies_of(job), results, EVENTS .. job}) do
      redis.call('EXPIRE', name, ttl)
    end
  else
    redis.call('PERSIST', key)
    redis.call('PERSIST', results)
  end
  redis.call('PUBLISH', WAKE_CHANNEL, job)
end

-- Count an attempt at a job, and return its number. Only events of the latest attempt are written.
local function count_attempt(job)
  local attempt = redis.pcall('HINCRBY', JOB .. job, 'attempts', 1)
  if type(attempt) == 'number' then return attempt end
  redis.call('HSET', JOB .. job, 'attempts', 1)
  return 1
end

-- Return true if the job was cancelled while it ran, and has not been put on its list since then, as RQ does when it
-- retries a job. Both times are written so that they compare as texts.
local function is_cancelled(job)
  local cancelled = field(job, 'cancel')
  return cancelled ~= '' and (field(job, 'status') == 'started' or cancelled >= field(job, 'enqueued_at'))
end

-- End a job that was cancelled while it ran, and that no worker runs now.
local function end_cancelled(queue, job, now, unix)
  local ttl = tonumber(field(job, 'failure_ttl')) or DEFAULT_TTL
  write_end(queue, job, 'stopped', now, unix, ttl, {'type', '2', 'worker_name', '', 'exc_string', STOPPED})
  pcall(release_dependents, job, now)
end
