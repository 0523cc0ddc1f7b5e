-- Claim a job of ours that a stock worker already executes, and give its execution a lease.
-- ARGV: queue, job, worker's name, lease seconds, name of this process, id of its parent, name of its parent.
-- The worker is the parent of a process that it forks for the job; otherwise it is this process.
-- Returns {execution, attempt, process id of the worker}, or {'', 0, ''} when the job is another worker's, or was
-- cancelled after the worker took it from its list. The status of the cancelled job, which the worker has overwritten,
-- is written again.
-- include transitions.lua
local queue, job, worker = ARGV[1], ARGV[2], ARGV[3]
if field(job, 'status') ~= 'started' then return {'', 0, ''} end
delete_wrong_type(EXECUTIONS .. job, 'zset')
local found, latest = nil, -1
for _, execution in ipairs(redis.call('ZRANGE', EXECUTIONS .. job, 0, -1)) do
  local pair = job .. ':' .. execution
  local name = redis.pcall('HGET', EXECUTION .. pair, 'worker_name')
  if name == worker and redis.call('ZSCORE', WIP .. queue, pair) then
    local created = tonumber(redis.call('HGET', EXECUTION .. pair, 'created_at')) or 0
    if created > latest then found, latest = execution, created end
  end
end
if not found then return {'', 0, ''} end
local cancelled = field(job, 'cancel')
if cancelled ~= '' and cancelled < field(job, 'enqueued_at') then  -- in an earlier run or wait
  redis.call('HDEL', JOB .. job, 'cancel')
elseif cancelled ~= '' and cancelled == field(job, 'ended_at') then
  end_execution(queue, job, found)
  redis.call('HSET', JOB .. job, 'status', 'canceled')
  local expiry = tonumber(redis.call('ZSCORE', CANCELED_JOBS .. queue, job)) or clock
  redis.call('EXPIRE', JOB .. job, math.max(1, math.ceil(expiry - clock)))  -- RQ removed its expiry
  pcall(release_dependents, job, cancelled)  -- jobs submitted meanwhile
  return {'', 0, ''}
end
local pid = redis.pcall('HGET', WORKER .. worker, 'pid')
redis.call('HSET', EXECUTION .. job .. ':' .. found, 'lease_until', clock + tonumber(ARGV[4]),
  'holder', pid == ARGV[6] and ARGV[7] or ARGV[5])
return {found, count_attempt(job), type(pid) == 'string' and pid or ''}
