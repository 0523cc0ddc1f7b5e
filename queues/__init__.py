"""Workers: how jobs are taken, run and ended, and what each job does. No HTTP, and no SDK of an outside service.

`queues.RagWorker` is the class that `rq worker -w` names; it is imported on first use.
"""

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
