-- Find outbox entries whose job has ended, or existed and is gone. Writes only changes. KEYS: pending entries.
-- ARGV: now in Unix seconds, index of the first entry, number of entries, seconds after which an entry whose job was
-- never seen is dropped. Returns the ids of the jobs.
local ENDED = {finished = true, failed = true, stopped = true, canceled = true}
local ended = {}
for _, job in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1)) do
  local entry = OUTBOX_ENTRY .. job
  local status = redis.pcall('HGET', JOB .. job, 'status')
  local seen = redis.call('HGET', entry, 'seen')
  if type(status) == 'string' then
    if not seen then redis.call('HSET', entry, 'seen', 1) end
    if ENDED[status] then ended[#ended + 1] = job end
  elseif seen then
    ended[#ended + 1] = job
  elseif tonumber(ARGV[1]) - tonumber(redis.call('ZSCORE', KEYS[1], job)) > tonumber(ARGV[4]) then
    redis.call('DEL', entry)
    redis.call('ZREM', KEYS[1], job)
  end
end
return ended
