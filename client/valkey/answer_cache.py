"""Answers to questions that were asked before of the same documents, kept in Valkey."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from schemas import Answer


class AnswerCache:
    """A Valkey that is away, or an entry that makes no sense, is a miss."""

    def __init__(self, valkey: Redis, *, ttl_seconds: int) -> None:
        self._valkey = valkey
        self._kept_seconds = ttl_seconds

    def get(self, key: str) -> Answer | None:
        """Return the answer kept under a key."""
        with suppress(RedisError, OSError, ValidationError):
            found = self._valkey.get(key)
            return None if found is None else Answer.model_validate_json(found)
        return None

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer."""
        with suppress(RedisError, OSError):
            self._valkey.set(key, answer.model_dump_json(), ex=self._kept_seconds)


def cache_key(parts: Mapping[str, Any]) -> str:
    """Name the entry of all that an answer follows from: whoever asks what, of which documents, with which settings."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"rag:answer:{hashlib.sha256(text.encode()).hexdigest()}"
