"""The job that every peer runs, and how its speed is reported. Runs in the peers' own virtual environment.

The first job starts the clock; the last one writes what was measured to the file named in BENCH_RESULT.
"""

import asyncio
import itertools
import json
import os
import resource
import threading
import time
from pathlib import Path

TOTAL = int(os.environ.get("BENCH_TOTAL", "1000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0"))
RESULT = Path(os.environ.get("BENCH_RESULT", "result.json"))
URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "32"))

_begun = itertools.count(1)
_ended = itertools.count(1)
_start: list[float] = []
_lock = threading.Lock()


def job() -> None:
    """Do nothing, or wait as for a model."""
    _begin()
    if SECONDS:
        time.sleep(SECONDS)
    _end()


async def async_job() -> None:
    """Do the same as a coroutine."""
    _begin()
    if SECONDS:
        await asyncio.sleep(SECONDS)
    _end()


def _begin() -> None:
    if next(_begun) == 1:
        _start[:] = [time.monotonic(), time.process_time()]


def _end() -> None:
    if next(_ended) == TOTAL:
        seconds, cpu = time.monotonic() - _start[0], time.process_time() - _start[1]
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report = {
            "jobs_per_second": TOTAL / seconds,
            "cpu_ms": 1000 * cpu / TOTAL,
            "megabytes": megabytes,
        }
        part = RESULT.with_suffix(".part")
        part.write_text(json.dumps(report))
        part.rename(RESULT)
