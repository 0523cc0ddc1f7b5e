-- Cancel a job. A waiting job ends, and its dependents wait for its dependencies instead. A running job is marked.
-- KEYS: job, queue list, registries of cancelled, deferred and scheduled jobs, events.
-- ARGV: job, time as RQ writes it, seconds to keep the record, expiry in Unix seconds, queue.
-- Returns the name of the worker that has to stop the job, or nil.
-- include dependencies.lua
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'started' then
  redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
  return redis.call('HGET', KEYS[1], 'worker_name')
end
if status ~= 'queued' and status ~= 'deferred' and status ~= 'scheduled' and status ~= 'created' then return false end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[1], 'status', 'canceled', 'ended_at', ARGV[2], 'cancel', ARGV[2])
release_slot(ARGV[5], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[6], ARGV[3])
redis.call('PUBLISH', WAKE_CHANNEL, ARGV[1])
hand_over(ARGV[1], ARGV[2])
redis.call('EXPIRE', dependents_of(ARGV[1]), ARGV[3])
return false
