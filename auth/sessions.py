"""Sessions of browsers, in Valkey: a cookie stands for an API key, for twelve hours or until the key ends."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from client.valkey import keys
from client.valkey.connection import valkey_call
from client.valkey.multiplexed import MultiplexedRedis

SESSION_SECONDS = 12 * 3_600
_TOKEN_BYTES = 32


class SessionStore:
    """The sessions. Every method raises QueueUnavailable."""

    def __init__(self, valkey: MultiplexedRedis) -> None:
        self._valkey = valkey

    async def start(self, key_id: str) -> tuple[str, datetime]:
        """Start a session of a key; return its token, of which only the hash is stored, and the end of the session."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        async with valkey_call():
            await self._valkey.set(_place(token), key_id, ex=SESSION_SECONDS)
        return token, datetime.now(UTC) + timedelta(seconds=SESSION_SECONDS)

    async def key_id(self, token: str) -> str | None:
        """Return the id of the key of a session; None for a session that has ended or never was."""
        async with valkey_call():
            found = await self._valkey.get(_place(token))
        return found.decode() if isinstance(found, bytes) else found

    async def end(self, token: str) -> None:
        """End a session."""
        async with valkey_call():
            await self._valkey.delete(_place(token))


def _place(token: str) -> str:
    return keys.session(hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest())
