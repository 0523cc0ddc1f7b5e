-- Remove jobs whose record has expired from the registry of cancelled jobs. The record of a job that RQ itself cancels
-- never expires, and its score in the registry is the time of the cancellation.
-- ARGV: queue, now in Unix seconds, how many to check, seconds until a job that still exists is checked again.
-- Returns how many were checked.
local key = CANCELED_JOBS .. ARGV[1]
local due = redis.call('ZRANGEBYSCORE', key, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, job in ipairs(due) do
  if redis.call('EXISTS', JOB .. job) == 1 then
    redis.call('ZADD', key, ARGV[2] + ARGV[4], job)
  else
    redis.call('ZREM', key, job)
  end
end
return #due
