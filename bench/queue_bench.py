"""The speed of the workers, all measured in one run: `make bench-queue`. Needs Linux, for /proc, and a C compiler.

First real questions: `main.py worker` answers questions about 1,000 chunks with hybrid search over embeddings of 1,536
dimensions, real Valkey, SQL and events. Only the provider is a stub (questions/provider.c), so cheap that it limits
nothing: "long" streams 300 tokens over 3 s, one a chunk, and cites 6 sentences; "short" streams 15 tokens after 1 s and
cites one. Every question is new, so no answer comes from the cache.

    real      answers/s, CPU and memory with 32 to 1,000 questions at once
    split     the CPU of an answer by part, in a worker whose stacks are looked at a thousand times a second
    latency   POST /chat to the result, and to the first token, through the API
    peers     the same questions under stock rq workers, under celery, and as a user's first LangChain function
    no-op     jobs that do nothing, under every queue; 32, 128: jobs that wait a second as for a model
    backlog   what a job costs while 10,000 others wait
    flood     how long a question waits while documents are indexed

Compare the rows of one run with each other, not with another machine's. "ideal" is the speed if only the provider took
time. CPU of an answer is the fairer figure on a busy machine. "late" is how long after its time the stub sent a chunk:
some ms mean that the machine is full. Peers live in a virtual environment of their own, .venv-bench.

    make bench-queue PARTS="real" BENCH_FLAGS="--in-flight 128 --seconds 10"
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from redis import Redis
from rq import Queue

from bench import flood, peers_venv
from bench.machine import RQ, Program, program, wait_for
from bench.questions import backlog, latency, peers, real, split
from bench.questions.provider import MODEL_SECONDS
from bench.questions.setup import open_setup
from client.rq.serializer import PlainSerializer
from client.valkey.embedded import EmbeddedValkey

RAGWORKER = [RQ, "worker", "-w", "bench.queue_worker.Worker", "--quiet", "bench"]
PEER_WORKERS = {
    "celery, threads": ("celery_app", ["celery", "-A", "celery_app", "worker", "-P", "threads", "-c", "{n}"]),
    "dramatiq": ("dramatiq_app", ["dramatiq", "dramatiq_app", "-p", "1", "-t", "{n}"]),
    "saq": ("saq_app", ["saq", "saq_app.settings"]),
    "arq": ("arq_app", ["arq", "arq_app.WorkerSettings"]),
    "taskiq": (
        "taskiq_app",
        ["taskiq", "worker", "taskiq_app:broker", "--workers", "1", "--max-async-tasks", "{n}"],
    ),
}
NO_OPS = 5_000
WAITS_EACH = 5
STOCK_SECONDS = 20.0
RUN_SECONDS = 180.0
REAL = {"real", "split", "latency", "peers", "backlog"}
PARTS = ["real", "split", "latency", "peers", "no-op", "backlog", "32", "128", "flood"]


class Bench:
    """One Valkey, and rows of figures."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.valkey = Redis.from_url(url)
        self.rows: dict[tuple[str, str], dict[str, float]] = {}

    def no_op(self) -> None:
        _title("jobs that do nothing, 32 at once")
        for name in PEER_WORKERS:
            self.peer(name, total=NO_OPS, at_once=32, seconds=0.0, table="no-op")
        self.rag_worker(total=NO_OPS, at_once=32, seconds=0.0, table="no-op")
        self.stock("stock rq worker x1", 1, "bench.queue_jobs.job", [], table="no-op")
        self.stock("stock rq worker x32", 32, "bench.queue_jobs.job", [], table="no-op")

    def waits(self, at_once: int) -> None:
        table = f"1 s, {at_once} at once"
        _title(f"jobs that wait 1 s as for a model, {at_once} at once (ideal {at_once} jobs/s)")
        for name in PEER_WORKERS:
            self.peer(name, total=WAITS_EACH * at_once, at_once=at_once, seconds=1.0, table=table)
        self.rag_worker(total=WAITS_EACH * at_once, at_once=at_once, seconds=1.0, table=table)
        if at_once == 32:
            self.stock("stock rq worker x32", 32, "bench.queue_jobs.job", [], seconds=1.0, table=table)

    def rag_worker(
        self,
        *,
        total: int,
        at_once: int,
        table: str,
        seconds: float = 0.0,
        function: str = "bench.queue_jobs.job",
        arguments: list[Any] | None = None,
        **options: Any,
    ) -> None:
        """Measure one RagWorker process."""
        self.enqueue(function, arguments or [], total)
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        environment = self.environment(total, at_once, seconds) | {"WORKER_CONCURRENCY": str(at_once)} | options
        with program([*RAGWORKER, "--url", self.url], environment, log=self.folder / "ragworker.log") as (worker,):
            self.note(f"RagWorker, {at_once} at once", table, result, worker)
            wait_for(lambda: self.valkey.zcard("rq:finished:bench") == total, seconds=10)
        finished = self.valkey.zcard("rq:finished:bench")
        assert finished == total, f"the registry holds {finished} of {total} jobs"
        assert self.valkey.zcard("rq:wip:bench") == 0

    def peer(self, name: str, *, total: int, at_once: int, seconds: float, table: str) -> None:
        """Measure one worker process of a peer."""
        module, command = PEER_WORKERS[name]
        self.valkey.flushall()
        environment = self.environment(total, at_once, seconds)
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        python = str(peers_venv.folder(module) / "bin" / "python")
        subprocess.run([python, f"{module}.py", str(total)], cwd=peers_venv.PEERS, env=environment, check=True)
        command = [part.format(n=at_once) for part in command]
        command[0] = str(peers_venv.folder(module) / "bin" / command[0])
        with program(command, environment, log=self.folder / f"{module}.log", cwd=peers_venv.PEERS) as (worker,):
            self.note(f"{name}, {at_once} at once", table, result, worker)

    def stock(
        self,
        name: str,
        copies: int,
        function: str,
        arguments: list[Any],
        *,
        table: str,
        seconds: float = 0.0,
        config: list[str] | None = None,
        **options: Any,
    ) -> None:
        """Measure stock workers from the end of their first job, with more jobs than they can run."""
        self.enqueue(function, arguments, 10_000)
        environment = self.environment(10**9, 1, seconds) | options
        command = [RQ, "worker", *(config or []), "--quiet", "--url", self.url, "bench"]
        log = self.folder / "stock.log"
        with program(command, environment, log=log, copies=copies) as workers:
            wait_for(lambda: self.valkey.zcard("rq:finished:bench") >= copies, seconds=RUN_SECONDS)
            done, began = int(self.valkey.zcard("rq:finished:bench")), time.monotonic()
            cpu = sum(worker.cpu_seconds() for worker in workers)
            time.sleep(STOCK_SECONDS)
            jobs, passed = int(self.valkey.zcard("rq:finished:bench")) - done, time.monotonic() - began
            report = {
                "jobs_per_second": jobs / passed,
                "cpu_ms": 1000 * (sum(worker.cpu_seconds() for worker in workers) - cpu) / max(1, jobs),
                "megabytes": sum(worker.megabytes() for worker in workers),
            }
        self.show(name, table, report)

    def enqueue(self, function: str, arguments: list[Any], total: int) -> None:
        """Put jobs on an empty server."""
        self.valkey.flushall()
        queue = Queue("bench", connection=self.valkey, serializer=PlainSerializer)
        prepared = [
            Queue.prepare_data(function, tuple(arguments), timeout=180, result_ttl=600, description="job")
            for _ in range(total)
        ]
        for start in range(0, total, 1_000):
            queue.enqueue_many(prepared[start : start + 1_000])

    def environment(self, total: int, at_once: int, seconds: float) -> dict[str, str]:
        return os.environ | {
            "BENCH_TOTAL": str(total),
            "BENCH_SECONDS": str(seconds),
            "BENCH_CONCURRENCY": str(at_once),
            "BENCH_RESULT": str(self.folder / "result.json"),
            "BENCH_URL": self.url,
            "PYTHONWARNINGS": "ignore",
        }

    def note(self, name: str, table: str, result: Path, worker: Program) -> None:
        """Wait for the measurements of the jobs, and add the memory."""
        if not wait_for(lambda: result.exists() or worker.process.poll() is not None, seconds=RUN_SECONDS):
            print(f"  {name:32} did not end in {RUN_SECONDS:.0f} s")
            return
        if not result.exists():
            print(f"  {name:32} ended by itself: see its log in {self.folder}")
            return
        report = json.loads(result.read_text())
        report["megabytes"] = worker.megabytes()
        self.show(name, table, report)

    def show(self, name: str, table: str, report: dict[str, float]) -> None:
        self.rows[table, name] = report
        speed, cpu, memory = report["jobs_per_second"], report["cpu_ms"], report["megabytes"]
        print(f"  {name:32} {speed:10.1f} jobs/s {cpu:10.2f} CPU ms a job {memory:8.0f} MB", flush=True)

    def verdicts(self) -> None:
        """Print the ratios that matter."""
        _title("ratios")
        best = max((row["jobs_per_second"] for (t, n), row in self.rows.items() if t == "no-op" and "Rag" not in n))
        ours = self.rows["no-op", "RagWorker, 32 at once"]
        print(f"  no-op: RagWorker over the best peer: {ours['jobs_per_second'] / best:.2f}")
        print(f"  no-op: CPU of the queue: {ours['cpu_ms']:.2f} ms a job")


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)


