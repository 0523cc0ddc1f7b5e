"""What workers run. `queues.RagWorker` is RQ's name for the worker; it is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queues.ragworker.worker import RagWorker

__all__ = ["RagWorker"]


def __getattr__(name: str) -> object:
    if name == "RagWorker":
        from queues.ragworker.worker import RagWorker

        return RagWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
