-- Put a failed job at the end of its queue, as if it had never run. KEYS: job, registry of failed jobs, queue list.
-- ARGV: job, time as RQ writes it. Returns 1, or 0 when the job is not a dead letter of this queue.
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' or redis.call('HGET', KEYS[1], 'status') ~= 'failed' then return 0 end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'enqueued_at', ARGV[2])
redis.call('HDEL', KEYS[1], 'started_at', 'ended_at', 'worker_name', 'deaths', 'losses', 'draft', 'cancel', 'exc_info')
redis.call('PERSIST', KEYS[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
return 1
