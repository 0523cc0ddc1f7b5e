"""The same request twice is done once: `Idempotency-Key`, kept in Valkey for 24 hours.

What a request makes gets its ids before it is made. So a crash in between leaves no id without a thing: the request
that is sent again makes it, under the same ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio as redis

from client.rq.records import as_text
from client.valkey.connection import deadline
from errors import IdempotencyConflict

KEPT_SECONDS = 86_400

# KEYS: the idempotency key. ARGV: fingerprint, seconds to keep it, a new id.
# Returns the id that stands for the key, and 1 when its fingerprint is ours.
_RESERVE = """
local known = redis.call('GET', KEYS[1])
if known then
    local id, fingerprint = string.match(known, '^(.*) (.*)$')
    return {id, fingerprint == ARGV[1] and 1 or 0}
end
redis.call('SET', KEYS[1], ARGV[3] .. ' ' .. ARGV[1], 'EX', ARGV[2])
return {ARGV[3], 1}
"""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes two requests the same: the caller's key, and a fingerprint of all the request asks for."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, request: Mapping[str, Any], *, user_id: str) -> Idempotency:
        """Describe a request. Keys of two users never meet."""
        text = json.dumps(request, sort_keys=True, ensure_ascii=True, default=str)
        owned = hashlib.sha256(f"{user_id}\0{key}".encode()).hexdigest()
        return cls(key=f"rag:idempotency:{owned}", fingerprint=hashlib.sha256(text.encode()).hexdigest())


class Requests:
    """Requests that came with a key, and the ids each of them was given."""

    def __init__(self, valkey: redis.Redis) -> None:
        self._valkey = valkey

    async def find(self, once: Idempotency) -> str | None:
        """Return the id a request was given before. Raises IdempotencyConflict, QueueUnavailable."""
        async with deadline():
            known = await self._valkey.get(once.key)
        if known is None:
            return None
        found, _, fingerprint = as_text(cast("bytes", known)).rpartition(" ")
        return _own(found, same=fingerprint == once.fingerprint)

    async def reserve(self, once: Idempotency, new_id: str) -> str:
        """Return the id of a request: the one it was given before, else `new_id`, noted for the next time.

        An id is what the caller makes of it, without spaces. Raises as `find` does.
        """
        async with deadline():
            found, same = await self._valkey.eval(_RESERVE, 1, once.key, once.fingerprint, KEPT_SECONDS, new_id)
        return _own(as_text(found), same=bool(same))

    async def note(self, once: Idempotency, made: str) -> None:
        """Note another id for a request that was given one: what it asked for was there already."""
        async with deadline():
            await self._valkey.set(once.key, f"{made} {once.fingerprint}", xx=True, keepttl=True)


def _own(found: str, *, same: bool) -> str:
    if not same:
        raise IdempotencyConflict(
            "this Idempotency-Key came with another request before: use a new key for a new request"
        )
    return found
