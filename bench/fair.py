"""What one user's flood costs the others: `make bench-fair`.

Light users ask at a steady pace, first beside nobody and then beside one who asks 100 times as often as each of them,
more than the worker can answer. One worker process, as main.py starts it, answers full questions with a model that
takes half a second, 16 at once. Times are from the submission, as the API makes it, to the moment at which GET /result
would answer.

Measured on 2 cores that others used too, 60 s each, median (95th percentile): beside nobody 534 ms (565 ms), beside the
flood 591 ms (793 ms), ratio 1.11 (1.40; 1.09 in another run); the flood itself, which everybody would have waited
behind, 12.4 s (24.0 s). A model of 1 s: 1.06 (1.16). A place falls free every model's time / places; that is what the
flood costs at best. How much of the 95th percentile comes from other work on the machine was not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from bench.machine import ROOT, program, wait_for
from client.files.store import open_file_store
from client.rq_client import JobQueue
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from client.valkey.embedded import EmbeddedValkey
from documents.service import DocumentService
from errors import QueueUnavailable
from settings import LEXICAL_MODEL, Settings, load_settings

SAMPLE = ROOT / "samples" / "handbook.pdf"
LIGHT_USERS = 8
TIMES = 100
QUESTION = {"query": "How long does the battery last?", "k": 6, "user_id": "local", "cache": False}
# One in this many of the flooder's jobs is followed to its end. To follow every job would add load.
FOLLOWED = 20


@dataclass
class Timings:
    """Times of questions: seconds from submission to result, and the number that were never answered."""

    seconds: list[float] = field(default_factory=list)
    asked: int = 0


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=float, default=0.5, help="seconds the model takes")
    parser.add_argument("--at-once", type=int, default=16, help="WORKER_CONCURRENCY of the worker")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each part takes")
    parser.add_argument("--every", type=float, default=2.5, help="seconds between two questions of a light user")
    parser.add_argument("--waiting", type=int, default=0, help="jobs the flooder has waiting from the start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = EmbeddedValkey(folder / "valkey")
        server.start()
        try:
            with program([sys.executable, "-m", "bench.stub", str(options.model)], os.environ, log=folder / "stub.log"):
                wait_for(lambda: (folder / "stub.log").read_text().endswith("\n"), seconds=10)
                provider = (folder / "stub.log").read_text().splitlines()[-1]
                environment = os.environ | {
                    "VALKEY_URL": server.url,
                    "DATA_DIR": name,
                    "OPENAI_API_KEY": "not-needed",
                    "OPENAI_BASE_URL": provider,
                    "EMBEDDING_MODEL": LEXICAL_MODEL,
                    "QDRANT_URL": "",
                    "LOG_LEVEL": "WARNING",
                    "WORKER_CONCURRENCY": str(options.at_once),
                }
                settings = load_settings(valkey_url=server.url, data_dir=folder)
                with program([sys.executable, "main.py", "worker"], environment, log=folder / "worker.log"):
                    asyncio.run(_measure(settings, options))
        finally:
            server.stop()


async def _measure(settings: Settings, options: argparse.Namespace) -> None:
    queue = JobQueue(settings.queue_url, job_timeout_seconds=60, result_ttl_seconds=600)
    try:
        await _index(settings, queue)
        await _light(queue, 5.0, 0.5)
        alone = await _light(queue, options.seconds, options.every)
        print(f"{LIGHT_USERS} light users, a question every {options.every:.1f} s each")
        print(f"{options.at_once} questions at once, a model of {options.model} s")
        print(f"  beside nobody      {_figures(alone)}", flush=True)
        stop = asyncio.Event()
        flood = asyncio.create_task(_flood(queue, options.every / TIMES, options.waiting, stop))
        await asyncio.sleep(5.0)  # until the worker has more than it can do
        beside = await _light(queue, options.seconds, options.every)
        with Redis.from_url(settings.queue_url) as valkey:
            left = valkey.llen("rq:queue:rag_queries")
        stop.set()
        flooder = await flood
        print(f"  beside a flood     {_figures(beside)}   {left:,} jobs of the flood wait")
        print(f"  the flood          {_figures(flooder)}   {flooder.asked:,} asked")
        median = statistics.median(beside.seconds) / statistics.median(alone.seconds)
        print(f"  ratio of the medians {median:.2f}, of the 95th percentiles {_p95(beside) / _p95(alone):.2f}")
    finally:
        await queue.close()


async def _index(settings: Settings, queue: JobQueue) -> None:
    uploads = UploadRepository(Database(settings))
    library = DocumentService(uploads, open_file_store(settings), queue)
    with SAMPLE.open("rb") as file:
        upload = (await library.accept(file, name=SAMPLE.name)).upload
    await queue.wait(upload.job_id or "", 60, until=lambda job: job.status.terminal)
    uploads.close()


async def _light(queue: JobQueue, seconds: float, every: float) -> Timings:
    """Let each light user ask at its own times for the given seconds, and wait for all answers."""
    timings = Timings()
    users = [_user(queue, f"light-{number}", seconds, every, timings) for number in range(LIGHT_USERS)]
    await asyncio.gather(*users)
    return timings


async def _user(queue: JobQueue, owner: str, seconds: float, every: float, timings: Timings) -> None:
    until = time.monotonic() + seconds
    answers = []
    await asyncio.sleep(random.uniform(0, every))
    while time.monotonic() < until:
        answers.append(asyncio.create_task(_ask(queue, owner, timings)))
        await asyncio.sleep(every * random.uniform(0.8, 1.2))
    await asyncio.gather(*answers)


async def _ask(queue: JobQueue, owner: str, timings: Timings) -> None:
    started = time.perf_counter()
    timings.asked += 1
    job = await queue.submit("chat", QUESTION, owner=owner)
    job = await queue.wait(job.job_id, 60, until=lambda seen: seen.status.terminal)
    if job.result is None:
        raise RuntimeError(f"the question failed: {job.failure}")
    timings.seconds.append(time.perf_counter() - started)


async def _flood(queue: JobQueue, every: float, waiting: int, stop: asyncio.Event) -> Timings:
    """Ask without end, however long the answers take."""
    timings = Timings()
    for start in range(0, waiting, 1_000):
        await queue.submit_many("chat", [QUESTION] * min(1_000, waiting - start), owner="flood")
    following: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while not stop.is_set():
        if timings.asked % FOLLOWED:
            timings.asked += 1
            with suppress(QueueUnavailable):  # on a machine with too much to do
                await queue.submit("chat", QUESTION, owner="flood")
        else:
            following.add(asyncio.create_task(_ask(queue, "flood", timings)))
        due += every
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    for task in following:
        task.cancel()
    await asyncio.wait(following, timeout=5)
    return timings


def _p95(timings: Timings) -> float:
    return statistics.quantiles(timings.seconds, n=20)[-1]


def _figures(timings: Timings) -> str:
    if len(timings.seconds) < 2:
        return f"{len(timings.seconds)} answers"
    return (
        f"p50 {1000 * statistics.median(timings.seconds):6.0f} ms, p95 {1000 * _p95(timings):6.0f} ms "
        f"({len(timings.seconds):,} answers)"
    )


if __name__ == "__main__":
    main()
