-- Write a delivery, and the RQ job of its next attempt. KEYS: delivery, due deliveries, message.
-- ARGV: delivery id, stored seq that is required ('' for a new delivery), seconds to keep the delivery, now in Unix
-- seconds, new record, new seq, time of the next attempt ('' without one), queue, RQ job to remove or '', RQ job, its
-- fields and values ...
-- Returns 1 if written, 0 if the stored seq differs.
-- include ../../client/rq/lua/fair_queue.lua
if (redis.call('HGET', KEYS[1], 'seq') or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[5], 'seq', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[3])
local queue, scheduled = QUEUE .. ARGV[8], SCHEDULED_JOBS .. ARGV[8]
if ARGV[9] ~= '' and (redis.call('ZREM', scheduled, ARGV[9]) == 1 or redis.call('LREM', queue, 1, ARGV[9]) == 1) then
  redis.call('DEL', JOB .. ARGV[9])
end
if ARGV[7] == '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 1
end
redis.call('ZADD', KEYS[2], ARGV[7], ARGV[1])
redis.call('SADD', QUEUES, queue)
redis.call('HSET', JOB .. ARGV[10], unpack(ARGV, 11))
if tonumber(ARGV[7]) > tonumber(ARGV[4]) then
  redis.call('HSET', JOB .. ARGV[10], 'status', 'scheduled')
  redis.call('ZADD', scheduled, ARGV[7], ARGV[10])
else
  redis.call('HSET', JOB .. ARGV[10], 'status', 'queued')
  adopt(ARGV[8])
  place_job(ARGV[8], ARGV[10])
end
return 1
