-- Find the pairs of job and execution in the registry whose lease has run out. ARGV: queue.
-- include transitions.lua
local expired = {}
delete_wrong_type(WIP .. ARGV[1], 'zset')
for _, pair in ipairs(redis.call('ZRANGE', WIP .. ARGV[1], 0, -1)) do
  local job, execution = string.match(pair, '^(.*):(.*)$')
  if job and not is_alive(job, execution) then expired[#expired + 1] = pair end
end
return expired
