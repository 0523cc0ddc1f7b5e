-- Delete an ended job, with its results and its events.
-- KEYS: job, results, executions, events, its outbox entry, the registries of ended jobs. ARGV: job.
-- Returns 1, also when there is no such job; 0 when the job has not ended, or its webhooks are not queued yet: what they
-- send is read from the job.
local status = redis.call('HGET', KEYS[1], 'status')
local ended = {finished = true, failed = true, stopped = true, canceled = true}
if status and not ended[status] then return 0 end
if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
for place = 6, #KEYS do redis.call('ZREM', KEYS[place], ARGV[1]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return 1
