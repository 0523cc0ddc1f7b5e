-- Write the notes of a running job, such as its progress. ARGV: queue, job, execution, meta. Returns 1 when written.
if not redis.call('ZSCORE', WIP .. ARGV[1], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
if redis.call('HGET', JOB .. ARGV[2], 'status') ~= 'started' then return 0 end
redis.call('HSET', JOB .. ARGV[2], 'meta', ARGV[4])
return 1
