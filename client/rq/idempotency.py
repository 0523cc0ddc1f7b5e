"""Requests that a client may repeat: one `Idempotency-Key` gives one result, kept in Valkey for 24 hours.

A request reserves the ids of the things it creates before it creates them. A crash in between therefore loses nothing:
the repeated request creates the things under the same ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio as redis

from client.rq.records import decode_text
from client.rq.scripts import load_script
from client.valkey import keys
from client.valkey.connection import valkey_call
from errors import IdempotencyConflict

TTL_SECONDS = 86_400

_RESERVE = load_script("reserve_id")


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request with an idempotency key: the Valkey key of its entry, and a fingerprint of its content."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, request: Mapping[str, Any], *, user_id: str) -> IdempotentRequest:
        """Describe a request. Two users with the same `key` get two entries."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=True, default=str)
        digest = hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()
        return cls(key=keys.idempotency(digest), fingerprint=hashlib.sha256(text.encode()).hexdigest())


class IdempotencyStore:
    """The entries of idempotent requests: the id that each request got, and its fingerprint."""

    def __init__(self, valkey: redis.Redis) -> None:
        self._valkey = valkey

    async def find(self, request: IdempotentRequest) -> str | None:
        """Return the id that the request got before; None for a new request.

        Raises IdempotencyConflict when the key came with another request, and QueueUnavailable.
        """
        async with valkey_call():
            entry = await self._valkey.get(request.key)
        if entry is None:
            return None
        stored_id, _, fingerprint = decode_text(cast("bytes", entry)).rpartition(" ")
        if fingerprint != request.fingerprint:
            raise _conflict()
        return stored_id

    async def reserve(self, request: IdempotentRequest, new_id: str) -> str:
        """Return the id that the request got before. For a new request store `new_id`, and return `new_id`.

        An id is any text without spaces. Raises as `find` does.
        """
        async with valkey_call():
            stored_id, same = await _RESERVE.call_async(
                self._valkey, [request.key], [request.fingerprint, TTL_SECONDS, new_id]
            )
        if not same:
            raise _conflict()
        return decode_text(stored_id)

    async def put(self, request: IdempotentRequest, new_id: str, *, ttl_seconds: int) -> None:
        """Store the id of a request, whatever it got before, for a time of its own."""
        async with valkey_call():
            await self._valkey.set(request.key, f"{new_id} {request.fingerprint}", ex=ttl_seconds)

    async def replace(self, request: IdempotentRequest, new_id: str) -> None:
        """Replace the id of a request, for example by an existing duplicate. Does nothing for an expired entry."""
        async with valkey_call():
            await self._valkey.set(request.key, f"{new_id} {request.fingerprint}", xx=True, keepttl=True)


def _conflict() -> IdempotencyConflict:
    return IdempotencyConflict("this Idempotency-Key came with another request before: use a new key for a new request")
