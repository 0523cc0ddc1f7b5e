-- Take a job from a dead execution. The job goes to the front of its list, or to the dead letters after too many deaths;
-- a cancelled job ends. A death counts when nothing else died with it. Otherwise it is a loss, which makes the job a
-- suspect after some (`take.lua`).
-- ARGV: queue, job, execution, now, now in Unix seconds, deaths allowed, ttl for a job without one, name of the dead
-- process or '', '1' when nothing else died, meta of a dead letter, fields and values of its result ...
-- Returns 'requeued', 'dead', 'cancelled', 'alive' (nothing was done) or 'dropped' (the job has ended, or another
-- execution holds it).
-- include transitions.lua
local queue, job, execution, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = JOB .. job
if is_alive(job, execution, {[ARGV[8]] = ARGV[8] ~= ''}) then return 'alive' end
if redis.call('TYPE', key)['ok'] ~= 'hash' then
  redis.call('ZREM', WIP .. queue, job .. ':' .. execution)
  return 'dropped'
end
-- A stock worker that is about to write how this job ended watches this key, and then writes nothing (`queues.stock`).
redis.pcall('SADD', dependents_of(job), '-')
redis.pcall('SREM', dependents_of(job), '-')
if not end_execution(queue, job, execution) or is_held(queue, job) then return 'dropped' end
if is_cancelled(job) then
  end_cancelled(queue, job, now, tonumber(ARGV[5]))
  return 'cancelled'
end
if ARGV[9] ~= '1' then
  if type(redis.pcall('HINCRBY', key, 'losses', 1)) ~= 'number' then redis.call('HSET', key, 'losses', 1) end
  requeue(queue, job, now)
  return 'requeued'
end
local deaths = redis.pcall('HINCRBY', key, 'deaths', 1)
if type(deaths) ~= 'number' then
  deaths = 1
  redis.call('HSET', key, 'deaths', deaths)
end
if deaths < tonumber(ARGV[6]) then
  requeue(queue, job, now)
  return 'requeued'
end
redis.call('HSET', key, 'meta', ARGV[10])
local result = {}
for place = 11, #ARGV do result[#result + 1] = ARGV[place] end
local ttl = tonumber(redis.call('HGET', key, 'failure_ttl') or ARGV[7]) or tonumber(ARGV[7])
write_end(queue, job, 'failed', now, tonumber(ARGV[5]), ttl, result)
pcall(release_dependents, job, now)
return 'dead'
