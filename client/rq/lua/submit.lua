-- Write a job, its outbox entry and its places in the lists of jobs, and put it on its queue or make it wait. Does
-- nothing for a job that exists.
-- KEYS: job, its events, its outbox entry, pending entries, endpoints of the owner, jobs of the owner, jobs of all,
-- jobs of its conversation if any.
-- ARGV: queue, job, seconds to keep the events, seconds to keep the jobs of the conversation, URL or '', outbox entry
-- as JSON ('' for none), now in Unix seconds, the time of the job's creation, seconds to keep the lists of jobs, number of
-- dependencies, their ids ..., fields and values of the job ...
-- Returns 1, or 0 for a job that exists.
-- include dependencies.lua
-- include outbox.lua

-- Return the job that a new job of a conversation has to wait for: the previous job; nil for the first job. A job that
-- was cancelled before it ran is left out: jobs before it may still run.
local function previous_job(key, job, ttl)
  local place = redis.call('LPOS', key, job) or redis.call('RPUSH', key, job) - 1
  local previous = nil
  for at = place - 1, 0, -1 do
    local id = redis.call('LINDEX', key, at)
    if field(id, 'status') ~= 'canceled' then
      previous = id
      break
    end
    redis.call('LREM', key, 1, id)
  end
  redis.call('LTRIM', key, -MAX_CONVERSATION_JOBS, -1)
  redis.call('EXPIRE', key, ttl)
  return previous
end

-- Write the first event of the job, with its position in the queue; a deferred job has no position yet.
local function write_queued_event(events, queue, job, ttl)
  local list = QUEUE .. queue
  local at_end = redis.call('LINDEX', list, -1) == job
  local place = at_end and redis.call('LLEN', list) - 1 or redis.call('LPOS', list, job)
  local data = place and '{"position": ' .. place + 1 .. '}' or '{}'
  redis.pcall('XADD', events, '1-0', 'type', 'queued', 'data', data)
  redis.call('EXPIRE', events, ttl)
end

-- Add the job to lists of jobs, and remove from the lists what has expired.
local function list_job(lists, job, created_at, ttl)
  for _, list in ipairs(lists) do
    redis.call('ZADD', list, 'NX', created_at, job)
    redis.call('ZREMRANGEBYSCORE', list, '-inf', created_at - ttl)
    redis.call('EXPIRE', list, ttl)
  end
end

local queue, job, count, before = ARGV[1], ARGV[2], tonumber(ARGV[10]), {}
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[6] ~= '' then write_outbox_entry(KEYS[3], KEYS[4], KEYS[5], job, ARGV[5], ARGV[6], ARGV[7]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 11 + count))
redis.call('SADD', QUEUES, QUEUE .. queue)
list_job({KEYS[6], KEYS[7]}, job, ARGV[8], ARGV[9])
for place = 11, 10 + count do before[#before + 1] = ARGV[place] end
if KEYS[8] then before[#before + 1] = previous_job(KEYS[8], job, ARGV[4]) end
if #before > 0 then
  redis.call('HSET', KEYS[1], 'dependency_id', before[1], 'dependency_ids', cjson.encode(before),
    'allow_dependency_failures', 1)
end
if not defer(queue, job, before) then
  adopt(queue)
  place_job(queue, job)
end
write_queued_event(KEYS[2], queue, job, ARGV[3])
return 1
