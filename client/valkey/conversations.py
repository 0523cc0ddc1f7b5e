"""The last turns of each conversation, kept in Valkey as long as results are."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from client.valkey.keys import quoted
from schemas import Turn

MAX_TURNS = 6
MAX_JOBS = 50

# For the script that submits: which job a new job of a conversation, whose jobs are under `key`, has to wait for. It is
# the one before it; nil for the first. One that was cancelled before it ran is left out of all, for it ends nothing:
# the one before it may still run.
TAKE_TURN = """
local function turn_before(key, job, most, seconds)
  local place = redis.call('LPOS', key, job) or redis.call('RPUSH', key, job) - 1
  local before = nil
  for at = place - 1, 0, -1 do
    local id = redis.call('LINDEX', key, at)
    if field(id, 'status') ~= 'canceled' then
      before = id
      break
    end
    redis.call('LREM', key, 1, id)
  end
  redis.call('LTRIM', key, -most, -1)
  redis.call('EXPIRE', key, seconds)
  return before
end
"""


def jobs_key(owner: str, conversation_id: str) -> str:
    """Return the key of the list of a conversation's jobs."""
    return f"{_turns_key(owner, conversation_id)}:jobs"


class Conversations:
    """Reads and writes turns for a worker. A Valkey that is away costs the memory of them, not the answer."""

    def __init__(self, valkey: Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._kept_seconds = ttl_seconds

    def turns(self, owner: str, conversation_id: str, *, job_id: str) -> list[Turn]:
        """Return the last turns, oldest first, without that of the job itself, should it run again."""
        with suppress(RedisError, OSError):
            found = self._valkey.lrange(_turns_key(owner, conversation_id), -MAX_TURNS, -1)
            turns = []
            for text in found:
                with suppress(ValueError):
                    turns.append(Turn.model_validate_json(text))
            return [turn for turn in turns if turn.job_id != job_id]
        return []

    def add(self, owner: str, conversation_id: str, turn: Turn) -> None:
        """Add a turn, in the place of what an earlier attempt at its job added."""
        key = _turns_key(owner, conversation_id)
        with suppress(RedisError, OSError):
            last = self._valkey.lindex(key, -1)
            pipeline = self._valkey.pipeline(transaction=True)
            if last is not None and f'"{turn.job_id}"'.encode() in cast("bytes", last):
                pipeline.rpop(key)
            pipeline.rpush(key, turn.model_dump_json())
            pipeline.ltrim(key, -MAX_TURNS, -1)
            pipeline.expire(key, self._kept_seconds)
            pipeline.execute()


def _turns_key(owner: str, conversation_id: str) -> str:
    return f"rag:conversation:{quoted(owner)}:{quoted(conversation_id)}"
