-- Move scheduled jobs whose time has come to their list. ARGV: queue, now, now in Unix seconds. Returns how many.
local due = redis.call('ZRANGEBYSCORE', SCHEDULED_JOBS .. ARGV[1], 0, ARGV[3], 'LIMIT', 0, 500)
for _, job in ipairs(due) do
  local key = JOB .. job
  redis.call('ZREM', SCHEDULED_JOBS .. ARGV[1], job)
  if redis.call('TYPE', key)['ok'] == 'hash' and redis.call('HGET', key, 'status') == 'scheduled' then
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[2])
    redis.call(redis.call('HGET', key, 'enqueue_at_front') == '1' and 'LPUSH' or 'RPUSH', QUEUE .. ARGV[1], job)
  end
end
return #due
