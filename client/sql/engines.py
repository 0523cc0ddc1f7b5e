"""How SQLite and PostgreSQL are opened, and how their tables are migrated."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from client.sql.lookups import renew_after_fork
from errors import SettingsError

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_SECONDS = 15.0
CONNECT_SECONDS = 5


def make_engine(url: str, **options: Any) -> Engine:
    """Return an engine. `options`: further options of SQLAlchemy's create_engine."""
    if url.startswith("sqlite"):
        connect = {"timeout": BUSY_SECONDS}
        engine = create_engine(url, hide_parameters=True, paramstyle="named", connect_args=connect, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        psycopg = "postgresql+psycopg://" + url.partition("://")[2]
        connect = {"connect_timeout": CONNECT_SECONDS}
        engine = create_engine(psycopg, hide_parameters=True, connect_args=connect, **options)
    renew_after_fork(engine)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once if another transaction wrote in between. A transaction
    # that takes the lock first waits instead.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def revision_of(connection: Connection) -> str | None:
    """Return the migration of the tables; None if the database has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate the tables to a revision. Raises SettingsError for tables, or a revision, of a newer version."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # otherwise twelve lines at the first start
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError:
        raise SettingsError(
            "the database of uploads was written by a newer version of this program: install that version, "
            "or set another DATABASE_URL or DATA_DIR"
        ) from None
