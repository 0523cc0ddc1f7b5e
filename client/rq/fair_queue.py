"""Fair turns between the owners of the jobs on one queue, however many jobs one of them has.

A queue stays a plain list of RQ's, and its order is fair at any moment: a job is put where its turn is when it
comes, not found when it is taken. So every kind of worker keeps to it, and so do positions and `rq info`.

Time is counted in rounds. A job waits in the round after that of its owner's last job, and in no round before that of
the job at the head of the list (start-time fair queueing: Goyal, Vin, Cheng, 1996). So in each round every owner has
one turn, and who had none in the round before comes first: who asks now and then waits for no job of a flood but those
that run. A job of `high` priority opens a
further turn of its owner in a round, ahead of the round's normal ones. Among the turns of one owner, those of `high`
priority come first, those of `low` priority last, and else they stay in their order. So `high` passes all of its
owner's own jobs, and it passes those of others once a round: a flood of it starves nobody. `low` lets its owner's own
jobs pass, nobody else's, and not for ever: after LOW_SECONDS it keeps its turn.

    rag:turns:{queue}              what waits on the list, by score: the round; half a round less for `high` turns, a
                                   quarter less for owners who had no turn before; plus STEP for each of its kind in
                                   that round. The list is in this order
    rag:turns:{queue}:last         the round of the last turn of each owner, `n` or `h` before its name; `@` now
    rag:turns:{queue}:of:{owner}   what waits of an owner, by the same score, or else DEFERRED or RESERVED

No worker has to know of all this: what is no longer on the list is forgotten with the next job that comes. Jobs that
came to the list in another way (RQ's own enqueue, a schedule, a retry) are given their turn by `adopt`; what was put
at the front stays there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from client.rq.records import OWNER_FIELD
from schemas import Priority

if TYPE_CHECKING:
    from redis import Redis

# Each key lives for so long after the last job that came.
KEPT_SECONDS: Final = 7 * 86_400
# Where more than so many of a user's own jobs would have to give way to a new one, the first of them takes the last
# turn. Each costs about 5 µs of the server's time.
MOST_MOVED: Final = 200
# A job of `low` priority that was made so long ago lets none of its owner's pass any more.
LOW_SECONDS: Final = 600
MOST_ADOPTED: Final = 1_000

TURNS: Final = (
    """
local STEP, DEFERRED, RESERVED = 2^-16, 2^41, 2^42

local function make_room(key)
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', key) end
end

local function field(job, name)
  local value = redis.pcall('HGET', 'rq:job:' .. job, name)
  return type(value) == 'string' and value or ''
end

local function waits(job) return field(job, 'status') == 'queued' end

local function text(number) return string.format('%.17g', number) end

local function above(number) return '(' .. text(number) end

-- client.valkey.keys.quoted
local function own_key(queue, owner)
  local name = string.gsub(owner, '[^%w_.~-]', function(c) return string.format('%%%02X', string.byte(c)) end)
  return 'rag:turns:' .. queue .. ':of:' .. name
end

-- Forget what is no longer on the list. Gives the round it is now, and the score of the first job that waits: nil
-- when it is not known, DEFERRED when none waits.
local function look(queue)
  local list, order = 'rq:queue:' .. queue, 'rag:turns:' .. queue
  local last = order .. ':last'
  make_room(order)
  make_room(last)
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
      redis.call('ZREMRANGEBYSCORE', order, '-inf', above(first))
      now = math.max(now, math.floor(first + 0.5))
    end
  end
  if now > known then
    redis.call('ZADD', last, now, '@')
    redis.call('ZREMRANGEBYSCORE', last, '-inf', above(now - 1))
  end
  return now, first
end

-- Put a job on the list where its score says.
local function insert(list, order, job, score)
  while true do
    local after = redis.call('ZRANGEBYSCORE', order, above(score), '+inf', 'LIMIT', 0, 1)[1]
    if not after then
      redis.call('RPUSH', list, job)
      break
    end
    if waits(after) and redis.call('LINSERT', list, 'BEFORE', after, job) > 0 then break end
    redis.call('ZREM', order, after)
  end
  redis.call('ZADD', order, score, job)
end

-- Give a job that waits another score.
local function move(list, order, own, job, from, to)
  if redis.call('ZCOUNT', order, above(math.min(from, to)), above(math.max(from, to))) == 0 then
    redis.call('ZADD', order, to, job)
  elseif redis.call('LREM', list, 1, job) == 1 then
    redis.call('ZREM', order, job)
    insert(list, order, job, to)
  end
  redis.call('ZADD', own, to, job)
end

local RANKS = {high = 1, low = 3}

local function rank(job) return RANKS[field(job, 'priority')] or 2 end

-- Whether one that waits lets a new job of its owner pass. Ids of ours begin with when they were made, in ms; one of
-- `low` priority that has waited for long lets none pass.
local function yields(job, to)
  local mine = rank(job)
  if mine <= to then return false end
  local high, low = string.match(job, '^(%x%x%x%x%x%x%x%x)%-(%x%x%x%x)%-7')
  if mine < 3 or not high then return true end
  return tonumber(high .. low, 16) / 1000 > redis.call('TIME')[1] - @LOW@
