-- Write a field of a running job: its notes (`meta`) or what its model answered (`draft`).
-- ARGV: queue, job, execution, field, value. Returns 1 when written.
if not redis.call('ZSCORE', WIP .. ARGV[1], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
if redis.call('HGET', JOB .. ARGV[2], 'status') ~= 'started' then return 0 end
redis.call('HSET', JOB .. ARGV[2], ARGV[4], ARGV[5])
return 1
