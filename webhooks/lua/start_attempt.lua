-- Start an attempt at a receiver, if allowed. KEYS: slow receiver, its probe, slow owner, attempts of the owner.
-- ARGV: delivery, now in Unix seconds, seconds of a probe, number of attempts that a slow owner may make at once.
-- Returns 1 if the attempt may be made, else 0.
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[2] - ARGV[3])
local slow = redis.call('EXISTS', KEYS[3]) == 1
if slow and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[4]) then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 and not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[3])
return 1
