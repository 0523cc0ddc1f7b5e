"""All rows of the database as plain data, to move between SQLite and PostgreSQL, and to later versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, DateTime, MetaData, Table, func, insert, select, text

from client.sql.database import Base, Database

BATCH = 1_000
# Where Alembic keeps the number of the migration.
VERSION_TABLE = "alembic_version"
# What a database holds that nobody has used yet.
_ALWAYS = {"deployment", "index_versions", VERSION_TABLE}

# Names of tables, each with some of their rows as lines of JSON.
Tables = Iterable[tuple[str, list[bytes]]]


def read_tables(connection: Connection) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name of a table and up to BATCH of its rows as lines of JSON, for all tables."""
    for table in _tables(connection):
        result = connection.execute(select(table).execution_options(yield_per=BATCH))
        for rows in result.partitions():
            yield table.name, [_to_json(dict(row._mapping)) for row in rows]  # noqa: SLF001  its public name


def replace_tables(database: Database, *, revision: str, tables: Tables) -> int:
    """Replace all tables by others, in one transaction; return the number of rows.

    The tables are made as migration `revision` left them, filled, and then migrated. Raises SettingsError for a
    revision of a newer version, and UploadsUnavailable.
    """
    count = 0

    def fill(connection: Connection) -> None:
        nonlocal count
        made = {table.name: table for table in _tables(connection)}
        for name, lines in tables:
            rows = [_stored(orjson.loads(line), made[name]) for line in lines]
            connection.execute(insert(made[name]), rows)
            count += len(rows)
        _set_sequences(connection, made.values())

    database.replace(revision, fill)
    return count


def clear_tables(database: Database) -> None:
    """Delete all rows, but leave the tables. Raises UploadsUnavailable."""
    with database.writing() as connection:
        for table in _tables(connection):
            connection.execute(table.delete())


def has_rows(database: Database) -> bool:
    """Return True if anybody has used the database. Raises UploadsUnavailable."""
    with database.reading() as connection:
        return any(
            connection.execute(select(func.count()).select_from(table)).scalar()
            for table in _tables(connection)
            if table.name not in _ALWAYS
        )


def _tables(connection: Connection) -> list[Table]:
    """Return our tables as they are in the database."""
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name in Base.metadata.tables)
    return metadata.sorted_tables


def _to_json(row: dict[str, Any]) -> bytes:
    """Return a row as a line of JSON, with its times in UTC. SQLite keeps times of UTC without their zone."""
    plain = {
        str(name): _in_utc(value).isoformat() if isinstance(value, datetime) else value for name, value in row.items()
    }
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _stored(row: dict[str, Any], table: Table) -> dict[str, Any]:
    """Return a row as the driver takes it."""
    return {
        name: datetime.fromisoformat(value)
        if isinstance(value, str) and isinstance(table.c[name].type, DateTime)
        else value
        for name, value in row.items()
    }


def _set_sequences(connection: Connection, tables: Iterable[Table]) -> None:
    """Have PostgreSQL go on counting after the highest of the numbers that it gave. SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            find = text("SELECT pg_get_serial_sequence(:table, :column)")
            sequence = connection.execute(find, {"table": table.name, "column": column.name}).scalar()
            if sequence is not None:
                highest = connection.execute(select(func.max(column))).scalar() or 0
                connection.execute(select(func.setval(sequence, max(1, highest), highest > 0)))
