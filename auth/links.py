"""Signed links: who has one may see the page that an answer cites, without a key, until the link expires."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from client.valkey import keys
from client.valkey.connection import valkey_call
from client.valkey.multiplexed import MultiplexedRedis

_KEY_BYTES = 32
# How long a process goes on with a key that another one may have replaced, after Valkey lost its data.
_REMEMBERED_SECONDS = 60.0


class CitedPlace(NamedTuple):
    """What a link shows: the text from `start` to `end` of a page of an upload; until when, in Unix seconds."""

    upload_id: str
    page: int
    start: int
    end: int
    until: int


class LinkSigner:
    """Signs links and checks signatures, with a key in Valkey that all processes share."""

    def __init__(self, valkey: MultiplexedRedis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._valkey = valkey
        self._clock = clock
        self._key = b""
        self._read_at = float("-inf")

    async def key(self) -> bytes:
        """Return the key; the first call of all makes it. Raises QueueUnavailable."""
        if self._clock() - self._read_at > _REMEMBERED_SECONDS:
            async with valkey_call():
                await self._valkey.set(keys.LINK_KEY, secrets.token_hex(_KEY_BYTES), nx=True)
                found = await self._valkey.get(keys.LINK_KEY)
            self._key = found if isinstance(found, bytes) else str(found).encode()
            self._read_at = self._clock()
        return self._key

    async def is_valid(self, place: CitedPlace, signature: str) -> bool:
        """Return True if a link with this signature may be followed now. Raises QueueUnavailable."""
        if place.until < time.time():
            return False
        return hmac.compare_digest(sign(place, await self.key()).encode(), signature.encode("utf-8", "replace"))


def sign(place: CitedPlace, key: bytes) -> str:
    """Return the signature of a link, for a URL."""
    signed = "\n".join(map(str, place)).encode("utf-8", "replace")
    return base64.urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=").decode()
