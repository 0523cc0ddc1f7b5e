-- Release deferred jobs whose dependencies have ended. A stock worker leaves such jobs behind when it dies between
-- ending a job and releasing the dependents.
-- ARGV: queue, latest time of deferral, how many to skip, how many to read, time as RQ writes it.
-- Returns how many came to their queue, and how many to skip the next time: 0 at the end.
-- include dependencies.lua
local key, released, gone = DEFERRED_JOBS .. ARGV[1], 0, 0
adopt(ARGV[1])
local deferred = redis.call('ZRANGE', key, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', ARGV[3], ARGV[4])
for _, id in ipairs(deferred) do
  if release(id, ARGV[5]) then released = released + 1 end
  if field(id, 'status') ~= 'deferred' then
    redis.call('ZREM', key, id)
    gone = gone + 1
  end
end
return {released, #deferred < tonumber(ARGV[4]) and 0 or tonumber(ARGV[3]) + #deferred - gone}
