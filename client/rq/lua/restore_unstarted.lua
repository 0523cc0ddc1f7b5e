-- Put a job back on its list whose stock worker died between taking and starting the job.
-- KEYS: queue list, intermediate list. ARGV: job, queue. Returns 1 when the job was put back.
-- include transitions.lua
if is_held(ARGV[2], ARGV[1]) or redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
local key = JOB .. ARGV[1]
if redis.call('TYPE', key)['ok'] ~= 'hash' or redis.call('HGET', key, 'status') ~= 'queued' then return 0 end
if redis.call('LPOS', KEYS[1], ARGV[1]) then return 0 end
redis.call('LPUSH', KEYS[1], ARGV[1])
return 1
