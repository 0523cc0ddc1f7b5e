-- Find the processes of a host that hold jobs of a queue. ARGV: queue, name of the host. Returns their names, each once.
-- include transitions.lua
local holders, seen = {}, {}
delete_wrong_type(WIP .. ARGV[1], 'zset')
for _, pair in ipairs(redis.call('ZRANGE', WIP .. ARGV[1], 0, -1)) do
  local holder = redis.pcall('HGET', EXECUTION .. pair, 'holder')
  if type(holder) == 'string' and not seen[holder] and string.sub(holder, 1, #ARGV[2] + 1) == ARGV[2] .. '/' then
    holders[#holders + 1] = holder
    seen[holder] = true
  end
end
return holders
