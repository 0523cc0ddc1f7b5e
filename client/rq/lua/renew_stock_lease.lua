-- Renew the lease of a stock worker's execution. ARGV: queue, job, execution, lease seconds, registry seconds.
-- Returns 0 when the execution does not hold the job any more, 1 when it does, 2 when the job was also cancelled.
-- include transitions.lua
local queue, job, pair, ttl = ARGV[1], ARGV[2], ARGV[2] .. ':' .. ARGV[3], tonumber(ARGV[5])
local key, all = EXECUTION .. pair, EXECUTIONS .. job
if redis.call('TYPE', key)['ok'] ~= 'hash' or field(job, 'status') ~= 'started' then return 0 end
if type(redis.pcall('ZSCORE', WIP .. queue, pair)) ~= 'string' then return 0 end
redis.call('HSET', key, 'lease_until', clock + tonumber(ARGV[4]))
-- RQ's worker renews these expiries every 30 s; SimpleWorker never does while it runs a job.
if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
redis.call('ZADD', WIP .. queue, 'XX', 'GT', clock + ttl, pair)
delete_wrong_type(all, 'zset')
redis.call('ZADD', all, 'GT', clock + ttl + 60, ARGV[3])
if redis.call('TTL', all) < ttl + 60 then redis.call('EXPIRE', all, ttl + 60) end
return is_cancelled(job) and 2 or 1
