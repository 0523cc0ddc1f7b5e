-- Append events. Only the latest attempt at a running job may: an earlier attempt, taken for dead, may still run.
-- KEYS: job, its events.
-- ARGV: attempt, job, seconds to keep the events, how many, id or '', type and data of each event.
-- With an id the call repeats calls whose replies were lost. The id is the last that this attempt knows to be written;
-- the events after it in the stream are the first of this call.
-- Returns the id of the last event; nil when this attempt may not write.
local job = redis.call('HMGET', KEYS[1], 'status', 'attempts')
if job[1] ~= 'started' or job[2] ~= ARGV[1] then return false end
local written = ARGV[5] ~= '' and redis.call('XRANGE', KEYS[2], '(' .. ARGV[5], '+') or {}
local last = #written > 0 and written[#written][1]
for place = 6 + 2 * #written, #ARGV, 2 do
  last = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'type', ARGV[place], 'data', ARGV[place + 1])
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', WAKE_CHANNEL, ARGV[2])
return last
