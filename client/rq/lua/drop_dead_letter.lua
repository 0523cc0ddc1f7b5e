-- Delete a failed job, also when only its entry in the registry is left.
-- KEYS: job, registry of failed jobs, results, executions, events. ARGV: job.
-- Returns 1, or 0 when the job is not a dead letter of this queue.
local status = redis.pcall('HGET', KEYS[1], 'status')
if type(status) == 'string' and status ~= 'failed' then return 0 end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5])
return 1
