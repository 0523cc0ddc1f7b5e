-- Renew a worker's record and the leases of its executions. KEYS: worker.
-- ARGV: now, now in Unix seconds, lease seconds, registry seconds, seconds to keep the worker, state, worker's name, name
-- of the process, and for each execution its queue, job, id, and start in Unix seconds.
-- Returns {1 when the worker is known, places of executions that lost their job, places of those whose job was
-- cancelled}; places count from 1.
-- include transitions.lua
local now, unix, lease, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
delete_wrong_type(KEYS[1], 'hash')
local known, lost, cancelled = redis.call('EXISTS', KEYS[1]), {}, {}
if known == 1 then
  redis.call('HSET', KEYS[1], 'last_heartbeat', now, 'state', ARGV[6])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
for place = 9, #ARGV, 4 do
  local queue, job, execution = ARGV[place], ARGV[place + 1], ARGV[place + 2]
  local pair = job .. ':' .. execution
  local held = redis.pcall('ZSCORE', WIP .. queue, pair)
  if type(held) == 'string' and field(job, 'status') == 'started' then
    local key = EXECUTION .. pair
    delete_wrong_type(key, 'hash')
    delete_wrong_type(EXECUTIONS .. job, 'zset')
    redis.call('HSET', key, 'id', execution, 'created_at', ARGV[place + 3], 'last_heartbeat', ARGV[2],
      'worker_name', ARGV[7], 'lease_until', clock + lease, 'holder', ARGV[8])
    redis.call('EXPIRE', key, ttl)
    redis.call('HSET', JOB .. job, 'last_heartbeat', now)
    redis.call('ZADD', WIP .. queue, unix + ttl, pair)
    redis.call('ZADD', EXECUTIONS .. job, unix + ttl + 60, execution)
    redis.call('EXPIRE', EXECUTIONS .. job, ttl + 60)
    if is_cancelled(job) then cancelled[#cancelled + 1] = (place - 9) / 4 + 1 end
  else
    lost[#lost + 1] = (place - 9) / 4 + 1
  end
end
return {known, lost, cancelled}
