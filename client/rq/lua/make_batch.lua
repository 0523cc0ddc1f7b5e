-- Write a batch unless it exists. KEYS: the batch. ARGV: seconds to keep it, its owner, ids of its jobs ...
-- Returns the ids of its jobs.
if redis.call('EXISTS', KEYS[1]) == 0 then
  for at = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[at]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return redis.call('LRANGE', KEYS[1], 1, -1)
