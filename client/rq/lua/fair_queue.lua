-- The fair order of a queue: see client/rq/fair_queue.py for the scores and the keys.
-- include records.lua

-- STEP is the distance between the scores of two jobs of one kind in one round. In an owner's set, a job that waits for
-- other jobs has the score DEFERRED, and a reserved slot RESERVED plus the time: both are beyond every round.
local STEP, DEFERRED, RESERVED = 2^-16, 2^41, 2^42

local function waits(job) return field(job, 'status') == 'queued' end

local function to_text(number) return string.format('%.17g', number) end

-- Return a score as an exclusive bound of a range.
local function exclusive(number) return '(' .. to_text(number) end

-- Return the key of an owner's waiting jobs. The owner is percent-encoded as by `quoted` in client/valkey/keys.py.
local function owner_key(queue, owner)
  local name = string.gsub(owner, '[^%w_.~-]', function(c) return string.format('%%%02X', string.byte(c)) end)
  return FAIR_QUEUE .. queue .. ':of:' .. name
end

-- Forget jobs that are no longer on the list. Return the current round, and the score of the first job that waits: nil
-- when it is unknown, DEFERRED when none waits.
local function refresh(queue)
  local list, order = QUEUE .. queue, FAIR_QUEUE .. queue
  local last = order .. ':last'
  delete_wrong_type(order, 'zset')
  delete_wrong_type(last, 'zset')
  local known = tonumber(redis.call('ZSCORE', last, '@')) or 0
  local now, first = known, nil
  local head = redis.call('LINDEX', list, 0)
  if not head then
    local latest = redis.call('ZREVRANGE', last, 0, 0, 'WITHSCORES')
    if latest[1] and latest[1] ~= '@' then now = tonumber(latest[2]) + 1 end
    redis.call('DEL', order)
    first = DEFERRED
  else
    first = tonumber(redis.call('ZSCORE', order, head))
    for _ = 1, first and 0 or 1000 do
      local job = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')
      if not job[1] then break end
      if waits(job[1]) then
        first = tonumber(job[2])
        break
      end
      redis.call('ZREM', order, job[1])
    end
    if first then
      redis.call('ZREMRANGEBYSCORE', order, '-inf', exclusive(first))
      now = math.max(now, math.floor(first + 0.5))
    end
  end
  if now > known then
    redis.call('ZADD', last, now, '@')
    redis.call('ZREMRANGEBYSCORE', last, '-inf', exclusive(now - 1))
  end
  return now, first
end

-- Insert a job into the list, at the place of its score.
local function insert(list, order, job, score)
  while true do
    local after = redis.call('ZRANGEBYSCORE', order, exclusive(score), '+inf', 'LIMIT', 0, 1)[1]
    if not after then
      redis.call('RPUSH', list, job)
      break
    end
    if waits(after) and redis.call('LINSERT', list, 'BEFORE', after, job) > 0 then break end
    redis.call('ZREM', order, after)
  end
  redis.call('ZADD', order, score, job)
end

-- Move a waiting job to another score.
local function move(list, order, owned, job, from, to)
  if redis.call('ZCOUNT', order, exclusive(math.min(from, to)), exclusive(math.max(from, to))) == 0 then
    redis.call('ZADD', order, to, job)
  elseif redis.call('LREM', list, 1, job) == 1 then
    redis.call('ZREM', order, job)
    insert(list, order, job, to)
  end
  redis.call('ZADD', owned, to, job)
end

local RANKS = {high = 1, low = 3}

local function rank(job) return RANKS[field(job, 'priority')] or 2 end

-- Return true if a waiting job lets a new job of the same owner pass; `new_rank` is the rank of the new job. A `low`
-- job older than LOW_SECONDS lets no job pass: our ids begin with the time of their creation in ms.
local function lets_pass(job, new_rank)
  local job_rank = rank(job)
  if job_rank <= new_rank then return false end
  local high, low = string.match(job, '^(%x%x%x%x%x%x%x%x)%-(%x%x%x%x)%-7')
  if job_rank < 3 or not high then return true end
  return tonumber(high .. low, 16) / 1000 > redis.call('TIME')[1] - LOW_SECONDS
end

