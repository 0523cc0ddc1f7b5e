"""Look-ups: the reads that every question makes, at little more than the cost of the driver.

With SQLAlchemy's execution a look-up takes 70 µs of CPU on SQLite and 120 µs on PostgreSQL: it builds the statement,
pings the connection and begins a transaction. Here a statement is compiled once, and a connection that the server has
closed is replaced when its use fails: 15 and 25 µs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import Engine, Pool, PoolProxiedConnection, SelectBase

Result = TypeVar("Result")

ENGINE_OPTIONS: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    # A look-up holds a connection for less than a millisecond, so more threads than connections hardly wait.
    "pool_size": 8,
    "max_overflow": 0,
    "pool_use_lifo": True,  # the connection that was used last remembers most
    "pool_reset_on_return": None,
}
# At 200 bytes each, 0.2 MB for a connection.
MAX_REMEMBERED = 1_000
# Statements whose row changes with every commit of another connection. A snapshot of PostgreSQL names the transactions
# that have ended. The server's start is added because a standby that takes over may have lost some of them, and gives
# their numbers again.
_VERSION = {
    "sqlite": "PRAGMA data_version",
    "postgresql": "SELECT pg_current_snapshot()::text, pg_postmaster_start_time()",
}


class Lookup:
    """A connection during one look-up. It must not write: SQLite tells a connection only of the commits of others."""

    def __init__(self, pooled: PoolProxiedConnection, compile_: Callable[[SelectBase], str], version: str) -> None:
        self._connection: Any = pooled.driver_connection
        self._info = pooled.info
        self._compile = compile_
        self._version = version

    def rows(self, statement: SelectBase, **values: object) -> list[Any]:
        """Return a statement's rows as the driver returns them. `values`: its bound parameters, by name.

        The statement must be made once and used again: what is compiled of it is kept.
        """
        rows: list[Any] = self._connection.execute(self._compile(statement), values).fetchall()
        return rows

    def remembered(self) -> dict[Any, Any]:
        """Return a dictionary for what is read after this call; emptied whenever any transaction was committed.

        An entry read before this call could be older than the version of the database that the dictionary is for.
        """
        version = self._connection.execute(self._version).fetchone()
        remembered: dict[Any, Any] | None = self._info.get("remembered")
        if remembered is None or self._info["version"] != version or len(remembered) >= MAX_REMEMBERED:
            remembered = {}
            self._info.update(remembered=remembered, version=version)
        return remembered


class Lookups:
    """The connections for look-ups. Safe for threads."""

    def __init__(self, engine: Engine) -> None:
        """`engine`: made with ENGINE_OPTIONS, and used by nothing else."""
        self._engine = engine
        self._version = _VERSION[engine.dialect.name]
        self._compile = lru_cache(maxsize=None)(lambda statement: str(statement.compile(dialect=engine.dialect)))
        self._errors = engine.dialect.loaded_dbapi.Error

    def look_up(self, read: Callable[[Lookup], Result]) -> Result:
        """Return what `read` returns. Raises the errors of SQLAlchemy and of the driver.

        After a restart of the server every connection from before fails once; `read` is then called with another one.
        """
        while True:
            pooled = self._engine.raw_connection()
            used_before = pooled.info.setdefault("used", False)
            try:
                result = read(Lookup(pooled, self._compile, self._version))
            except self._errors as error:
                if not self._engine.dialect.is_disconnect(error, pooled, None):
                    raise
                pooled.invalidate(error)
                if not used_before:
                    raise
            else:
                pooled.info["used"] = True
                return result
            finally:
                pooled.close()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


_engines: WeakSet[Engine] = WeakSet()
_inherited: list[Pool] = []


def renew_after_fork(engine: Engine) -> None:
    """Have forked processes open connections of their own: a connection that two processes use gets corrupted."""
    _engines.add(engine)


def _renew_pools() -> None:
    for engine in list(_engines):
        _inherited.append(engine.pool)  # kept: even closing the connection would disturb the process that forked
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_pools)
