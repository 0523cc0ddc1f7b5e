"""How long a question waits before it starts, on an idle system and with 5,000 documents waiting to be indexed.

`python -m bench.flood`, or `make bench-queue PARTS=flood`. One worker process does both, as main.py starts it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from redis import Redis
from rq.suspension import resume, suspend

from bench.machine import ROOT, program, wait_for
from client.files.store import open_file_store
from client.rq_client import JobQueue
from client.sql.database import Database
from client.sql.uploads import UploadRepository
from client.valkey.embedded import EmbeddedValkey
from documents.service import DocumentService, OnDuplicate
from settings import Settings, load_settings

DOCUMENTS = 5_000
QUESTIONS = 150
# An odd interval, so that questions do not synchronise with a timer of the service.
EVERY_SECONDS = 0.0471
SAMPLE = ROOT / "samples" / "handbook.pdf"


def main() -> None:
    """Measure and print both."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = EmbeddedValkey(folder / "valkey")
        server.start()
        environment = os.environ | {
            "VALKEY_URL": server.url,
            "DATA_DIR": name,
            "OPENAI_API_KEY": "",
            "OPENAI_BASE_URL": "",
            "QDRANT_URL": "",
            "LOG_LEVEL": "WARNING",
        }
        settings = load_settings(valkey_url=server.url, data_dir=folder)
        try:
            with (
                Redis.from_url(server.url) as valkey,
                program([sys.executable, "main.py", "worker"], environment, log=folder / "worker.log"),
            ):
                asyncio.run(_flood(settings, 1))
                wait_for(lambda: valkey.zcard("rq:finished:rag_documents") == 1, seconds=30)
                asyncio.run(_ask(server.url, valkey, 20))
                idle = asyncio.run(_ask(server.url, valkey, QUESTIONS))
                suspend(valkey)  # until all of them wait
                asyncio.run(_flood(settings, DOCUMENTS))
                resume(valkey)
                wait_for(lambda: valkey.zcard("rq:wip:rag_documents") > 0, seconds=30)
                flooded = asyncio.run(_ask(server.url, valkey, QUESTIONS))
                left = valkey.llen("rq:queue:rag_documents")
        finally:
            server.stop()
    print(f"\nwait of a question before it starts, {QUESTIONS} questions each, median (95th percentile)")
    print(f"  idle                             {_figures(idle)}")
    print(f"  {DOCUMENTS:,} documents waiting ({left:,} left) {_figures(flooded)}")
    print(f"  ratio of the medians             {statistics.median(flooded) / statistics.median(idle):.2f}")


async def _flood(settings: Settings, count: int) -> None:
    """Upload the sample many times, as the API does."""
    queue = JobQueue(settings.queue_url, job_timeout_seconds=600, result_ttl_seconds=600)
    uploads = UploadRepository(Database(settings))
    library = DocumentService(uploads, open_file_store(settings), queue)
    try:
        for _ in range(count):
            with SAMPLE.open("rb") as file:
                await library.accept(file, name=SAMPLE.name, on_duplicate=OnDuplicate.KEEP)
    finally:
        uploads.close()
        await queue.close()


async def _ask(url: str, valkey: Redis, count: int) -> list[float]:
    """Ask questions, one after the other, and return how long each waited, in milliseconds."""
    queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
    jobs = []
    for _ in range(count):
        jobs.append(await queue.submit("chat", {"query": "How long does the battery last?", "k": 6}))
        await asyncio.sleep(EVERY_SECONDS)
    await queue.close()
    wait_for(lambda: valkey.llen("rq:queue:rag_queries") == 0, seconds=30)
    return [_waited(valkey, job.job_id) for job in jobs]


def _waited(valkey: Redis, job_id: str) -> float:
    created, started = (datetime.fromisoformat(value.decode()) for value in _times(valkey, job_id))
    return (started - created).total_seconds() * 1000


def _times(valkey: Redis, job_id: str) -> list[bytes]:
    found = valkey.hmget(f"rq:job:{job_id}", ["created_at", "started_at"])
    assert isinstance(found, list)
    return [value for value in found if isinstance(value, bytes)]


def _figures(waits: list[float]) -> str:
    return f"{statistics.median(waits):6.2f} ms ({statistics.quantiles(waits, n=20)[-1]:.2f} ms)"


if __name__ == "__main__":
    main()
