"""API keys in SQL: create, list and revoke them, and find a caller's key by its hash.

A key is `rag_` and 256 random bits. Only the SHA-256 of a key is stored: 256 bits cannot be guessed, so a slow hash
would cost time and add no security. Rows are never deleted, so that revoking the last key does not open the
server to everybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from sqlalchemy import func, insert, select, update
from uuid_utils.compat import uuid7

from client.sql.database import ApiKeyRow, Database
from errors import UploadsUnavailable
from schemas import Caller, Frozen, KeyScope, UserId

PREFIX = "rag_"
KEY_BYTES = 32
# Largest age of the keys in the memory of a process. `keys create` and `keys revoke` wait this long.
REFRESH_SECONDS = 1.0


class ApiKey(Frozen):
    """The record of an API key. The key itself is not stored: `sha256` is the hash of its text, in hexadecimal."""

    key_id: str
    name: str
    user_id: UserId
    scopes: frozenset[KeyScope]
    sha256: str = Field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Return True if the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class ApiKeyRepository:
    """The table of keys. Safe for threads and many processes. Every method raises UploadsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, *, user_id: str, scopes: Iterable[KeyScope], expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key; return its record, and its text, which is not stored."""
        text = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        key = ApiKey(
            key_id=str(uuid7()),
            name=name,
            user_id=user_id,
            scopes=frozenset(scopes),
            sha256=_sha256(text),
            created_at=datetime.now(UTC),
            expires_at=expires_at,
        )
        values = key.model_dump() | {"scopes": " ".join(sorted(key.scopes))}
        with self._database.writing() as connection:
            connection.execute(insert(ApiKeyRow).values(values))
        return key, text

    def all(self) -> list[ApiKey]:
        """Return every key, oldest first; expired and revoked keys too."""
        with self._database.reading() as connection:
            rows = connection.execute(select(*ApiKeyRow.__table__.columns).order_by(ApiKeyRow.key_id))
            return [_from_row(row) for row in rows]

    def revoke(self, key_id: str) -> bool:
        """Revoke a key for good. Returns False if no key has this id."""
        revoked = (
            update(ApiKeyRow)
            .where(ApiKeyRow.key_id == key_id)
            .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, datetime.now(UTC)))
            .returning(ApiKeyRow.key_id)
        )
        with self._database.writing() as connection:
            return connection.execute(revoked).first() is not None

    def version(self) -> str:
        """Return a text that changes whenever a key is created or revoked."""
        counts = select(func.count(), func.count(ApiKeyRow.revoked_at), func.max(ApiKeyRow.key_id))
        with self._database.reading() as connection:
            return "/".join(map(str, connection.execute(counts).one()))


class ApiKeyCache:
    """The keys in the memory of one API process, at most REFRESH_SECONDS old: no query for each request.

    While the database is unavailable, the keys that were read last stay valid.
    """

    def __init__(self, keys: ApiKeyRepository) -> None:
        self._keys = keys
        self._version: str | None = None
        self._by_hash: dict[str, tuple[ApiKey, Caller]] = {}
        self._read_at = float("-inf")
        self._refreshing = asyncio.Lock()

    async def has_keys(self) -> bool:
        """Return True if a key was ever created. Raises UploadsUnavailable."""
        await self._refresh()
        return bool(self._by_hash)

    async def caller(self, text: str) -> Caller | None:
        """Return the caller with this key; None if the key is unknown or invalid. Raises UploadsUnavailable."""
        await self._refresh()
        sha256 = _sha256(text)
        cached = self._by_hash.get(sha256)
        if cached is None or not hmac.compare_digest(cached[0].sha256, sha256):
            return None
        key, caller = cached
        return caller if key.is_valid(datetime.now(UTC)) else None

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < REFRESH_SECONDS:
            return
        async with self._refreshing:
            started_at = time.monotonic()
            if started_at - self._read_at < REFRESH_SECONDS:
                return
            try:
                await asyncio.to_thread(self._read)
            except UploadsUnavailable:
                if self._version is None:
                    raise
            self._read_at = started_at

    def _read(self) -> None:
        version = self._keys.version()
        if version != self._version:
            keys = self._keys.all()
            self._by_hash = {key.sha256: (key, _caller(key)) for key in keys}
            self._version = version


def _caller(key: ApiKey) -> Caller:
    return Caller(user_id=key.user_id, key_id=key.key_id, scopes=key.scopes)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _from_row(row: Any) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's name for a row as a mapping
    return ApiKey.model_validate(values | {"scopes": frozenset(values["scopes"].split())})
