-- Jobs that wait for other jobs. `now` is the time as RQ writes it.
-- include fair_queue.lua

local ANY_END = 'finished failed canceled stopped'
local adopted = {}

local function dependencies_of(job) return JOB .. ':' .. job .. ':dependencies' end
local function dependents_of(job) return JOB .. job .. ':dependents' end

local function members(key)
  return redis.call('TYPE', key)['ok'] == 'set' and redis.call('SMEMBERS', key) or {}
end

-- Return true if a dependency has not ended. `any_end`: a failed or cancelled job counts as ended, too. A job without a
-- record has ended. A job that RQ's tools cancelled while it waited counts as ended when its dependencies have ended.
-- `seen` is internal: each job is checked once.
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

-- Make a job wait for another that has not ended.
local function wait_for(job, before)
  redis.call('SADD', dependents_of(before), job)
  redis.call('SADD', dependencies_of(job), before)
end

-- Make a new job wait for others to end, well or not. Return false when all of them have ended.
local function defer(queue, job, before)
  local deferred = false
  for _, id in ipairs(before) do
    if unended(id, true) then
      wait_for(job, id)
      deferred = true
    end
  end
  if not deferred then return false end
  redis.call('HSET', JOB .. job, 'status', 'deferred')
  redis.call('ZADD', DEFERRED_JOBS .. queue, redis.call('TIME')[1], job)
  local owned = owner_key(queue, field(job, 'owner'))
  delete_wrong_type(owned, 'zset')
  redis.call('ZADD', owned, DEFERRED, job)
  redis.call('EXPIRE', owned, FAIR_QUEUE_TTL)
  return true
end

-- Put a deferred job on its queue, unless one of its dependencies has not ended. If the set of dependencies is lost,
-- only the job `ended` is checked, if given. Return true if the job is on its queue now.
local function release(job, now, ended)
  local queue, any_end = field(job, 'origin'), field(job, 'allow_dependency_failures') == '1'
  if field(job, 'status') ~= 'deferred' or queue == '' then return false end
  local before = members(dependencies_of(job))
  if #before == 0 then before = {ended} end
  for _, id in ipairs(before) do
    if unended(id, any_end) then return false end
  end
  redis.pcall('ZREM', DEFERRED_JOBS .. queue, job)
  redis.call('DEL', dependencies_of(job))
  redis.call('HSET', JOB .. job, 'status', 'queued', 'enqueued_at', now)
  redis.call('SADD', QUEUES, QUEUE .. queue)
  if not adopted[queue] then adopt(queue) end
  adopted[queue] = true
  place_job(queue, job)
  return true
end

-- Put the jobs that waited only for an ended job on their queues; return how many. RQ's own release loads each job, and
-- would unpickle the data that a stranger wrote.
local function release_dependents(job, now)
  local released = 0
  for _, id in ipairs(members(dependents_of(job))) do
    if release(id, now, job) then released = released + 1 end
    if field(id, 'status') ~= 'deferred' then redis.call('SREM', dependents_of(job), id) end
  end
  return released
end

-- Make the dependents of a job that will never run wait for the dependencies of that job instead.
local function hand_over(job, now)
  local before = members(dependencies_of(job))
  for _, id in ipairs(before) do redis.call('SREM', dependents_of(id), job) end
  redis.call('DEL', dependencies_of(job))
  for _, dependent in ipairs(members(dependents_of(job))) do
    if field(dependent, 'status') == 'deferred' and field(dependent, 'allow_dependency_failures') == '1' then
      redis.call('SREM', dependents_of(job), dependent)
      redis.call('SREM', dependencies_of(dependent), job)
      for _, id in ipairs(before) do
        if unended(id, true) then wait_for(dependent, id) end
      end
      release(dependent, now)
    end
  end
end
