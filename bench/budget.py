"""`make bench-budget`: what one question costs each part, and what many questions a second need of it.

`main.py api` and one `main.py worker` answer questions about 1,000 chunks with a Valkey that syncs each write, a
PostgreSQL, the embedded engine behind Qdrant's REST interface, and the provider stub of `make bench-queue`: "long"
streams 300 tokens over 3 s and cites 6 sentences, "short" streams 15 after 1 s and cites one. Clients wait for the
result with `?wait=60`, or read the events of the job. What the parts do without questions is measured first and taken
off. Needs Linux, a C compiler and PostgreSQL with pg_stat_statements.

The last table is arithmetic on the figures of "long, with events": what a rate of questions needs if no core is more
than 70 % busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from bench.http_load import Connection
from bench.machine import ROOT, Program, program, wait_for
from bench.questions import corpus
from bench.questions.provider import provider
from bench.service import offline_environment, temporary_folder
from client.valkey.embedded import EmbeddedValkey
from tests.support.openai_stub import serving
from tests.support.processes import free_port
from tests.support.qdrant_server import make_server
from tests.support.servers import postgres

START_SECONDS = 240.0
IDLE_SECONDS = 20.0
WARM_UP = 40
BUSY = 0.7  # of a core
RATES = (10, 1_000, 100_000)
RETENTION_SECONDS = 86_400
SHOWN = 12


class Counted:
    """An ASGI app that counts its requests by their last part, with their bytes."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.requests: Counter[str] = Counter()
        self.bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        async def counted_receive() -> Any:
            message = await receive()
            self.bytes += len(message.get("body", b""))
            return message

        async def counted_send(message: Any) -> None:
            self.bytes += len(message.get("body", b""))
            await send(message)

        if scope["type"] == "http":
            self.requests[f"{scope['method']} …/{scope['path'].rpartition('/')[2]}"] += 1
            await self._app(scope, counted_receive, counted_send)
        else:
            await self._app(scope, receive, send)


@dataclass
class Parts:
    """The running parts, and what they have used so far."""

    folder: Path
    valkey: Redis
    database: str
    qdrant: Counted
    api_url: str = ""
    programs: dict[str, Program] = field(default_factory=dict)

    def used(self) -> dict[str, float]:
        """Return every count since the start; 0 for others. Keys have the part before the first dot."""
        info, found = self.valkey.info("everything"), defaultdict[str, float](float)
        for name in ("total_net_input_bytes", "total_net_output_bytes", "used_memory", "aof_current_size"):
            found[f"valkey.{name}"] = info[name]
        found["valkey.cpu ms"] = 1_000 * (info["used_cpu_user"] + info["used_cpu_sys"])
        for name, numbers in info.items():
            if name.startswith("cmdstat_"):
                found[f"command.{name.removeprefix('cmdstat_')}"] = numbers["calls"]
        with psycopg.connect(self.database) as connection:
            for query, calls in connection.execute("SELECT query, calls FROM pg_stat_statements"):
                found["sql." + " ".join(query.split())[:100]] += calls
        for name, count in self.qdrant.requests.items():
            found[f"qdrant.{name}"] = count
        found["bytes.qdrant"] = self.qdrant.bytes
        for name, running in self.programs.items():
            found[f"cpu.{name} ms"] = 1_000 * running.cpu_seconds()
        return found


