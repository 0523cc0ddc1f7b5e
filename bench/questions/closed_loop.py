"""Questions put on the queue as the API does, so many at a time that the worker always has the next one."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import Program
from bench.questions.provider import SENTENCES, Stats
from bench.questions.setup import QUEUE, Setup, ideal_seconds
from client.rq_client import JobQueue

TICK_SECONDS = 0.02
MEMORY_SECONDS = 0.25
# An overloaded worker answers all questions at about the same time, many seconds later. So a measurement takes whole
# turns: as many answers as there are questions at once, or a multiple. One that takes longer is cut.
MAX_TURN_SECONDS = 60.0
CHECKED_ANSWERS = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. Times of CPU in ms an answer, memory in MiB."""

    model: str
    in_flight: int
    answers_per_second: float
    worker_cpu_ms: float
    valkey_cpu_ms: float
    client_cpu_ms: float
    provider_share: float
    chunks_late_ms: float
    latest_ms: float
    rss_anon: float
    rss_peak: float
    failed: int
    sources: float

    @property
    def ideal(self) -> float:
        return self.in_flight / ideal_seconds(self.model)

    def __str__(self) -> str:
        failed = f"   {self.failed} FAILED" if self.failed else ""
        return (
            f"  {self.model:<6}{self.in_flight:9d}{self.answers_per_second:10.1f}{self.ideal:9.1f}"
            f"{100 * self.answers_per_second / self.ideal:5.0f} %{self.worker_cpu_ms:11.1f}{self.valkey_cpu_ms:9.2f}"
            f"{self.client_cpu_ms:9.2f}{self.rss_anon:8.0f}{self.rss_peak:6.0f}{100 * self.provider_share:5.0f} %"
            f"{self.chunks_late_ms:7.1f}{self.latest_ms:7.0f}{self.sources:8.1f}{failed}"
        )


HEAD = """\
  model   at once answers/s    ideal  of it worker CPU   Valkey   client RssAnon   RSS   stub   late latest sources
                                            ms/answer       ms       ms      MB    MB    CPU     ms     ms /answer"""


def measure(setup: Setup, worker: Program, model: str, in_flight: int, seconds: float, *, waiting: int = 0) -> Row:
    """Keep `in_flight` questions running, and `waiting` more on the queue; measure for `seconds` once it is steady."""
    return asyncio.run(_Loop(setup, worker, model, in_flight, waiting).run(seconds))


@dataclass(frozen=True, slots=True)
class _Counts:
    """What has been used and done so far."""

    at: float
    answers: int
    worker: float
    valkey: float
    client: float
    provider: Stats


class _Loop:
    def __init__(self, setup: Setup, worker: Program, model: str, in_flight: int, waiting: int) -> None:
        self._setup = setup
        self._worker = worker
        self._model = model
        self._in_flight = in_flight
        # Some more than run, so that a place that becomes free never waits for this client.
        self._outstanding = in_flight + max(4, in_flight // 8) + waiting
        self._submitted = 0
        self._anon: list[float] = []
        self._memory_at = 0.0

    async def run(self, seconds: float) -> Row:
        self._queue = JobQueue.from_settings(self._setup.settings(), self._setup.url)
        try:
            await self._ramp()
            await self._turn()
            before = self._counts()
            self._anon.clear()
            while time.monotonic() - before.at < seconds and await self._turn():
                pass
            after = self._counts()
            sources = await self._sources()
        finally:
            await self._queue.close()
        return self._row(before, after, sources)

    async def _ramp(self) -> None:
        """Start the questions evenly over the time of one, so that they do not end all at once."""
        began, period = time.monotonic(), max(0.2, ideal_seconds(self._model))
        while (passed := time.monotonic() - began) < period:
            await self._submit(int(self._outstanding * passed / period) - self._submitted)
            await asyncio.sleep(TICK_SECONDS)

    async def _turn(self) -> bool:
        """Replace each question that ended until as many ended as run at once. False when that takes too long."""
        end, wanted = time.monotonic() + MAX_TURN_SECONDS, self._finished() + self._in_flight
        while (finished := self._finished()) < wanted and not self._worker.ended:
            if time.monotonic() >= end:
                return False
            await self._submit(self._outstanding - (self._submitted - finished - self._failed()))
            self._note_memory()
            await asyncio.sleep(TICK_SECONDS)
        return not self._worker.ended

    async def _submit(self, count: int) -> None:
        if count > 0:
            payloads = [self._setup.payload(self._model) for _ in range(count)]
            await self._queue.submit_many("chat", payloads)
            self._submitted += count

    def _finished(self) -> int:
        return int(self._setup.valkey.zcard(f"rq:finished:{QUEUE}"))

    def _failed(self) -> int:
        return int(self._setup.valkey.zcard(f"rq:failed:{QUEUE}"))

    def _note_memory(self) -> None:
        if time.monotonic() - self._memory_at >= MEMORY_SECONDS:
            self._memory_at = time.monotonic()
            self._anon.append(self._status("RssAnon"))

    def _status(self, name: str) -> float:
        """Return a size of the worker's own process, MiB."""
        text = Path(f"/proc/{self._worker.process.pid}/status").read_text()
        return int(text.split(f"{name}:")[1].split()[0]) / 1024

    def _counts(self) -> _Counts:
        return _Counts(
            time.monotonic(),
            self._finished(),
            self._worker.cpu_seconds(),
            self._setup.valkey_cpu_seconds(),
            time.process_time(),
            self._setup.provider.stats(),
        )

    async def _sources(self) -> float:
        """Return the mean number of sources of the last answers: a claim that the check refused would have none."""
        ids: list[Any] = self._setup.valkey.zrange(f"rq:finished:{QUEUE}", -CHECKED_ANSWERS, -1)
        jobs = [await self._queue.fetch(job_id.decode()) for job_id in ids]
        results: list[dict[str, Any]] = [dict(job.result) for job in jobs if job.result]
        assert len(results) == len(ids), "a finished job has no result"
        assert not any(result["cached"] for result in results), "an answer came from the cache"
        if any(result["unsupported"] for result in results) or not all(result["sources"] for result in results):
            print("  the check of citations removed marks: the figures below cost less than an answer does")
        cited = [result["text"].count("[") for result in results]
        if cited and statistics.mean(cited) < 0.9 * SENTENCES[self._model]:
            print(f"  only {statistics.mean(cited):.1f} sentences of an answer are cited")
        return statistics.mean([len(result["sources"]) for result in results]) if results else 0.0

    def _row(self, before: _Counts, after: _Counts, sources: float) -> Row:
        answers = max(1, after.answers - before.answers)
        passed = after.at - before.at
        used, chunks = after.provider, max(1, after.provider.chunks - before.provider.chunks)
        return Row(
            model=self._model,
            in_flight=self._in_flight,
            answers_per_second=(after.answers - before.answers) / passed,
            worker_cpu_ms=1_000 * (after.worker - before.worker) / answers,
            valkey_cpu_ms=1_000 * (after.valkey - before.valkey) / answers,
            client_cpu_ms=1_000 * (after.client - before.client) / answers,
            provider_share=(used.cpu_seconds - before.provider.cpu_seconds) / passed,
            chunks_late_ms=(used.late_ms - before.provider.late_ms) / chunks,
            latest_ms=used.latest_ms,
            rss_anon=max(self._anon, default=0.0),
            rss_peak=self._status("VmHWM"),
            failed=self._failed(),
            sources=sources,
        )
