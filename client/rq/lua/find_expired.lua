-- Find the pairs of job and execution in the registry whose lease has run out; with names of processes, the pairs that
-- these processes hold. ARGV: queue, names of processes ...
-- include transitions.lua
local found, processes = {}, arguments_from(2)
delete_wrong_type(WIP .. ARGV[1], 'zset')
for _, pair in ipairs(redis.call('ZRANGE', WIP .. ARGV[1], 0, -1)) do
  local job, execution = string.match(pair, '^(.*):(.*)$')
  if not job then  -- not written by a worker
  elseif #ARGV == 1 then
    if not is_alive(job, execution) then found[#found + 1] = pair end
  elseif processes[redis.pcall('HGET', EXECUTION .. pair, 'holder')] then
    found[#found + 1] = pair
  end
end
return found