def main() -> None:
    """Run the parts named on the command line, or all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the programs that were started, too
    options = _options()
    parts = options.only
    if {"no-op", "32", "128"} & set(parts):
        peers_venv.make()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if REAL & set(parts):
            with open_setup(folder) as setup:
                if "real" in parts:
                    real.run(setup, options.models, options.in_flight, options.seconds)
                for part, module in (("split", split), ("latency", latency), ("peers", peers), ("backlog", backlog)):
                    if part in parts:
                        module.run(setup, options.seconds)
        if {"no-op", "32", "128"} & set(parts):
            _queues(parts, folder)
        if "flood" in parts:
            flood.main()


def _queues(parts: list[str], folder: Path) -> None:
    """Measure the queues alone."""
    valkey = EmbeddedValkey(folder / "queues-valkey")  # the setup keeps its own in folder / "valkey"
    valkey.start()
    try:
        bench = Bench(valkey.url, folder)
        if "no-op" in parts:
            bench.no_op()
        for at_once in (32, 128):
            if str(at_once) in parts:
                bench.waits(at_once)
        if "no-op" in parts:
            bench.verdicts()
    finally:
        valkey.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.queue_bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--models", nargs="+", default=["long", "short"], choices=sorted(MODEL_SECONDS))
    parser.add_argument("--in-flight", nargs="+", type=int, default=[32, 128, 300, 1_000], metavar="N")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, after it is steady")
    return parser.parse_args()


if __name__ == "__main__":
    main()
