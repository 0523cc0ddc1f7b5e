-- Take a job from an execution whose lease has run out. The job goes to the front of its list, or to the dead letters
-- after too many attempts; a cancelled job ends.
-- ARGV: queue, job, execution, now, now in Unix seconds, attempts allowed, ttl for a job without one, meta of a dead
-- letter, fields and values of its result ...
-- Returns 'requeued', 'dead', 'cancelled', 'alive' (nothing was done) or 'dropped' (the job has ended, or another
-- execution holds it).
-- include transitions.lua
local queue, job, execution, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = JOB .. job
if is_alive(job, execution) then return 'alive' end
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
local deaths = redis.pcall('HINCRBY', key, 'deaths', 1)
if type(deaths) ~= 'number' then
  deaths = 1
  redis.call('HSET', key, 'deaths', deaths)
end
if deaths < tonumber(ARGV[6]) then
  requeue(queue, job, now)
  return 'requeued'
end
redis.call('HSET', key, 'meta', ARGV[8])
local result = {}
for place = 9, #ARGV do result[#result + 1] = ARGV[place] end
local ttl = tonumber(redis.call('HGET', key, 'failure_ttl') or ARGV[7]) or tonumber(ARGV[7])
write_end(queue, job, 'failed', now, tonumber(ARGV[5]), ttl, result)
pcall(release_dependents, job, now)
return 'dead'
