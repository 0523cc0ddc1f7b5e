"""What a job costs with nothing behind it, and with 10,000 jobs waiting: jobs that do nothing, so that it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from unittest.mock import patch

from rq.suspension import resume, suspend

from bench.machine import RQ, Program, wait_for
from bench.questions.setup import QUEUE, Setup
from client.rq.records import FUNCTIONS, Kind
from client.rq_client import JobQueue

AT_ONCE = 32
MEASURED = 4_000
WAITING = 10_000
# Others use the machine, too: once is not enough for 10 %.
TIMES = 2
BATCH = 250
MAX_SECONDS = 120.0


def run(setup: Setup, _seconds: float) -> None:
    """Print the CPU of a job with and without the others, and the ratio."""
    print(f"\na job that does nothing, submitted as the API does and run {AT_ONCE} at once: CPU ms a job")
    costs: dict[int, list[float]] = {0: [], WAITING: []}
    for waiting in [0, WAITING] * TIMES:
        command = [RQ, "worker", "-w", "bench.queue_worker.Worker", "--quiet", "--url", setup.url, QUEUE]
        with setup.worker(AT_ONCE, command) as worker:
            suspend(setup.valkey)
            asyncio.run(_submit(setup, waiting))
            submitting = _cpu_ms(setup, worker, lambda: asyncio.run(_submit(setup, MEASURED)))
            began = time.monotonic()
            running = _cpu_ms(setup, worker, lambda: _run(setup))
            rate = MEASURED / (time.monotonic() - began)
        costs[waiting].append(sum(submitting) + sum(running))
        print(
            f"  {waiting:>6} others waiting   submit: client {submitting[0]:.3f}, Valkey {submitting[2]:.3f}   run: "
            f"worker {running[1]:.3f}, Valkey {running[2]:.3f}   together {costs[waiting][-1]:.3f}   {rate:.0f} jobs/s",
            flush=True,
        )
    print(f"  with the others / without, the cheaper of {TIMES} each: {min(costs[WAITING]) / min(costs[0]):.2f}")


async def _submit(setup: Setup, count: int) -> None:
    queue = JobQueue.from_settings(setup.settings(), setup.url)
    functions = cast("dict[Kind, str]", FUNCTIONS)
    try:
        with patch.dict(functions, {"chat": "bench.queue_jobs.nothing"}):
            for _ in range(0, count, BATCH):
                await queue.submit_many("chat", [{}] * BATCH)
    finally:
        await queue.close()


def _run(setup: Setup) -> None:
    """Let the worker run until the measured number of jobs has ended. The others still wait then."""
    resume(setup.valkey)
    finished = f"rq:finished:{QUEUE}"
    if not wait_for(lambda: setup.valkey.zcard(finished) >= MEASURED, seconds=MAX_SECONDS):
        raise RuntimeError(f"{setup.valkey.zcard(finished)} of {MEASURED} jobs ended in {MAX_SECONDS:.0f} s")


def _cpu_ms(setup: Setup, worker: Program, work: Callable[[], None]) -> tuple[float, float, float]:
    """Return the CPU of this process, of the worker and of Valkey during `work`, in ms for each measured job."""

    def used() -> list[float]:
        return [time.process_time(), worker.cpu_seconds(), setup.valkey_cpu_seconds()]

    before = used()
    work()
    client, ran, valkey = (1_000 * (end - start) / MEASURED for start, end in zip(before, used(), strict=True))
    return client, ran, valkey
