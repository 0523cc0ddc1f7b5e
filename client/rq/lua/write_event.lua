-- Append an event. Only the latest attempt at a running job may: an earlier attempt, taken for dead, may still run.
-- KEYS: job, its events. ARGV: attempt, job, seconds to keep the events, how many, type, data.
-- Returns 1 when written.
if redis.call('HGET', KEYS[1], 'status') ~= 'started' or redis.call('HGET', KEYS[1], 'attempts') ~= ARGV[1] then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'type', ARGV[5], 'data', ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', WAKE_CHANNEL, ARGV[2])
return 1
