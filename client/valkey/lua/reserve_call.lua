-- Reserve a call under a limit of calls per minute, by the generic cell rate algorithm: one number is the time at which
-- all reserved calls have gone, in milliseconds of the server's clock.
-- KEYS: the number. ARGV: milliseconds between calls, size of a burst, longest wait in milliseconds.
-- Returns the wait in milliseconds; -1 when that would be longer, and then nothing is reserved.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local free_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) or 0, now) + interval
local wait = math.max(0, math.ceil(free_at - interval * burst - now))
if wait > tonumber(ARGV[3]) then return -1 end
redis.call('SET', KEYS[1], free_at, 'PX', math.ceil(free_at - now) + 60000)
return wait
