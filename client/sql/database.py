"""The SQL database with uploads and API keys: SQLite in a file, or PostgreSQL; its tables are up to date before use."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    String,
    Text,
    TypeDecorator,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from errors import SettingsError, UploadsUnavailable
from settings import Settings

log = logging.getLogger("client.database")

# The newest migration. Compared with the database at start, so that Alembic is imported only to change something.
REVISION = "0002"
MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_SECONDS = 15.0
CONNECT_SECONDS = 5
RETRY_AFTER_SECONDS = 5
# Any number that no other program takes as a lock on the same PostgreSQL database.
_MIGRATION_LOCK = 5_210_471_187


class _UtcTime(TypeDecorator[datetime]):
    """A time with its zone, which SQLite drops."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What Alembic compares the database with."""


class UploadRow(Base):
    """A row of the list of uploads: see schemas.Upload.

    `unique_sha256` is `sha256`, but NULL for an upload that may have doubles (`keep`) and for one being deleted.
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
    created_at: Mapped[datetime] = mapped_column(_UtcTime)
    updated_at: Mapped[datetime] = mapped_column(_UtcTime)
    started_at: Mapped[datetime | None] = mapped_column(_UtcTime)
    indexed_at: Mapped[datetime | None] = mapped_column(_UtcTime)

    __table_args__ = (
        Index("uploads_newest", "user_id", "created_at", "upload_id"),
        Index("uploads_content", "user_id", "sha256"),
        Index("uploads_unique_content", "user_id", "unique_sha256", unique=True),
        Index("uploads_status", "status", "upload_id"),
    )


class ApiKeyRow(Base):
    """A row of the list of keys: see schemas.ApiKey. `scopes` are separated by spaces."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    user_id: Mapped[str] = mapped_column(String(255))
    scopes: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(_UtcTime)
    expires_at: Mapped[datetime | None] = mapped_column(_UtcTime)
    revoked_at: Mapped[datetime | None] = mapped_column(_UtcTime)


class Database:
    """A database whose tables are up to date from the first use on. Safe for threads; a fork must make its own."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.data_dir / "uploads.db" if settings.database_url is None else None
        self._engine = _make_engine(settings.database_url or f"sqlite:///{self._file}")
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._ready = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection for single statements that change nothing. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection with a transaction, committed at the end. Raises UploadsUnavailable."""
        self.migrate()
        with _database_errors(), self._engine.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables up to date; several processes may do so at once. Raises SettingsError for a newer one."""
        if self._ready:
            return
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with _database_errors():
            with self._reading.connect() as connection:
                found = _revision(connection)
            if found != REVISION:
                with self._engine.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                    _upgrade(connection)
        self._ready = True

    def prepare(self) -> None:
        """Bring the tables up to date at the start. A server that is away is no error: it may come back.

        Raises SettingsError for a newer database, and for one that cannot be opened at all.
        """
        try:
            self.migrate()
        except UploadsUnavailable as error:
            reason = _why_hopeless(error.__context__)
            if reason is not None:
                place = "DATABASE_URL must name a database" if self._file is None else f"{self._file} must be one"
                raise SettingsError(f"{place} that can be opened ({reason})") from None
            log.warning("%s", error.detail)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _make_engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    psycopg = "postgresql+psycopg://" + url.partition("://")[2]
    return create_engine(
        psycopg, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": CONNECT_SECONDS}
    )


def _why_hopeless(error: BaseException | None) -> str | None:
    """Say why a database will never be opened as it is named; None when it may be away or busy, and come back."""
    if isinstance(error, ProgrammingError):  # of PostgreSQL: an option it does not know, or tables it may not make
        return type(error.orig).__name__
    name = getattr(getattr(error, "orig", None), "sqlite_errorname", None)
    if name is None or name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return None
    return str(error.orig) if isinstance(error, DBAPIError) else None


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once if another wrote in between; one that takes the lock
    # first waits for its turn instead.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _revision(connection: Connection) -> str | None:
    """Return the revision of the database's tables, None when there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # else twelve lines at the first start
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise SettingsError(
            "the database of uploads was written by a newer version of this program: install that, "
            "or set another DATABASE_URL or DATA_DIR"
        ) from None


class RowTaken(UploadsUnavailable):
    """A row like it is there already."""


@contextmanager
def _database_errors() -> Iterator[None]:
    """Turn the library's errors into ours, without the statement and its values: they reach logs."""
    try:
        yield
    except IntegrityError:
        raise RowTaken("there is such an upload already", retry_after_seconds=1) from None
    except SQLAlchemyError as error:
        raise UploadsUnavailable(
            f"the database of uploads failed ({type(error).__name__}): check DATABASE_URL and that it runs",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from None
