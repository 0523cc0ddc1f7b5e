"""main.py for `make chaos`: the same, but its workers write down when they are ready and when each job begins.

A worker with CHAOS_HOST set behaves as if it ran on another machine: only its leases tell that it is dead.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import main
from bench.chaos.recoveries import READY
from cli import processes
from client.rq import holder
from queues.context import current_job
from queues.ragworker.worker import RagWorker

Payload = dict[str, Any]


def note_begins(log: Path) -> None:
    """Have this process append a line to a file for each job function that begins: job, process, Unix seconds.

    The line of a worker that is about to take jobs has READY in place of the job.
    """
    worker = importlib.import_module("queues.worker")
    register = RagWorker.register_birth

    def note_ready(self: RagWorker) -> None:
        note(READY)
        register(self)  # type: ignore[no-untyped-call]

    def note(what: str = "") -> None:
        job = current_job()
        what = what or (job.job_id if job is not None else "")
        with log.open("ab", buffering=0) as file:  # one write, which survives every kill
            file.write(f"{what} {os.getpid()} {time.time()}\n".encode())

    def noted(function: Callable[[Payload], Any]) -> Callable[[Payload], Any]:
        @wraps(function)
        def run(payload: Payload) -> Any:
            note()
            return function(payload)

        return run

    def noted_coroutine(function: Callable[[Payload], Awaitable[Any]]) -> Callable[[Payload], Awaitable[Any]]:
        @wraps(function)
        async def run(payload: Payload) -> Any:
            note()
            return await function(payload)

        return run

    RagWorker.register_birth = note_ready  # type: ignore[assignment, method-assign]
    worker.process_pdf = noted(worker.process_pdf)  # type: ignore[attr-defined]
    worker.process_query_async = noted_coroutine(worker.process_query_async)  # type: ignore[attr-defined]


def run() -> int:
    processes.ROOT = Path(__file__).parent  # type: ignore[attr-defined]  # `main.py` starts the other processes through this file, too
    if "worker" in sys.argv[1:2]:
        note_begins(Path(os.environ["CHAOS_BEGINS"]))
        if host := os.environ.get("CHAOS_HOST"):
            name = f"{host}-{os.getpid()}"  # after a restart it is another machine again
            setattr(holder, "host", lambda: name)  # noqa: B010  mypy refuses the assignment
    return main.main()


if __name__ == "__main__":
    sys.exit(run())
