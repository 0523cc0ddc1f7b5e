"""Kill everything at random and count what is lost: `make chaos`. Needs Linux or macOS.

Questions go in over HTTP while workers, the API and valkey-server are killed with SIGKILL, in an order and at times
that a seed gives, so that a run can be replayed: `make chaos CHAOS_FLAGS="--seed 7"`. Every question is sent until
it is acknowledged, with an Idempotency-Key, and followed to its end.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.machine import Program, program
from client.valkey.embedded import EmbeddedValkey

RQ = str(Path(sys.executable).with_name("rq"))
MAX_WAIT_SECONDS = 90.0
MAX_RECOVERY_SECONDS = 15.0


@dataclass
class Plan:
    """The load of a run and the rates of its kills. Times in seconds."""

    seed: int
    jobs: int = 1_200
    seconds: float = 75.0
    workers: int = 3
    quick: bool = False
    at_once: int = 8


@dataclass
class Report:
    """The counts of a run. `recoveries`: seconds from the last kill that could matter until the job ran again."""

    acknowledged: int = 0
    terminal: int = 0
    finished: int = 0
    lost: list[str] = field(default_factory=list)
    run_twice: int = 0
    conflicting: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def slowest_recovery(self) -> float:
        return max(self.recoveries, default=0.0)

    @property
    def good(self) -> bool:
        """True if no promise was broken."""
        return not self.lost and not self.conflicting and self.slowest_recovery <= MAX_RECOVERY_SECONDS


class Chaos:
    """One run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._folder = folder
        self._runs = folder / "runs.log"
        self._runs.touch()
        self._port = _free_port()
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=5)
        self._valkey = EmbeddedValkey(folder / "valkey")
        # The time and the process id of each kill; for Valkey the time when it was back, and 0.
        self._kills: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._results: dict[str, object] = {}
        self._lock = threading.Lock()
        self.report = Report()

    def run(self) -> Report:
        """Start everything, kill at random while questions come in, wait for the end, and count."""
        self._valkey.start()
        try:
            with ExitStack() as stack:
                started = [stack.enter_context(self._restartable(f"worker {n}")) for n in range(self._plan.workers)]
                started.append(stack.enter_context(self._restartable("api")))
                with ThreadPoolExecutor(16) as pool:
                    killer = pool.submit(self._kill_at_random, started)
                    asked = list(pool.map(self._ask, range(self._plan.jobs)))
                    killer.result()
                    self._follow(asked)
                self._count(asked)
        finally:
            self._over.set()
            self._http.close()
            self._valkey.stop()
        return self.report

    @contextmanager
    def _restartable(self, name: str) -> Iterator[_Restartable]:
        environment = os.environ | {
            "VALKEY_URL": self._valkey.url,
            "DATA_DIR": str(self._folder),
            "PORT": str(self._port),
            "HOST": "127.0.0.1",
            "WORKER_CONCURRENCY": str(self._plan.at_once),
            "OPENAI_BASE_URL": "",
            "OPENAI_API_KEY": "",
            "LOG_LEVEL": "WARNING",
            "CHAOS_RUNS": str(self._runs),
            "CHAOS_QUICK": "1" if self._plan.quick else "",
        }
        worker = [RQ, "worker", "-w", "bench.chaos_jobs.Worker", "--quiet", "--url", self._valkey.url, "rag_queries"]
        command = [sys.executable, "main.py", "api"] if name == "api" else worker
        restartable = _Restartable(name, command, environment, self._folder / f"{name}.log")
        restartable.start()
        try:
            yield restartable
        finally:
            restartable.stop()

    def _kill_at_random(self, targets: list[_Restartable]) -> None:
        """Kill one thing after another, and start it again a moment later."""
        self._wait_for_api()
        scale = 0.25 if self._plan.quick else 1.0
        # A busy machine may otherwise kill every worker while it starts, and no job would have to be recovered.
        self._kill(self._worker_with_a_job(targets[:-1]), scale * self._random.uniform(0.1, 2.0))
        self.report.kills["worker"] += 1
        ends = time.monotonic() + self._plan.seconds
        while time.monotonic() < ends:
            time.sleep(scale * self._random.uniform(0.5, 5.0))
            pause = scale * self._random.uniform(0.1, 2.0)
            target = self._random.choices(["valkey", "worker", "api"], [1, 4, 1])[0]
            self.report.kills[target] += 1
            if target == "valkey":
                self._kill_valkey(pause)
                continue
            process = targets[-1] if target == "api" else self._random.choice(targets[:-1])
            self._kill(process, pause)

    def _kill(self, process: _Restartable, pause: float) -> None:
        self._kills.append((time.time(), process.kill()))
        time.sleep(pause)
        process.start()

    def _worker_with_a_job(self, workers: list[_Restartable]) -> _Restartable:
        """Wait until a worker runs a job, and return the worker."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while time.monotonic() < deadline:
            lines = [line.split() for line in self._runs.read_text().splitlines()]
            ended = {(job_id, pid) for what, job_id, pid, _ in lines if what != "begun"}
            busy = {int(pid) for what, job_id, pid, _ in lines if what == "begun" and (job_id, pid) not in ended}
            for worker in workers:
                if worker.pid in busy:
                    return worker
            time.sleep(0.02)
        raise RuntimeError("no worker ran a job")

    def _kill_valkey(self, pause: float) -> None:
        process = self._valkey._process  # noqa: SLF001
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(pause)
        self._valkey.ensure_running()
        self._kills.append((time.time(), 0))

    def _wait_for_api(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                self._http.get("/health")
                return
            time.sleep(0.1)
        raise RuntimeError("the API did not start")

    def _ask(self, number: int) -> str:
        """Send a question until it is acknowledged, then read its state from time to time."""
        begins = self._plan.seconds * number / self._plan.jobs
        self._over.wait(max(0.0, begins - (time.monotonic() - _START)))
        while True:
            try:
                answer = self._http.post(
                    "/chat",
                    json={"query": f"When was lighthouse number {number} built?"},
                    headers={"Idempotency-Key": f"question-{number}"},
                )
                if answer.status_code == 202:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        job_id = str(answer.json()["job_id"])
        self._check_result(job_id)
        return job_id

    def _check_result(self, job_id: str) -> bool:
        """Read a job's result and return True once the job has ended. Counts an ended job whose result has changed."""
        try:
            answer = self._http.get(f"/result/{job_id}")
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            if answer.status_code != 503 and job_id in self._results:
                self.report.conflicting.append(job_id)
            return False
        with self._lock:
            first = self._results.setdefault(job_id, answer.json())
        if first != answer.json():
            self.report.conflicting.append(job_id)
        return True

    def _follow(self, asked: list[str]) -> None:
        """Wait until every job has ended, then read each result once more."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        open_jobs = list(asked)
        while open_jobs and time.monotonic() < deadline:
            open_jobs = [job_id for job_id in open_jobs if not self._check_result(job_id)]
            time.sleep(0.2)
        for job_id in asked:
            self._check_result(job_id)

    def _count(self, asked: list[str]) -> None:
        report = self.report
        report.acknowledged = len(set(asked))
        report.terminal = len(self._results)
        report.finished = sum(1 for result in self._results.values() if "completed" in str(result))
        report.lost = [job_id for job_id in asked if job_id not in self._results]
        runs: dict[str, list[tuple[float, int]]] = {}
        ended: Counter[str] = Counter()
        for line in self._runs.read_text().splitlines():
            what, job_id, pid, moment = line.split()
            if what == "begun":
                runs.setdefault(job_id, []).append((float(moment), int(pid)))
            else:
                ended[job_id] += 1
        report.run_twice = sum(1 for count in ended.values() if count > 1)
        for begun in runs.values():
            report.recoveries += [
                later - self._last_kill(begin, later, pid) for (begin, pid), (later, _) in itertools.pairwise(begun)
            ]

    def _last_kill(self, begin: float, later: float, pid: int) -> float:
        """Return when the worker of a run was killed, or Valkey was back after that, before the job ran again."""
        return max((when for when, which in self._kills if begin <= when <= later and which in {pid, 0}), default=begin)


class _Restartable:
    """A process that can be killed and started again."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._stack = ExitStack()
        self._program: Program | None = None

    def start(self) -> None:
        if self._program is None:
            (self._program,) = self._stack.enter_context(program(self._command, self._environment, log=self._log))

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._program is not None
        return self._program.process.pid

    def kill(self) -> int:
        """Kill the process and return its id."""
        pid = self.pid
        self.stop()
        return pid

    def stop(self) -> None:
        self._stack.close()
        self._program = None


_START = time.monotonic()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def run(plan: Plan) -> Report:
    """Run a plan in a folder of its own."""
    global _START
    _START = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return Chaos(plan, Path(folder)).run()


def main() -> int:
    """Run with the seed of the command line and print the counts. Fails when a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--jobs", type=int, default=Plan.jobs)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.jobs} questions in {options.seconds:.0f} s", flush=True)
    report = run(Plan(seed=options.seed, jobs=options.jobs, seconds=options.seconds))
    print(f"killed with SIGKILL    {dict(report.kills)}")
    print(f"acknowledged           {report.acknowledged}")
    print(f"terminal               {report.terminal} ({report.finished} finished)")
    print(f"lost                   {len(report.lost)}")
    print(f"ran to the end twice   {report.run_twice}")
    print(f"conflicting results    {len(report.conflicting)}")
    print(f"jobs recovered         {len(report.recoveries)}, slowest {report.slowest_recovery:.1f} s")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
