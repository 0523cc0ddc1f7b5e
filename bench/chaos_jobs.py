"""The worker of `make chaos`: RagWorker, with a slow model that writes each question to a file."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

from client.qdrant.bm25 import Bm25Encoder
from queues import wiring
from queues.context import current_job
from queues.ragworker.recovery import Intervals
from queues.ragworker.worker import RagWorker
from rag.search.fusion import SearchResults
from rag.search.retriever import Retriever
from schemas import Chunk, Completion, Passage

RUNS = Path(os.environ.get("CHAOS_RUNS", "runs.log"))
LONGEST_SECONDS = float(os.environ.get("CHAOS_LONGEST", "1.0"))
TEXT = "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale."


class Worker(RagWorker):
    """RagWorker with the stand-in model: `rq worker -w bench.chaos_jobs.Worker rag_queries`.

    With CHAOS_QUICK in the environment, for a test, a dead worker is detected sooner.
    """

    if os.environ.get("CHAOS_QUICK"):
        lease_seconds: ClassVar[int] = 2
        intervals: ClassVar[Intervals] = Intervals(
            heartbeat=0.2, recovery=0.2, steady=2.0, valkey_uptime=2.0, grace=1.0
        )

    def work(self, *args: Any, **kwargs: Any) -> bool:
        opened = wiring.open_services(self.settings)
        store = _Store(opened.bm25)
        retriever = Retriever(store, opened.bm25.terms)
        fake: dict[str, Any] = {"store": store, "retriever": retriever, "chat": _Model(), "uploads": _Uploads()}
        wiring.set_services(dataclasses.replace(opened, **fake))
        return super().work(*args, **kwargs)


class _Store:
    def __init__(self, bm25: Bm25Encoder) -> None:
        self._bm25 = bm25

    def search(self, question: str, _vector: object, _chosen: object, _limit: int) -> SearchResults:
        place = {"index": 0, "page": 1, "page_label": "1", "start": 0, "end": len(TEXT)}
        chunk = Chunk(id="1", upload_id="u", user_id="local", name="lighthouse.pdf", text=TEXT, **place)
        idf = dict.fromkeys(self._bm25.terms(question), 1.0)
        return SearchResults(sparse=[Passage(chunk=chunk, score=1.0)], idf=idf)

    def neighbours(self, _chunks: list[Chunk]) -> list[Chunk]:
        return []

    def close(self) -> None:
        pass


class _Uploads:
    """A list in which every upload is ready."""

    def searchable_version(self, _user_id: str) -> str:
        return ""

    def hidden_ids(self, _user_id: str) -> tuple[str, ...]:
        return ()

    def searchable(self, _user_id: str, upload_ids: set[str]) -> set[str]:
        return upload_ids


class _Model:
    """A model whose every answer is different, so that two runs of one job never give the same answer."""

    async def complete(self, _system: str, _user: str, **_options: object) -> Completion:
        job = current_job()
        assert job is not None
        _note("begun", job.job_id)
        await asyncio.sleep(random.uniform(0.02, LONGEST_SECONDS))
        _note("ended", job.job_id)
        return Completion(text=f"The lighthouse was built in 1887 [1]. Run {uuid.uuid4().hex}.", model="chaos")


def _note(what: str, job_id: str) -> None:
    """Append a line to the file in one write, which survives every kill."""
    with RUNS.open("ab", buffering=0) as file:
        file.write(f"{what} {job_id} {os.getpid()} {time.time()}\n".encode())