end

-- A new turn need not be for the new job: the turns of an owner are for `high` jobs first and for `low` ones last, and
-- else in the order in which they came. Gives the score of the turn that is left for the new job.
local function give_way(list, order, own, score, job)
  local mine = rank(job)
  local place = redis.call('ZCOUNT', own, '-inf', above(score))
  -- The first that lets it pass, of those in order. Mostly there is none, so the last is asked first.
  local first, past = 0, redis.call('ZCOUNT', own, '-inf', above(DEFERRED))
  local middle = past - 1
  while first < past do
    if yields(redis.call('ZRANGE', own, middle, middle)[1], mine) then past = middle else first = middle + 1 end
    middle = math.floor((first + past) / 2)
  end
  if first == place or place - first < -@MOVED@ then return score end
  -- Each passes its turn on to the next. Where they are too many, the first takes the new turn.
  local last = place - first > @MOVED@ and first or math.max(first, place) - 1
  local others = redis.call('ZRANGE', own, math.min(first, place), last, 'WITHSCORES')
  local from, to, step = #others - 1, 1, -2
  if place < first then from, to, step = 1, #others - 1, 2 end
  for at = from, to, step do
    if waits(others[at]) then
      move(list, order, own, others[at], tonumber(others[at + 1]), score)
      score = tonumber(others[at + 1])
    end
  end
  return score
end

-- Put a job on the list where its owner's turn is.
local function take_turn(queue, job)
  local owner, high = field(job, 'owner'), field(job, 'priority') == 'high'
  local list, order, own = 'rq:queue:' .. queue, 'rag:turns:' .. queue, own_key(queue, owner)
  local last, lane = order .. ':last', (high and 'h' or 'n') .. owner
  local now, first = look(queue)
  local latest = tonumber(redis.call('ZSCORE', last, lane)) or now - 2
  local round = math.max(now, latest + 1)
  redis.call('ZADD', last, round, lane)
  local score = high and round - 0.5 or latest + 1 < now and round - 0.25 or round
  local before = redis.call('ZREVRANGEBYSCORE', order, above(score + 0.25), text(score), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  score = before and tonumber(before) + STEP or score
  make_room(own)
  if first then redis.call('ZREMRANGEBYSCORE', own, '-inf', above(first)) end
  score = give_way(list, order, own, score, job)
  insert(list, order, job, score)
  redis.call('ZADD', own, score, job)
  for _, key in ipairs({order, last, own}) do redis.call('EXPIRE', key, @KEPT@) end
end

-- Give a turn to each job at the end of the list that has none. One that RQ's own tools run again still has the expiry
-- from when it had failed, and must not be gone before its turn.
local function adopt(queue)
  local list, order, found = 'rq:queue:' .. queue, 'rag:turns:' .. queue, {}
  if redis.call('EXISTS', list) == 0 then return 0 end
  look(queue)
  for _ = 1, @ADOPTED@ do
    local job = redis.call('LINDEX', list, -1)
    if not job or redis.call('ZSCORE', order, job) or not waits(job) then break end
    redis.call('RPOP', list)
    found[#found + 1] = job
  end
  for place = #found, 1, -1 do
    if field(found[place], 'ttl') == '' then redis.call('PERSIST', 'rq:job:' .. found[place]) end
    take_turn(queue, found[place])
  end
  return #found
end

-- Forget a job that was taken from the list, or will not come to it, and the turn it did not use.
local function give_up_turn(queue, job)
  local order, owner = 'rag:turns:' .. queue, field(job, 'owner')
  local last, own = order .. ':last', own_key(queue, owner)
  for _, key in ipairs({order, last, own}) do make_room(key) end
  redis.call('ZREM', order, job)
  redis.call('ZREM', own, job)
  local now = look(queue)
  local latest = redis.call('ZREVRANGEBYSCORE', own, above(DEFERRED), '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local round = math.max(now, latest and math.floor(tonumber(latest) + 0.5) or 0)
  redis.call('ZADD', last, 'XX', 'LT', round, 'n' .. owner, round, 'h' .. owner)
end
""".replace("@MOVED@", str(MOST_MOVED))
    .replace("@ADOPTED@", str(MOST_ADOPTED))
    .replace("@LOW@", str(LOW_SECONDS))
    .replace("@KEPT@", str(KEPT_SECONDS))
)

# ARGV: queue.
ADOPT: Final = TURNS + "return adopt(ARGV[1])"


def record_fields(fields: dict[str, Any], owner: str, priority: Priority = Priority.NORMAL) -> list[Any]:
    """Return the fields and values of a job's record in turn, with whose it is and how urgent."""
    found = fields | {OWNER_FIELD: owner, "priority": priority.value}
    return [part for pair in found.items() if pair[1] is not None for part in pair]


def adopt(valkey: Redis, queue: str) -> int:
    """Give jobs a turn that came to the end of the list in another way; return how many. Raises RedisError."""
    return cast("int", valkey.eval(ADOPT, 0, queue))