@contextmanager
def parts() -> Iterator[tuple[Parts, Iterator[str]]]:
    """Index the corpus and start all parts; yield them with questions about it."""
    with temporary_folder() as folder, ExitStack() as stack:
        texts = corpus.make_corpus()
        corpus.write_pdfs(texts, folder / "corpus")
        server = EmbeddedValkey(folder / "valkey")
        server.start()
        stack.callback(server.stop)
        valkey = stack.enter_context(Redis.from_url(server.url))
        database = stack.enter_context(postgres(shared_preload_libraries="pg_stat_statements"))
        with psycopg.connect(database) as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        counted = Counted(make_server(folder / "qdrant"))
        port = free_port()
        environment = offline_environment(
            folder / "data",
            VALKEY_URL=server.url,
            DATABASE_URL=database,
            QDRANT_URL=stack.enter_context(serving(counted)),
            OPENAI_BASE_URL=stack.enter_context(provider()).url,
            OPENAI_API_KEY="not-needed",
            CHAT_MODEL="long",
            CHAT_MODELS="short,zero",
            WORKER_CONCURRENCY="128",
            PORT=str(port),
        )
        index = [sys.executable, "index.py", str(folder / "corpus")]
        subprocess.run(index, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        running = Parts(folder, valkey, database, counted, f"http://127.0.0.1:{port}")
        for part in ("api", "worker"):
            command, log = [sys.executable, "main.py", part], folder / f"{part}.log"
            (running.programs[part],) = stack.enter_context(program(command, environment, log=log))
        if not wait_for(lambda: valkey.scard("rq:workers:rag_queries"), seconds=START_SECONDS):
            raise SystemExit(f"the worker did not start:\n{(folder / 'worker.log').read_text()[-2_000:]}")
        yield running, corpus.questions(texts)


async def answer(running: Parts, questions: Iterator[str], model: str, *, events: bool) -> None:
    """Ask one question and read its answer."""
    connection = await Connection.open(running.api_url)
    body = json.dumps({"query": next(questions), "model": model}).encode()
    status, accepted = await connection.call("POST", "/chat", body)
    if status != 202:
        raise RuntimeError(f"POST /chat: {status} {accepted[:500]!r}")
    job = json.loads(accepted)["job_id"]
    if events:
        await connection.send("GET", f"/jobs/{job}/events")
        await connection.until(b"event: finished")
        connection.close()
        connection = await Connection.open(running.api_url)
    status, result = await connection.call("GET", f"/result/{job}?wait=60")
    connection.close()
    if status != 200 or json.loads(result)["status"] != "completed":
        raise RuntimeError(f"{job} ended with {status}: {result[:500]!r}")


async def ask(running: Parts, questions: Iterator[str], model: str, *, count: int, rate: float, events: bool) -> None:
    """Ask questions at a steady rate, and read every answer."""
    began = time.monotonic()

    async def one(number: int) -> None:
        await asyncio.sleep(began + number / rate - time.monotonic())
        await answer(running, questions, model, events=events)

    await asyncio.gather(*(one(number) for number in range(count)))


def measure(
    running: Parts, questions: Iterator[str], model: str, *, count: int, rate: float, events: bool
) -> dict[str, float]:
    """Return what one question costs, without what the parts do anyway."""
    asyncio.run(ask(running, questions, model, count=WARM_UP, rate=rate, events=events))
    time.sleep(2)
    before, began = running.used(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    after = running.used()
    idle = {name: (after[name] - before[name]) / (time.monotonic() - began) for name in after}
    before, began = running.used(), time.monotonic()
    asyncio.run(ask(running, questions, model, count=count, rate=rate, events=events))
    time.sleep(2)  # the last answers are still put away
    after, passed = running.used(), time.monotonic() - began
    cost = {name: (after[name] - before[name] - passed * idle.get(name, 0.0)) / count for name in after}
    return defaultdict(float, {name: number for name, number in cost.items() if number >= 0.005})


def show(title: str, cost: dict[str, float]) -> None:
    print(f"\n{title}: of one question")
    commands = total(cost, "command.")
    asked = cost["valkey.total_net_input_bytes"], cost["valkey.total_net_output_bytes"]
    print(
        f"  Valkey     {cost['valkey.cpu ms']:.2f} ms of CPU, {commands:.0f} commands with those of scripts, "
        f"{asked[0] / 1e3:.1f} kB in, {asked[1] / 1e3:.1f} kB out, {cost['valkey.used_memory'] / 1e3:.1f} kB kept, "
        f"{cost['valkey.aof_current_size'] / 1e3:.1f} kB of append-only file"
    )
    print(f"  SQL        {total(cost, 'sql.'):.2f} statements")
    print(f"  Qdrant     {total(cost, 'qdrant.'):.2f} requests, {cost['bytes.qdrant'] / 1e3:.1f} kB")
    print(f"  API        {cost['cpu.api ms']:.1f} ms of CPU")
    print(f"  worker     {cost['cpu.worker ms']:.1f} ms of CPU", flush=True)
    for part in ("command.", "sql.", "qdrant."):
        named = [(n, name.removeprefix(part)) for name, n in cost.items() if name.startswith(part)]
        print("    " + ", ".join(f"{name} {n:.2f}" for n, name in sorted(named, reverse=True)[:SHOWN]))


def total(cost: dict[str, float], part: str) -> float:
    return sum(number for name, number in cost.items() if name.startswith(part))


def needs(cost: dict[str, float]) -> None:
    """Print what rates of questions need of each part."""
    print("\nquestions/s   API cores   worker cores   Valkey cores   memory of 24 h        AOF/s   SQL/s   Qdrant/s")
    for rate in RATES:
        cores = [rate * cost[name] / 1_000 / BUSY for name in ("cpu.api ms", "cpu.worker ms", "valkey.cpu ms")]
        api, worker, valkey = (math.ceil(number) if number > 1 else round(number, 2) for number in cores)
        memory = rate * RETENTION_SECONDS * cost["valkey.used_memory"] / 1e9
        written = rate * cost["valkey.aof_current_size"] / 1e6
        sql, qdrant = rate * total(cost, "sql."), rate * total(cost, "qdrant.")
        print(
            f"{rate:11,}{api:12,}{worker:15,}{valkey:15,}{memory:14,.1f} GB{written:7,.1f} MB{sql:8,.0f}{qdrant:11,.0f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description="What one question costs each part.")
    parser.add_argument("--questions", type=int, default=400, help="questions of each measurement (400)")
    parser.add_argument("--rate", type=float, default=15.0, help="questions a second (15)")
    chosen = parser.parse_args()
    with parts() as (running, questions):
        for model, events in (("short", False), ("long", False), ("long", True)):
            use = {"count": chosen.questions, "rate": chosen.rate, "events": events}
            cost = measure(running, questions, model, **use)
            show(f"{model}, with {'events' if events else '?wait=60'}", cost)
    needs(cost)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
