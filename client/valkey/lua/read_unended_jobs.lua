-- Return the ids of the jobs that have not ended, and the keys of ARGV together with all keys of these jobs, of pending
-- outbox entries and of due deliveries: the state of the queues at one moment.
-- include read_keys.lua

local records, seen, ids, known = {}, {}, {}, {}

local function add_job(id)
  if not known[id] then
    known[id] = true
    ids[#ids + 1] = id
  end
end

local function add_jobs(list) for _, id in ipairs(list) do add_job(id) end end

for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local queue = string.sub(key, #QUEUE + 1)
  add_jobs(redis.call('LRANGE', key, 0, -1))
  add_jobs(redis.call('LRANGE', key .. ':intermediate', 0, -1))
  add_jobs(redis.call('ZRANGE', DEFERRED_JOBS .. queue, 0, -1))
  add_jobs(redis.call('ZRANGE', SCHEDULED_JOBS .. queue, 0, -1))
  for _, member in ipairs(redis.call('ZRANGE', WIP .. queue, 0, -1)) do
    add_job(string.match(member, '^(.*):') or member)
  end
end

read_keys(ARGV, records, seen)
for _, id in ipairs(ids) do
  local job = JOB .. id
  local own = {job, job .. ':dependents', job .. ':dependencies', RESULTS .. id, EVENTS .. id, OUTBOX_ENTRY .. id}
  own[#own + 1] = EXECUTIONS .. id
  for _, execution in ipairs(redis.call('ZRANGE', EXECUTIONS .. id, 0, -1)) do
    own[#own + 1] = EXECUTION .. id .. ':' .. execution
  end
  read_keys(own, records, seen)
end
for _, id in ipairs(redis.call('ZRANGE', OUTBOX_PENDING, 0, -1)) do read_keys({OUTBOX_ENTRY .. id}, records, seen) end
for _, id in ipairs(redis.call('ZRANGE', DELIVERIES_DUE, 0, -1)) do read_keys({DELIVERY .. id}, records, seen) end
return {ids, records}
