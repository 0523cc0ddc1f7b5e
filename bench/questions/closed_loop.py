"""Questions put on the queue as the API does, so many at a time that the worker always has the next one."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

from bench.machine import Program
from bench.questions.provider import SENTENCES, Stats
from bench.questions.setup import QUEUE, Setup, ideal_seconds
from client.rq_client import JobQueue

TICK_SECONDS = 0.02
MEMORY_SECONDS = 0.25
# An overloaded worker answers all questions at about the same time, many seconds later. So a measurement takes whole
# turns: as many answers as there are questions at once, or a multiple. One that takes longer is cut.
MAX_TURN_SECONDS = 120.0
CHECKED_ANSWERS = 40
# Where the programs of CountedLoop count, a hash in Valkey: answers, sources, failed.
COUNTS = "bench:counts"


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


def measure(setup: Setup, worker: Program, model: str, in_flight: int, seconds: float) -> Row:
    """Keep `in_flight` questions running; measure for `seconds` once the worker is steady."""
    return asyncio.run(ClosedLoop(setup, worker, model, in_flight).run(seconds))


@dataclass(frozen=True, slots=True)
class _Counts:
    """What has been used and done so far."""

    at: float
    answers: int
    worker: float
    valkey: float
    client: float
    provider: Stats


class ClosedLoop:
    """Keeps questions on the queue, and measures the worker."""

    def __init__(self, setup: Setup, worker: Program, model: str, in_flight: int) -> None:
        self.setup = setup
        self.worker = worker
        self.model = model
        self.in_flight = in_flight
        # Some more than run, so that a place that becomes free never waits for this client.
        self._outstanding = in_flight + max(4, in_flight // 8)
        self._submitted = 0
        self._anon: list[float] = []
        self._look_at = 0.0

    async def run(self, seconds: float) -> Row:
        self._queue = JobQueue.from_settings(self.setup.settings(), self.setup.url)
        try:
            await self._ramp()
            await self._turn()
            before = self._counts()
            self._anon.clear()
            while time.monotonic() - before.at < seconds and await self._turn():
                pass
            after = self._counts()
            self._anon.append(self.worker.anonymous_megabytes())
            sources = await self.sources()
        finally:
            await self._queue.close()
        return self._row(before, after, sources)

    async def _ramp(self) -> None:
        """Start the questions evenly over the time of one, so that they do not end all at once."""
        began, period = time.monotonic(), max(0.2, ideal_seconds(self.model))
        while (passed := time.monotonic() - began) < period:
            await self.submit(int(self._outstanding * passed / period) - self._submitted)
            await asyncio.sleep(TICK_SECONDS)

    async def _turn(self) -> bool:
        """Replace each question that ended until as many ended as run at once. False when that takes too long."""
        end, wanted = time.monotonic() + MAX_TURN_SECONDS, self.finished() + self.in_flight
        while (finished := self.finished()) < wanted and not self.worker.ended:
            if time.monotonic() >= end:
                return False
            await self.submit(self._outstanding - (self._submitted - finished - self.failed()))
            self._note_memory()
            await asyncio.sleep(TICK_SECONDS)
        return not self.worker.ended

    async def submit(self, count: int) -> None:
        if count > 0:
            payloads = [self.setup.payload(self.model) for _ in range(count)]
            await self._queue.submit_many("chat", payloads)
            self._submitted += count

    def finished(self) -> int:
        return int(self.setup.valkey.zcard(f"rq:finished:{QUEUE}"))

    def failed(self) -> int:
        return int(self.setup.valkey.zcard(f"rq:failed:{QUEUE}"))

    def _note_memory(self) -> None:
        """Note the memory, seldom enough that the look itself costs little: at 64 processes it takes 0.3 s."""
        started = time.monotonic()
        if started >= self._look_at:
            self._anon.append(self.worker.anonymous_megabytes())
            self._look_at = started + max(MEMORY_SECONDS, 50 * (time.monotonic() - started))

    def _counts(self) -> _Counts:
        return _Counts(
            time.monotonic(),
            self.finished(),
            self.worker.cpu_seconds(),
            self.setup.valkey_cpu_seconds(),
            time.process_time(),
            self.setup.provider.stats(),
        )

    async def sources(self) -> float:
        """Return the mean number of sources of the last answers: a claim that the check refused would have none."""
        ids: list[Any] = self.setup.valkey.zrange(f"rq:finished:{QUEUE}", -CHECKED_ANSWERS, -1)
        jobs = [await self._queue.fetch(job_id.decode()) for job_id in ids]
        results: list[dict[str, Any]] = [dict(job.result) for job in jobs if job.result]
        assert len(results) == len(ids), "a finished job has no result"
        assert not any(result["cached"] for result in results), "an answer came from the cache"
        if any(result["unsupported"] for result in results) or not all(result["sources"] for result in results):
            print("  the check of citations removed marks: the figures below cost less than an answer does")
        cited = [result["text"].count("[") for result in results]
        if cited and statistics.mean(cited) < 0.9 * SENTENCES[self.model]:
            print(f"  only {statistics.mean(cited):.1f} sentences of an answer are cited")
        return statistics.mean([len(result["sources"]) for result in results]) if results else 0.0

    def _row(self, before: _Counts, after: _Counts, sources: float) -> Row:
        answers = max(1, after.answers - before.answers)
        passed = after.at - before.at
        used, chunks = after.provider, max(1, after.provider.chunks - before.provider.chunks)
        return Row(
            model=self.model,
            in_flight=self.in_flight,
            answers_per_second=(after.answers - before.answers) / passed,
            worker_cpu_ms=1_000 * (after.worker - before.worker) / answers,
            valkey_cpu_ms=1_000 * (after.valkey - before.valkey) / answers,
            client_cpu_ms=1_000 * (after.client - before.client) / answers,
            provider_share=(used.cpu_seconds - before.provider.cpu_seconds) / passed,
            chunks_late_ms=(used.late_ms - before.provider.late_ms) / chunks,
            latest_ms=used.latest_ms,
            rss_anon=max(self._anon, default=0.0),
            rss_peak=self.worker.peak_megabytes(),
            failed=self.failed(),
            sources=sources,
        )


class CountedLoop(ClosedLoop):
    """The same for programs that bring their questions along, and count in COUNTS what they answered."""

    def finished(self) -> int:
        return self._count("answers")

    def failed(self) -> int:
        return self._count("failed")

    async def submit(self, count: int) -> None:
        pass

    async def sources(self) -> float:
        return self._count("sources") / max(1, self.finished())

    def _count(self, name: str) -> int:
        return int(self.setup.valkey.hget(COUNTS, name) or 0)
