"""API keys in SQL: create, list and revoke them, and find a caller's key by its hash.

A key is `rag_` and 256 random bits. Only the SHA-256 of a key is stored: 256 bits cannot be guessed, so a slow hash
would cost time and add no security. Rows are never deleted, so that revoking the last key does not open the
server to everybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from sqlalchemy import func, insert, select, update
from uuid_utils.compat import uuid7

from client.sql.database import ApiKeyRow, Database
from errors import AppError, UploadsUnavailable
from schemas import Caller, Frozen, KeyScope, UserId

log = logging.getLogger("api")

PREFIX = "rag_"
KEY_BYTES = 32
# The pause between two readings of the keys by an API process.
REFRESH_SECONDS = 0.5
# After this time every API process has read a change of the keys. `keys create` and `keys revoke` wait this long.
PROPAGATION_SECONDS = 1.5


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
    """The keys in the memory of one API process. A task reads them again and again, in a thread of its own.

    So no request waits for the database. While the database is unavailable, the keys that were read last stay valid.
    """

    def __init__(self, keys: ApiKeyRepository) -> None:
        self._keys = keys
        self._version: str | None = None
        self._by_hash: dict[str, tuple[ApiKey, Caller]] = {}
        self._by_id: dict[str, tuple[ApiKey, Caller]] = {}
        self._failure: AppError | None = None

    @asynccontextmanager
    async def refreshed(self) -> AsyncIterator[None]:
        """Keep the keys up to date inside the block. They have been read once when it begins, if they can be read."""
        with ThreadPoolExecutor(1, thread_name_prefix="api-keys") as thread:
            await self._refresh(thread)
            task = asyncio.create_task(self._refresh_forever(thread), name="api-keys")
            try:
                yield
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def has_keys(self) -> bool:
        """Return True if a key was ever created. Raises UploadsUnavailable if the keys were never read."""
        self._require_read()
        return bool(self._by_hash)

    async def caller(self, text: str) -> Caller | None:
        """Return the caller with this key; None if the key is unknown or invalid.

        Raises UploadsUnavailable if the keys were never read.
        """
        self._require_read()
        sha256 = _sha256(text)
        cached = self._by_hash.get(sha256)
        if cached is None or not hmac.compare_digest(cached[0].sha256, sha256):
            return None
        key, caller = cached
        return caller if key.is_valid(datetime.now(UTC)) else None

    async def caller_of(self, key_id: str) -> Caller | None:
        """Return the caller whose key has this id; None if the key is unknown or invalid. Raises as `caller`."""
        self._require_read()
        key, caller = self._by_id.get(key_id, (None, None))
        return caller if key is not None and key.is_valid(datetime.now(UTC)) else None

    def _require_read(self) -> None:
        if self._version is None:
            raise self._failure or UploadsUnavailable("the keys have not been read yet", retry_after_seconds=1)

    async def _refresh_forever(self, thread: ThreadPoolExecutor) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh(thread)

    async def _refresh(self, thread: ThreadPoolExecutor) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._read)
        except AppError as error:
            self._failure = error
        except Exception:  # whatever it is, the next reading must take place
            log.exception("the API keys could not be read")

    def _read(self) -> None:
        version = self._keys.version()
        if version != self._version:
            keys = self._keys.all()
            self._by_hash = {key.sha256: (key, _caller(key)) for key in keys}
            self._by_id = {known[0].key_id: known for known in self._by_hash.values()}
            self._version = version


def _caller(key: ApiKey) -> Caller:
    return Caller(user_id=key.user_id, key_id=key.key_id, scopes=key.scopes)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _from_row(row: Any) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's name for a row as a mapping
    return ApiKey.model_validate(values | {"scopes": frozenset(values["scopes"].split())})
