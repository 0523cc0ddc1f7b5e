-- Reserve a call under a limit of calls per minute. The generic cell rate algorithm: one number says when the next call
-- may go, in milliseconds of the server's clock.
-- KEYS: the number. ARGV: milliseconds between calls, how many may go at once, longest wait in milliseconds.
-- Returns the wait in milliseconds; -1 when that would be longer, and then nothing is reserved.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval, at_once = tonumber(ARGV[1]), tonumber(ARGV[2])
local free_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) or 0, now) + interval
local wait = math.max(0, math.ceil(free_at - interval * at_once - now))
if wait > tonumber(ARGV[3]) then return -1 end
redis.call('SET', KEYS[1], free_at, 'PX', math.ceil(free_at - now) + 60000)
return wait
