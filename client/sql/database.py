"""The SQL database of uploads and API keys: SQLite in a file, or PostgreSQL. Tables are migrated before use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from client.sql.engines import make_engine, revision_of, upgrade
from client.sql.lookups import ENGINE_OPTIONS, Lookup, Lookups, Result
from errors import SettingsError, UploadsUnavailable
from settings import Settings

log = logging.getLogger("client.database")

# The newest migration. Alembic is imported only when the database has another one.
REVISION = "0009"
RETRY_AFTER_SECONDS = 5
# An arbitrary number. No other program may use the number for an advisory lock in the same PostgreSQL database.
_MIGRATION_LOCK = 5_210_471_187

# With literal values, because a partial index serves only a query that has the condition of the index.
SEARCHABLE = text("(indexed_at IS NOT NULL AND status <> 'deleting')")
HIDDEN = text("(status = 'deleting' OR (status = 'processing' AND indexed_at IS NULL))")
PENDING = text("(indexed_at IS NULL AND status IN ('queued', 'processing'))")
EXPIRING = text("expires_at IS NOT NULL")


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone. SQLite drops zones, so times are stored in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The tables, as Alembic reads them."""


class UploadRow(Base):
    """An upload: see schemas.Upload.

    `unique_sha256` is `sha256`; NULL for an upload that may have duplicates (`on_duplicate=keep`) or is being deleted.
    `built_version` is the version of the index to come that has this content already, with `built_chunks` chunks;
    `build_error` says why it could not be added to that version.
    """

    __tablename__ = "uploads"

    upload_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(255))
    file_id: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(100))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    unique_sha256: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(10))
    job_id: Mapped[str | None] = mapped_column(String(36))
    pages: Mapped[int | None]
    pages_done: Mapped[int]
    chunks: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(40))
    error: Mapped[str | None] = mapped_column(Text)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(JSON, server_default="[]")
    purpose: Mapped[str] = mapped_column(String(20), server_default="assistants")
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    indexed_at: Mapped[datetime | None] = mapped_column(UtcTime)
    index_version: Mapped[int | None]
    built_version: Mapped[int | None]
    built_chunks: Mapped[int | None]
    build_error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index("uploads_newest", "user_id", "created_at", "upload_id"),
        Index("uploads_content", "user_id", "sha256"),
        Index("uploads_unique_content", "user_id", "unique_sha256", unique=True),
        Index("uploads_status", "status", "upload_id"),
        Index("uploads_searchable", "user_id", "indexed_at", sqlite_where=SEARCHABLE, postgresql_where=SEARCHABLE),
        Index("uploads_hidden", "user_id", "upload_id", sqlite_where=HIDDEN, postgresql_where=HIDDEN),
        Index("uploads_pending", "user_id", sqlite_where=PENDING, postgresql_where=PENDING),
        Index("uploads_expiring", "expires_at", sqlite_where=EXPIRING, postgresql_where=EXPIRING),
    )


