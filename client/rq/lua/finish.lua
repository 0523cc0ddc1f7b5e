-- End a job that an execution holds. KEYS: worker.
-- ARGV: queue, job, execution, status, now, now in Unix seconds, ttl, meta or '', counter of the worker, seconds
-- worked, fields and values of the result ...
-- Returns 1 when written, 2 when this execution wrote it before, 0 when the execution does not hold the job any more.
-- include transitions.lua
local queue, job, execution, status, now, unix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if not end_execution(queue, job, execution) then
  local kind = redis.call('TYPE', RESULTS .. job)['ok']
  local last = kind == 'stream' and redis.call('XREVRANGE', RESULTS .. job, '+', '-', 'COUNT', 1)[1]
  for place = 1, last and #last[2] or 0, 2 do
    if last[2][place] == 'execution_id' and last[2][place + 1] == execution then return 2 end
  end
  return 0
end
if ARGV[8] ~= '' then redis.call('HSET', JOB .. job, 'meta', ARGV[8]) end
local result = {}
for place = 11, #ARGV do result[#result + 1] = ARGV[place] end
write_end(queue, job, status, now, unix, tonumber(ARGV[7]), result)
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.pcall('HINCRBY', KEYS[1], ARGV[9], 1)
  redis.pcall('HINCRBYFLOAT', KEYS[1], 'total_working_time', ARGV[10])
  if redis.pcall('HGET', KEYS[1], 'current_job') == job then redis.call('HDEL', KEYS[1], 'current_job') end
end
pcall(release_dependents, job, now)
return 1
