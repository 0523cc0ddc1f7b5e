"""How many jobs of an owner wait, and the limit of it.

Jobs that wait for other jobs count too. What a worker has just taken may count until the next job comes, and one that
was cancelled by RQ's own tools until those before it are taken; never more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from client.rq.fair_queue import KEPT_SECONDS, TURNS

# A request that has room reserved for its jobs either brings them within so many seconds or has failed.
RESERVED_SECONDS: Final = 15
RETRY_AFTER_SECONDS: Final = 10

_COUNT: Final = (
    TURNS
    + """
local unix = tonumber(redis.call('TIME')[1])

local function count(queue, owner)
  local own, _, first = own_key(queue, owner), look(queue)
  make_room(own)
  if first then redis.call('ZREMRANGEBYSCORE', own, '-inf', above(first)) end
  redis.call('ZREMRANGEBYSCORE', own, text(RESERVED), above(RESERVED + unix - @RESERVED@))
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', own, text(DEFERRED), above(RESERVED))) do
    local status = field(job, 'status')
    if status ~= 'deferred' and status ~= 'queued' then redis.call('ZREM', own, job) end
  end
  return redis.call('ZCARD', own)
end
""".replace("@RESERVED@", str(RESERVED_SECONDS))
)

# ARGV: owner, queues ...
COUNT: Final = (
    _COUNT
    + """
local sum = 0
for place = 2, #ARGV do sum = sum + count(ARGV[place], ARGV[1]) end
return sum
"""
)

# Reserve room for new jobs, for all of them or for none; for those that are there already none is needed.
# ARGV: owner, how many may wait, queue, number of queues, queues that count, ids ... Returns 1 when there is room.
RESERVE: Final = (
    _COUNT
    + """
local sum, new = 0, {}
for place = 5, 4 + ARGV[4] do sum = sum + count(ARGV[place], ARGV[1]) end
local own = own_key(ARGV[3], ARGV[1])
for place = 5 + ARGV[4], #ARGV do
  if redis.call('EXISTS', 'rq:job:' .. ARGV[place]) == 0 and not redis.call('ZSCORE', own, ARGV[place]) then
    new[#new + 1] = ARGV[place]
  end
end
if #new == 0 then return 1 end
if sum + #new > tonumber(ARGV[2]) then return 0 end
for _, job in ipairs(new) do redis.call('ZADD', own, RESERVED + unix, job) end
redis.call('EXPIRE', own, @KEPT@)
return 1
""".replace("@KEPT@", str(KEPT_SECONDS))
)


async def count(valkey: Any, owner: str, queues: Sequence[str]) -> int:
    """Count the jobs of an owner that wait on these queues, or for a place on them. Raises RedisError."""
    return int(await valkey.eval(COUNT, 0, owner, *queues))


async def reserve(
    valkey: Any, owner: str, job_ids: Sequence[str], *, queue: str, most: int, queues: Sequence[str]
) -> bool:
    """Reserve room for jobs about to come to `queue`. False, and nothing is, when more than `most` would then wait.

    `queues` are those whose jobs count. Raises RedisError.
    """
    return bool(await valkey.eval(RESERVE, 0, owner, most, queue, len(queues), *queues, *job_ids))
