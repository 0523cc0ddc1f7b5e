-- Reserve a slot for each new job, or no slot at all. A job that exists or has a slot needs none.
-- ARGV: owner, how many jobs may wait, queue, number of queues that count, those queues ..., ids ...
-- Returns 1 when every job has a slot.
-- include backlog.lua
local sum, new = 0, {}
for place = 5, 4 + ARGV[4] do sum = sum + count_waiting(ARGV[place], ARGV[1]) end
local owned = owner_key(ARGV[3], ARGV[1])
for place = 5 + ARGV[4], #ARGV do
  if redis.call('EXISTS', JOB .. ARGV[place]) == 0 and not redis.call('ZSCORE', owned, ARGV[place]) then
    new[#new + 1] = ARGV[place]
  end
end
if #new == 0 then return 1 end
if sum + #new > tonumber(ARGV[2]) then return 0 end
for _, job in ipairs(new) do redis.call('ZADD', owned, RESERVED + unix, job) end
redis.call('EXPIRE', owned, FAIR_QUEUE_TTL)
return 1