-- Return the place, among an owner's jobs, of the first job that lets a new job pass; the number of jobs if none does.
--
-- Waiting jobs that let the new job pass stand behind all others, so a binary search finds the first. A job that was
-- taken from the list may still stand anywhere among them: a `high` job that comes later has a lower score. So only
-- waiting jobs are compared; a taken job is removed.
local function find_passable(owned, new_rank)
  local first, past = 0, redis.call('ZCOUNT', owned, '-inf', exclusive(DEFERRED))
  local middle = past - 1  -- usually no job lets the new job pass: so the last is tried first
  while first < past do
    local job = redis.call('ZRANGE', owned, middle, middle)[1]
    if not waits(job) then
      redis.call('ZREM', owned, job)
      past = past - 1
      if middle >= past then middle = past - 1 end
    else
      if lets_pass(job, new_rank) then past = middle else first = middle + 1 end
      middle = math.floor((first + past) / 2)
    end
  end
  return first
end

-- Share an owner's slots, with a new slot at `score`, among the owner's jobs: `high` jobs come first, `low` jobs last,
-- jobs of one priority in the order of arrival. Return the score of the slot that is left for the new job.
local function share_slots(list, order, owned, score, job)
  local first = find_passable(owned, rank(job))
  local place = redis.call('ZCOUNT', owned, '-inf', exclusive(score))
  if first == place or place - first < -MAX_MOVED then return score end
  -- Each job passes its slot on to the next job. If more than MAX_MOVED jobs would move, only the first moves.
  local last = place - first > MAX_MOVED and first or math.max(first, place) - 1
  local others = redis.call('ZRANGE', owned, math.min(first, place), last, 'WITHSCORES')
  local from, to, step = #others - 1, 1, -2
  if place < first then from, to, step = 1, #others - 1, 2 end
  for at = from, to, step do
    if waits(others[at]) then
      move(list, order, owned, others[at], tonumber(others[at + 1]), score)
      score = tonumber(others[at + 1])
    end
  end
  return score
end

-- Put a job on the list, in its owner's next slot.
local function place_job(queue, job)
  local owner, high = field(job, 'owner'), field(job, 'priority') == 'high'
  local list, order, owned = QUEUE .. queue, FAIR_QUEUE .. queue, owner_key(queue, owner)
  local last, lane = order .. ':last', (high and 'h' or 'n') .. owner
  local now, first = refresh(queue)
  local latest = tonumber(redis.call('ZSCORE', last, lane)) or now - 2
  local round = math.max(now, latest + 1)
  redis.call('ZADD', last, round, lane)
  local score = high and round - 0.5 or latest + 1 < now and round - 0.25 or round
  local highest = redis.call(
    'ZREVRANGEBYSCORE', order, exclusive(score + 0.25), to_text(score), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  score = highest and tonumber(highest) + STEP or score
  delete_wrong_type(owned, 'zset')
  if first then redis.call('ZREMRANGEBYSCORE', owned, '-inf', exclusive(first)) end
  score = share_slots(list, order, owned, score, job)
  insert(list, order, job, score)
  redis.call('ZADD', owned, score, job)
  for _, key in ipairs({order, last, owned}) do redis.call('EXPIRE', key, FAIR_QUEUE_TTL) end
end

-- Give a slot to each job without one at the end of the list, and return how many. The record of a job that RQ's
-- tools run again still has the expiry from its failure, and would be deleted before its slot comes.
local function adopt(queue)
  local list, order, without_slot = QUEUE .. queue, FAIR_QUEUE .. queue, {}
  if redis.call('EXISTS', list) == 0 then return 0 end
  refresh(queue)
  for _ = 1, MAX_ADOPTED do
    local job = redis.call('LINDEX', list, -1)
    if not job or redis.call('ZSCORE', order, job) or not waits(job) then break end
    redis.call('RPOP', list)
    without_slot[#without_slot + 1] = job
  end
  for place = #without_slot, 1, -1 do
    if field(without_slot[place], 'ttl') == '' then redis.call('PERSIST', JOB .. without_slot[place]) end
    place_job(queue, without_slot[place])
  end
  return #without_slot
end

-- Forget a job that was taken from the list or will not come to it, and give its unused slot back to its owner.
local function release_slot(queue, job)
  local order, owner = FAIR_QUEUE .. queue, field(job, 'owner')
  local last, owned = order .. ':last', owner_key(queue, owner)
  for _, key in ipairs({order, last, owned}) do delete_wrong_type(key, 'zset') end
  redis.call('ZREM', order, job)
  redis.call('ZREM', owned, job)
  local now = refresh(queue)
  local latest = redis.call(
    'ZREVRANGEBYSCORE', owned, exclusive(DEFERRED), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local round = math.max(now, latest and math.floor(tonumber(latest) + 0.5) or 0)
  redis.call('ZADD', last, 'XX', 'LT', round, 'n' .. owner, round, 'h' .. owner)
end
