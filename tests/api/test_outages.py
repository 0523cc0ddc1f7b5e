"""What clients see while Valkey is away: open streams and held requests wait, new questions get a 503."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from redis import Redis
from uuid_utils.compat import uuid7

from client.rq.event_writer import EventWriter
from client.valkey import keys
from client.valkey.embedded import EmbeddedValkey
from server import create_app
from tests.api.test_api import ask, assert_problem
from tests.api.test_watching import finish, in_background, read, start
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import wait_until

OUTAGE_SECONDS = 3.0
JOBS = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that the test stops."""
    server = EmbeddedValkey(tmp_path / "valkey")
    assert server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def away_api(server: EmbeddedValkey, make_settings: MakeSettings) -> Iterator[httpx.Client]:
    """A client of an API on that Valkey."""
    app = create_app(make_settings(valkey_url=server.url))
    with serving(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@contextmanager
def killed(server: EmbeddedValkey) -> Iterator[None]:
    """Kill the server; after the block, start it again on its files."""
    assert server._process is not None
    server._process.kill()
    server._process.wait(20)
    yield
    assert server.ensure_running()


@contextmanager
def hung(server: EmbeddedValkey) -> Iterator[None]:
    """Stop the process of the server for the time of the block: it accepts connections, and answers nothing."""
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


Outage = Callable[[EmbeddedValkey], AbstractContextManager[None]]
either = pytest.mark.parametrize("outage", [killed, hung])


class Poller:
    """Asks for the state of jobs again and again."""

    def __init__(self, api: httpx.Client, job_ids: list[str]) -> None:
        self.answers: list[httpx.Response] = []
        self._api, self._job_ids = api, job_ids
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            self.answers += [self._api.get(f"/job-status/{job_id}") for job_id in self._job_ids]

    def stop(self) -> None:
        self._stopped.set()


@either
def test_an_outage_is_a_wait_for_all_who_watch(outage: Outage, server: EmbeddedValkey, away_api: httpx.Client) -> None:
    api, valkey = away_api, Redis.from_url(server.url)
    job_ids = [ask(api) for _ in range(JOBS)]
    writers = {job_id: start(valkey, job_id) for job_id in job_ids}
    for writer in writers.values():
        writer.write("progress", {"n": 0})
    poller = Poller(api, job_ids[:2])
    with valkey, ThreadPoolExecutor(3 * JOBS) as pool, in_background(poller.run):
        streams = [pool.submit(read, api, job_id) for job_id in job_ids]
        waits = [pool.submit(api.get, f"/result/{job_id}?wait=60") for job_id in job_ids]
        wait_until(lambda: poller.answers and valkey.pubsub_numsub("rag:wake")[0][1] == 1)
        with outage(server):
            began = time.monotonic()
            assert_problem(api.post("/chat?query=Why"), 503)
            late = [pool.submit(read, api, job_id) for job_id in (job_ids[0], str(uuid7()))]
            short = api.get(f"/result/{job_ids[0]}?wait=0.5")
            assert_problem(short, 503)
            assert int(short.headers["retry-after"]) > 0
            wait_until(lambda: time.monotonic() - began >= OUTAGE_SECONDS)
            assert not any(stream.done() for stream in (*streams, *late))
            assert not any(wait.done() for wait in waits)
        wait_until(lambda: api.get(f"/result/{job_ids[0]}").status_code == 202)
        for job_id, writer in writers.items():
            writer.write("progress", {"n": 1})
            finish(valkey, job_id, writer)
        for stream in (*streams, late[0]):
            seen = stream.result(60)
            assert [kind for _, kind, _ in seen] == ["queued", "progress", "progress", "finished"]
            assert [data for _, kind, data in seen if kind == "progress"] == [{"n": 0}, {"n": 1}]
        assert {wait.result(60).status_code for wait in waits} == {200}
        assert late[1].result(60)[-1][:2] == ("end", "error")
        poller.stop()
    assert {answer.status_code for answer in poller.answers} == {200, 503}


def test_a_result_that_comes_back_in_time_ends_the_wait(server: EmbeddedValkey, away_api: httpx.Client) -> None:
    job_id = ask(away_api)
    with Redis.from_url(server.url) as valkey, ThreadPoolExecutor(2) as pool:
        finish(valkey, job_id, start(valkey, job_id))
        with killed(server):
            held = [pool.submit(away_api.get, f"/{route}/{job_id}?wait=60") for route in ("result", "job-status")]
            wait_until(lambda: away_api.get(f"/result/{job_id}").status_code == 503)
        assert [answer.result(30).status_code for answer in held] == [200, 200]
        assert held[1].result().json()["status"] == "finished"


def test_events_of_another_type_end_the_stream(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    valkey.set(keys.events(job_id), "text")
    ((event_id, kind, problem),) = read(api, job_id)
    assert (event_id, kind, problem["status"]) == ("end", "error", 500)
    assert read(api, job_id, after=event_id) == []  # a browser asks once more, and then no longer


def test_a_job_that_is_lost_while_it_is_watched_ends_the_stream(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    writer = EventWriter(valkey, job_id, result_ttl_seconds=60)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(read, api, job_id)
        wait_until(lambda: valkey.pubsub_numsub("rag:wake")[0][1] == 1)
        valkey.flushall()
        writer.write("progress", {})
        event_id, kind, problem = stream.result(30)[-1]
    assert (event_id, kind, problem["title"]) == ("end", "error", "Job not found")
