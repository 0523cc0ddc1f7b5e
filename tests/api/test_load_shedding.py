"""An API that cannot keep up refuses new requests at once, and goes on with those it has accepted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx
from starlette.types import Message, Receive, Scope, Send

from api.middleware.load_shedding import ALWAYS_ANSWERED, TICK_SECONDS, LoadShedding
from bench.http_load import Connection
from client.valkey.embedded import EmbeddedValkey
from tests.api.test_outages import hung
from tests.support.processes import PYTHON, free_port, running, wait_until
from tests.support.virtual_clock import keep_busy, run_in_virtual_time

CLIENTS = 1_000


class SlowApp:
    """An app whose requests end when they are let go, behind the middleware."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self._shedding = LoadShedding(self._app, max_step_seconds=1.0)

    async def _app(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def call(self, path: str = "/chat") -> Message:
        """Return the start of the response."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        await self._shedding(scope, receive, send)
        return sent[0]


async def slow_step(seconds: float) -> None:
    keep_busy(seconds)
    await asyncio.sleep(TICK_SECONDS / 2)


def test_requests_are_refused_while_the_loop_is_slow() -> None:
    async def scenario() -> None:
        app = SlowApp()
        accepted = [asyncio.ensure_future(app.call())]
        await asyncio.sleep(TICK_SECONDS / 2)
        await slow_step(3.0)
        accepted.append(asyncio.ensure_future(app.call()))  # one slow step: the process may have been stopped
        await slow_step(3.0)
        refused = await app.call()
        assert refused["status"] == 503
        assert dict(refused["headers"])[b"retry-after"] == b"2"
        accepted.append(asyncio.ensure_future(app.call(ALWAYS_ANSWERED)))
        await slow_step(0.5)
        accepted.append(asyncio.ensure_future(app.call()))
        await asyncio.sleep(0)
        assert not any(task.done() for task in accepted)
        app.go_on.set()
        assert [(await task)["status"] for task in accepted] == [200] * len(accepted)

    run_in_virtual_time(scenario())


def test_a_thousand_clients_of_a_hung_valkey_are_refused_and_served_when_it_goes_on(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    assert server.start()
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port, "VALKEY_URL": server.url}
    base_url = f"http://127.0.0.1:{port}"
    statuses: Counter[int] = Counter()
    slowest = 0.0

    async def ask(number: int) -> None:
        nonlocal slowest
        connection = await Connection.open(base_url)
        began = time.monotonic()
        statuses[(await connection.call("POST", f"/chat?query=q{number}"))[0]] += 1
        slowest = max(slowest, time.monotonic() - began)
        connection.close()

    async def ask_all(clients: int) -> None:
        await asyncio.gather(*(ask(number) for number in range(clients)))

    try:
        with running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as api:
            wait_until(lambda: "running on" in api.output, seconds=40, what=lambda: api.output)
            assert httpx.post(f"{base_url}/chat?query=q", timeout=20).status_code == 202
            with hung(server):
                asyncio.run(ask_all(CLIENTS))
                assert statuses == {503: CLIENTS}
                assert slowest < 20  # 2.7 s at a load average of 10 on two cores
                assert httpx.get(f"{base_url}/health", timeout=20).status_code == 200
            statuses.clear()
            asyncio.run(ask_all(CLIENTS // 10))
            assert statuses == {202: CLIENTS // 10}
    finally:
        server.stop()