class ApiKeyRow(Base):
    """An API key: see auth.api_keys.ApiKey. `scopes` are separated by spaces."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime)


class VectorStoreRow(Base):
    """A vector store: see schemas.stores.VectorStore."""

    __tablename__ = "vector_stores"

    store_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(512))
    details: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    last_active_at: Mapped[datetime] = mapped_column(UtcTime)
    expires_days: Mapped[int | None]

    __table_args__ = (Index("vector_stores_newest", "user_id", "store_id"),)


class StoreFileRow(Base):
    """An upload in a vector store: see schemas.stores.StoreFile."""

    __tablename__ = "vector_store_files"

    store_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    upload_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    cancelled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (Index("vector_store_files_upload", "upload_id"),)


class FileBatchRow(Base):
    """Files added to a vector store together: see schemas.stores.FileBatch."""

    __tablename__ = "file_batches"

    batch_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    store_id: Mapped[str] = mapped_column(String(36))
    upload_ids: Mapped[list[str]] = mapped_column(JSON)
    cancelled: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (Index("file_batches_store", "store_id"),)


class ConversationRow(Base):
    """A conversation: see schemas.conversations.Conversation."""

    __tablename__ = "conversations"

    user_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    details: Mapped[dict[str, str]] = mapped_column(JSON)
    kept: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    updated_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (
        Index("conversations_newest", "user_id", "updated_at"),
        Index("conversations_expiry", "kept", "updated_at"),
    )


class ConversationItemRow(Base):
    """An item of a conversation: see schemas.conversations.ConversationItem. `place` gives the order."""

    __tablename__ = "conversation_items"

    place: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(255))
    conversation_id: Mapped[str] = mapped_column(String(64))
    item_id: Mapped[str] = mapped_column(String(100))
    job_id: Mapped[str | None] = mapped_column(String(36))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcTime)

    __table_args__ = (Index("conversation_items_key", "user_id", "conversation_id", "item_id", unique=True),)


class DeploymentRow(Base):
    """The id of the deployment. There is one row, in place 1."""

    __tablename__ = "deployment"

    place: Mapped[int] = mapped_column(primary_key=True)
    deployment_id: Mapped[str] = mapped_column(String(36))


class IndexVersionRow(Base):
    """A version of the index: see client.sql.index_versions.IndexVersion."""

    __tablename__ = "index_versions"

    version_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[str] = mapped_column(String(255))
    dimensions: Mapped[int | None]
    chunking: Mapped[int]
    collection: Mapped[str] = mapped_column(String(400))
    state: Mapped[str] = mapped_column(String(10))
    job_id: Mapped[str | None] = mapped_column(String(36))
    upload_id: Mapped[str | None] = mapped_column(String(36))
    attempts: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
    changed_at: Mapped[datetime] = mapped_column(UtcTime)


class Database:
    """A database that is migrated with its first use. Safe for threads and forks."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.data_dir / "uploads.db" if settings.database_url is None else None
        url = settings.database_url or f"sqlite:///{self._file}"
        self._engine = make_engine(url, pool_pre_ping=self._file is None)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lookups = Lookups(make_engine(url, **ENGINE_OPTIONS))
        self._ready = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for single statements that change nothing. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(self._engine), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection with a transaction, committed at the end. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection all of whose reads see one moment. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(self._engine):
            if self._file is None:
                with self._engine.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
                    yield connection
                return
            with self._reading.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")

    def replace(self, revision: str, fill: Callable[[Connection], None]) -> None:
        """Drop all tables, make them as a migration left them, `fill` them, and migrate them: in one transaction.

        Raises SettingsError for a migration of a newer version, and UploadsUnavailable.
        """
        self.migrate()
        with _database_errors(self._engine), self._engine.begin() as connection:
            Base.metadata.drop_all(connection)
            connection.execute(text("DROP TABLE alembic_version"))
            upgrade(connection, revision)
            fill(connection)
            upgrade(connection)

    def look_up(self, read: Callable[[Lookup], Result]) -> Result:
        """Return what `read` returns; it may be called again. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(self._engine):
            return self._lookups.look_up(read)

    def migrate(self) -> None:
        """Migrate the tables. Several processes may do so at once. Raises SettingsError for a newer database."""
        if self._ready:
            return
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with _database_errors(self._engine):
            with self._reading.connect() as connection:
                revision = revision_of(connection)
            if revision != REVISION:
                with self._engine.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                    upgrade(connection)
        self._ready = True

    def versions(self) -> tuple[str, str | None]:
        """Return the version of the server, and the migration of the tables, which are left as they are, if any."""
        if self._file is not None and not self._file.exists():
            return "", None
        with _database_errors(self._engine), self._reading.connect() as connection:
            ask = "SHOW server_version" if self._file is None else "SELECT sqlite_version()"
            return str(connection.execute(text(ask)).scalar()), revision_of(connection)

    def prepare(self) -> None:
        """Migrate the tables when the program starts. Only warns when the server is away: the server may come back.

        Raises SettingsError for a newer database, and for a database that can never be opened.
        """
        try:
            self.migrate()
        except UploadsUnavailable as error:
            reason = _permanent_fault(error.__context__)
            if reason is not None:
                place = "DATABASE_URL must name a database" if self._file is None else f"{self._file} must be one"
                raise SettingsError(f"{place} that can be opened ({reason})") from None
            log.warning("%s", error.detail)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        self._lookups.close()


def _permanent_fault(error: BaseException | None) -> str | None:
    """Return why the database can never be opened as configured; None when the database may be away or busy."""
    if isinstance(error, ProgrammingError):  # PostgreSQL: an unknown option, or no permission to create tables
        return type(error.orig).__name__
    name = getattr(getattr(error, "orig", None), "sqlite_errorname", None)
    if name is None or name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return None
    return str(error.orig) if isinstance(error, DBAPIError) else None


class DuplicateRow(UploadsUnavailable):
    """A row with the same unique values exists already."""


@contextmanager
def _database_errors(engine: Engine) -> Iterator[None]:
    """Translate the errors of SQLAlchemy and the driver, without statements and values: errors reach logs."""
    try:
        yield
    except IntegrityError:
        raise DuplicateRow("the database has such a row already: try again", retry_after_seconds=1) from None
    except (SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
        raise UploadsUnavailable(
            f"the database of uploads failed ({type(error).__name__}): check DATABASE_URL, and that the database runs",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None
