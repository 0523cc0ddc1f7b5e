"""The last turns of each conversation, kept in Valkey as long as results are."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from client.valkey import keys
from schemas import Turn

MAX_TURNS = 6


class Conversations:
    """Reads and writes turns for a worker. While Valkey is unreachable, answers are made without earlier turns."""

    def __init__(self, valkey: Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._ttl_seconds = ttl_seconds

    def turns(self, owner: str, conversation_id: str, *, job_id: str) -> list[Turn]:
        """Return the last turns, oldest first. Leaves out the job's own turn, in case it runs again."""
        with suppress(RedisError, OSError):
            stored = self._valkey.lrange(keys.conversation(owner, conversation_id), -MAX_TURNS, -1)
            turns = []
            for text in stored:
                with suppress(ValueError):
                    turns.append(Turn.model_validate_json(text))
            return [turn for turn in turns if turn.job_id != job_id]
        return []

    def add(self, owner: str, conversation_id: str, turn: Turn) -> None:
        """Add a turn, in place of the turn that an earlier attempt at the same job added."""
        key = keys.conversation(owner, conversation_id)
        with suppress(RedisError, OSError):
            last = self._valkey.lindex(key, -1)
            pipeline = self._valkey.pipeline(transaction=True)
            if last is not None and f'"{turn.job_id}"'.encode() in cast("bytes", last):
                pipeline.rpop(key)
            pipeline.rpush(key, turn.model_dump_json())
            pipeline.ltrim(key, -MAX_TURNS, -1)
            pipeline.expire(key, self._ttl_seconds)
            pipeline.execute()
