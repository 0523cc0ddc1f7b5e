"""Cached answers, for questions that were asked before of the same documents with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from client.valkey import keys
from schemas import Answer


class AnswerCache:
    """Answers by the key that `cache_key` makes. An unreachable Valkey or an unreadable entry is a miss."""

    def __init__(self, valkey: Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._ttl_seconds = ttl_seconds

    def get(self, key: str) -> Answer | None:
        """Return the answer under a key; None for a miss."""
        with suppress(RedisError, OSError, ValidationError):
            stored = self._valkey.get(key)
            return None if stored is None else Answer.model_validate_json(stored)
        return None

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer."""
        with suppress(RedisError, OSError):
            self._valkey.set(key, answer.model_dump_json(), ex=self._ttl_seconds)


def cache_key(parts: Mapping[str, Any]) -> str:
    """Return the key of an answer. `parts`: all that the answer depends on: user, question, documents, settings."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return keys.answer(hashlib.sha256(text.encode()).hexdigest())
