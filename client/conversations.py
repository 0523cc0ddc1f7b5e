"""The last turns of each conversation, kept in Valkey as long as results are."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from client.keys import quoted
from schemas import Turn

MAX_TURNS = 6
MAX_JOBS = 50

# Which job a new job of a conversation has to wait for: the one before it. KEYS: its jobs. ARGV: the new job, how many
# to keep, seconds. Asked again for the same job, it answers the same.
TAKE_TURN = """
local place = redis.call('LPOS', KEYS[1], ARGV[1])
if not place then
    place = redis.call('RPUSH', KEYS[1], ARGV[1]) - 1
end
local before = place > 0 and redis.call('LINDEX', KEYS[1], place - 1)
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[2]), -1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return before
"""


def jobs_key(owner: str, conversation_id: str) -> str:
    """Return the key of the list of a conversation's jobs."""
    return f"{_turns_key(owner, conversation_id)}:jobs"


class Conversations:
    """Reads and writes turns for a worker. A Valkey that is away costs the memory of them, not the answer."""

    def __init__(self, valkey: Redis, *, kept_seconds: int) -> None:
        self._valkey = valkey
        self._kept_seconds = kept_seconds

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
