"""Crashes at chosen moments: a service wrapped so that the process ends at one of the calls made through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from client.sql.index_versions import IndexVersion
from queues.search_index import OpenVersion
from queues.wiring import Services

# What a worker does to the stores, in words: the calls that change something.
CHANGES = frozenset({"upsert", "delete", "delete_everywhere", "put", "add", "undo_add", "start", "record_progress"})
CHANGES |= {"finish", "fail", "fail_if_unchanged", "requeue", "mark_deleting", "finish_delete"}


class Crash(BaseException):
    """The end of a process, in a test that goes on."""


class Fault:
    """Crashes once, before or after the chosen change, counted from 1. 0: never."""

    def __init__(self, at: int, *, after: bool, crash: Callable[[], None]) -> None:
        self._left = at
        self._after = after
        self._crash = crash

    def around(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make a call, and crash if it is the one."""
        self._left -= 1
        if self._left == 0 and not self._after:
            self._crash()
        result = call(*arguments, **named)
        if self._left == 0 and self._after:
            self._crash()
        return result


class Faulty:
    """A service whose changes go through a fault."""

    def __init__(self, service: Any, fault: Fault) -> None:
        self._service = service
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._service, name)
        if name not in CHANGES:
            return value
        return lambda *arguments, **named: self._fault.around(value, *arguments, **named)


class FaultyIndex(Faulty):
    """An index whose stores are written through a fault."""

    def searched(self) -> OpenVersion:
        return self._wrapped(self._service.searched())

    def open(self, version: IndexVersion) -> OpenVersion:
        return self._wrapped(self._service.open(version))

    def _wrapped(self, opened: OpenVersion) -> OpenVersion:
        store: Any = Faulty(opened.store, self._fault)
        return dataclasses.replace(opened, store=store)


def faulty(use: Services, fault: Fault) -> Services:
    """Return services whose changes go through a fault."""
    wrapped: dict[str, Any] = {name: Faulty(getattr(use, name), fault) for name in ("uploads", "files")}
    return dataclasses.replace(use, index=FaultyIndex(use.index, fault), **wrapped)  # type: ignore[arg-type]
