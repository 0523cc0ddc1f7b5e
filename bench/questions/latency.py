"""How long one user waits, through the real API: for a result when the model takes no time, and for the first token."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import httpx

from bench.http_load import Connection
from bench.questions.provider import EMBED_MS
from bench.questions.setup import Setup
from bench.service import service

AT_ONCE = 128
ANSWERS = 60
WARM_UP = 20
RATE = 50.0
TOKENS = 25
NOT_YET = {httpx.codes.ACCEPTED, httpx.codes.SERVICE_UNAVAILABLE}
# A client that an overloaded API refuses asks again after this time.
REFUSED_SECONDS = 0.5
PROMPT = '<source n="1">\n\nFirst. The mill was built in 1741 by Agnes of Fenbrook. Last.\n</source>'


def run(setup: Setup, seconds: float) -> None:
    """Print the times."""
    with setup.worker(AT_ONCE), service("api", setup.folder / "api.log", setup.environment()) as client:
        base = str(client.base_url)
        setup.provider.set_embed_ms(0)
        idle = asyncio.run(_one_by_one(setup, base))
        busy, rate = asyncio.run(_at_a_rate(setup, base, seconds))
        setup.provider.set_embed_ms(EMBED_MS)
        ours = asyncio.run(_first_tokens(setup, base))
        theirs = asyncio.run(_first_tokens_of_provider(setup.provider.url))
    print("\nfrom POST /chat to the result through the API, a provider without delay, ms")
    _print("idle", idle)
    _print(f"{RATE:.0f} questions/s", busy, f"{rate:.1f} answers/s")
    print("\nfrom the question to the first token, ms; the provider embeds in 50 and writes after 10")
    _print("the provider's own", theirs)
    more = 1_000 * (statistics.median(ours) - statistics.median(theirs))
    _print("through the queue", ours, f"{more:+.0f} ms")


def _print(name: str, seconds: list[float], more: str = "") -> None:
    if not seconds:
        print(f"  {name:<24} no answer")
        return
    p95 = statistics.quantiles(seconds, n=20)[-1]
    print(
        f"  {name:<24} median {1_000 * statistics.median(seconds):7.1f}   p95 {1_000 * p95:7.1f}   {more}", flush=True
    )


async def _one_by_one(setup: Setup, base: str) -> list[float]:
    connection = await Connection.open(base)
    took = [await _answer(setup, connection) for _ in range(WARM_UP + ANSWERS)]
    connection.close()
    return took[WARM_UP:]


async def _at_a_rate(setup: Setup, base: str, seconds: float) -> tuple[list[float], float]:
    """Ask RATE questions a second, however slowly they are answered; return the times, and the answers a second."""
    idle: list[Connection] = []
    began = time.monotonic()

    async def one(number: int) -> float:
        due = began + number / RATE
        await asyncio.sleep(due - time.monotonic())
        connection = idle.pop() if idle else await Connection.open(base)
        await _answer(setup, connection)
        idle.append(connection)
        return time.monotonic() - due

    took = await asyncio.gather(*(one(number) for number in range(int(RATE * seconds))))
    passed = time.monotonic() - began
    for connection in idle:
        connection.close()
    return took, len(took) / passed


async def _answer(setup: Setup, connection: Connection) -> float:
    """Ask, wait for the result, and return the seconds."""
    started = time.monotonic()
    job_id = await _ask(setup, connection, "zero")
    status, result = await connection.call("GET", f"/result/{job_id}?wait=60")
    while status in NOT_YET:
        await asyncio.sleep(REFUSED_SECONDS if status == httpx.codes.SERVICE_UNAVAILABLE else 0)
        status, result = await connection.call("GET", f"/result/{job_id}?wait=60")
    if status != httpx.codes.OK or json.loads(result)["status"] != "completed":
        raise RuntimeError(f"a question ended with {status}: {result[:500]!r}")
    return time.monotonic() - started


async def _ask(setup: Setup, connection: Connection, model: str) -> str:
    body = json.dumps({"query": next(setup.questions), "model": model}).encode()
    status, accepted = await connection.call("POST", "/chat", body)
    while status == httpx.codes.SERVICE_UNAVAILABLE:
        await asyncio.sleep(REFUSED_SECONDS)
        status, accepted = await connection.call("POST", "/chat", body)
    if status != httpx.codes.ACCEPTED:
        raise RuntimeError(f"POST /chat: {status} {accepted[:500]!r}")
    return str(json.loads(accepted)["job_id"])


async def _first_tokens(setup: Setup, base: str) -> list[float]:
    took = []
    for _ in range(TOKENS):
        connection = await Connection.open(base)
        started = time.monotonic()
        job_id = await _ask(setup, connection, "long")
        await connection.send("GET", f"/jobs/{job_id}/events")
        await connection.until(b"event: token")
        took.append(time.monotonic() - started)
        await connection.until(b"event: finished")
        connection.close()
    return took[2:]


async def _first_tokens_of_provider(url: str) -> list[float]:
    """Embed a question and ask the model, over a connection that stands."""
    question = {"model": "m", "input": ["How old is the mill?"], "encoding_format": "base64"}
    chat = {"model": "long", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}
    connection, took = await Connection.open(url), []
    for _ in range(TOKENS):
        started = time.monotonic()
        await connection.call("POST", "/v1/embeddings", json.dumps(question).encode())
        await connection.send("POST", "/v1/chat/completions", json.dumps(chat).encode())
        await connection.until(b'"refusal":null')
        await connection.until(b'"content":"')
        took.append(time.monotonic() - started)
        await connection.until(b"[DONE]\n\n\r\n0\r\n\r\n")
    connection.close()
    return took[2:]
