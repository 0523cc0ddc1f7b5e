"""HTTP to the provider from coroutines: the pace of reading, connections, proxies, certificates, and the job's end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from client.llm import http
from client.llm.deadline import Deadline, apply_deadline
from client.llm.failures import CallFailure, NoConnection, StatusFailure
from client.llm.http import MANY_STREAMS, PACE_SECONDS, Endpoint, close_session
from errors import JobCancelled, JobStopped, JobTimedOut
from tests.support.models import run
from tests.support.openai_stub import serving
from tests.support.sockets import serving_sockets
from tests.support.tls import make_certificates, tls_in_front
from tests.support.virtual_clock import run_in_virtual_time


class Response:
    """A response whose data comes at given times, and which shows when the socket was left alone."""

    def __init__(self, times: list[float]) -> None:
        self.content = self.transport = self
        self.times = times
        self.reads: list[tuple[float, int]] = []
        self.reading = True

    @property
    def connection(self) -> Response | None:
        return self if self.times else None  # the end comes with the last data

    async def readany(self) -> bytes:
        now = asyncio.get_running_loop().time
        assert self.reading
        if self.times:
            await asyncio.sleep(max(0.0, self.times[0] - now()))
        come = [time for time in self.times if time <= now()]
        self.times = self.times[len(come) :]
        self.reads.append((now(), len(come)))
        return b"x" * len(come)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def read(times: list[float]) -> list[tuple[float, int]]:
    """Read a stream whose data comes at these times. Returns the time of each read and how much it brought."""
    response = Response(list(times))
    run_in_virtual_time(http._read_paced(cast("aiohttp.ClientResponse", response), lambda _data: False))
    return response.reads


def test_a_long_stream_is_read_at_the_pace_of_the_events() -> None:
    times = [n / 100 for n in range(300)]
    reads = read(times)
    assert len(reads) <= 3 / PACE_SECONDS + 8
    assert sum(count for _, count in reads) == 300
    assert reads[0] == (0.0, 1)
    assert reads[-1][0] <= times[-1] + PACE_SECONDS + 1e-6


def test_among_many_streams_each_is_read_half_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_streams", set(range(MANY_STREAMS + 1)))
    times = [n / 100 for n in range(300)]
    reads = read(times)
    assert len(reads) <= 3 / (2 * PACE_SECONDS) + 16
    assert sum(count for _, count in reads) == 300
    assert reads[0] == (0.0, 1)


def test_a_stream_shorter_than_a_pace_is_read_at_once() -> None:
    times = [5.0, 5.01, 5.02, 5.03, 5.04]
    assert read(times) == [(time, 1) for time in times] + [(5.04, 0)]


def test_data_after_a_silence_is_read_at_once() -> None:
    times = [0.0, 0.01, 1.0, 1.01, 2.0]
    assert [time for time, count in read(times) if count] == times


@pytest.fixture
def slow() -> Iterator[tuple[str, list[int]]]:
    """A server that streams 40 lines over 0.4 s, and the ports that its clients come from."""
    app, ports = FastAPI(), list[int]()

    @app.post("/slow")
    async def stream(request: Request) -> StreamingResponse:
        ports.append(request.client.port if request.client else 0)

        async def lines() -> AsyncIterator[bytes]:
            for n in range(40):
                yield b"%d\n" % n
                await asyncio.sleep(0.01)

        return StreamingResponse(lines())

    with serving(app) as url:
        yield f"{url}/slow", ports


@pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run])
def test_connections_are_used_again_after_a_stream(run_loop: Any, slow: tuple[str, list[int]]) -> None:
    url, ports = slow

    def collect(received: list[bytes], data: bytes) -> bool:
        received.append(data)
        return data.endswith(b"39\n")

    async def ask() -> None:
        endpoint = Endpoint(url, None)
        for _ in range(3):
            received: list[bytes] = []
            await endpoint.stream({}, partial(collect, received))
            assert b"".join(received).split() == [b"%d" % n for n in range(40)]
            assert len(received) < 40
        await close_session()

    run_loop(ask())
    assert len(ports) == 3
    assert len(set(ports)) == 1


def test_a_thousand_calls_at_once_leave_no_connection_open(stub_url: str) -> None:
    async def ask() -> None:
        endpoint = Endpoint(stub_url, None)
        replies = await asyncio.gather(*(endpoint.post({"n": n}) for n in range(1_000)))
        assert [json.loads(reply)["n"] for reply in replies] == list(range(1_000))
        tasks = [asyncio.ensure_future(endpoint.post({"n": n, "wait": True})) for n in range(100)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}

    for _ in range(2):
        run(ask())
    assert http._sessions == {}


@pytest.fixture
def stub_url() -> Iterator[str]:
    """A server that sends each body back; never, if the body says `wait`."""
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        body = await request.json()
        if body.get("wait"):
            await asyncio.sleep(60)
        return body

    with serving(app, backlog=2048) as url:
        yield f"{url}/echo"


def test_a_lost_connection_and_a_broken_error_are_failures() -> None:
    def break_off(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
        connection.close()

    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 503 No\r\ncontent-length: 100\r\nretry-after: 7\r\n\r\n<html>")
        connection.close()

    with serving_sockets(break_off) as url, pytest.raises(NoConnection):
        run(Endpoint(url, None).post({}))
    with serving_sockets(break_off) as url, pytest.raises(NoConnection):
        run(Endpoint(url, None).stream({}, lambda _data: False))
    with serving_sockets(refuse) as url, pytest.raises(StatusFailure) as caught:
        run(Endpoint(url, None).post({}))
    assert (caught.value.status, caught.value.said, caught.value.retry_after) == (503, "<html>", 7.0)


@pytest.mark.parametrize(("cancelled", "error"), [(False, JobStopped), (True, JobCancelled)])
def test_stopping_a_job_ends_what_its_coroutine_waits_for(cancelled: bool, error: type[Exception]) -> None:
    async def work(deadline: Deadline) -> None:
        task = asyncio.current_task()
        assert task
        threading.Timer(0.05, deadline.stop, kwargs={"cancelled": cancelled}).start()
        with pytest.raises(error), deadline.cancelling_on_stop(), deadline.cancelling_on_stop():
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)  # a second cancellation would end this
        with pytest.raises(error):
            await deadline.sleep_async(60)
        assert task.cancelling() == 0

    run(work(Deadline()))


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def work() -> None:
        with Deadline().cancelling_on_stop():
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())


def test_a_wait_ends_with_the_deadline() -> None:
    async def work() -> None:
        with apply_deadline(Deadline(0.05)) as deadline, pytest.raises(JobTimedOut):
            await deadline.sleep_async(60)

    run(work())


def test_the_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        requests.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving_sockets(proxy) as url:
        monkeypatch.setenv("HTTP_PROXY", url.replace("http://", "user:pass@").removesuffix("/v1"))
        assert run(Endpoint("http://models.test/v1", "k").post({})) == b"{}"
        monkeypatch.setenv("NO_PROXY", "models.test,127.0.0.1")
        with pytest.raises(CallFailure):
            run(Endpoint("http://models.test/v1", "k").post({}))
        direct = run(Endpoint(url.replace("http://", "http://me:secret@"), "k").post({}))
    assert direct == b"{}"
    by_proxy, past_proxy = requests
    assert by_proxy.startswith(b"POST http://models.test/v1 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in by_proxy
    assert b"Authorization: Bearer k\r\n" in by_proxy
    assert b"Authorization: Basic bWU6c2VjcmV0\r\n" in past_proxy


def test_certificates_are_checked_against_those_of_the_environment(
    tmp_path: Path, stub_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path)
    port = int(stub_url.rpartition(":")[2].partition("/")[0])
    with tls_in_front(port, certificates, name="valkey") as secure:
        endpoint = f"https://localhost:{secure}/echo"
        http._tls_context.cache_clear()
        with pytest.raises(NoConnection):
            run(Endpoint(endpoint, None).post({}))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
        http._tls_context.cache_clear()
        assert run(Endpoint(endpoint, None).post({"n": 1})) == b'{"n":1}'
    http._tls_context.cache_clear()
