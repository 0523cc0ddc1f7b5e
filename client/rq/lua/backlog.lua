-- The waiting jobs of an owner.
-- include fair_queue.lua

local unix = tonumber(redis.call('TIME')[1])

-- Count an owner's jobs that wait on a queue, wait for other jobs, or have a slot reserved.
local function count_waiting(queue, owner)
  local owned, _, first = owner_key(queue, owner), refresh(queue)
  delete_wrong_type(owned, 'zset')
  if first then redis.call('ZREMRANGEBYSCORE', owned, '-inf', exclusive(first)) end
  redis.call('ZREMRANGEBYSCORE', owned, to_text(RESERVED), exclusive(RESERVED + unix - RESERVED_SECONDS))
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', owned, to_text(DEFERRED), exclusive(RESERVED))) do
    local status = field(job, 'status')
    if status ~= 'deferred' and status ~= 'queued' then redis.call('ZREM', owned, job) end
  end
  return redis.call('ZCARD', owned)
end
