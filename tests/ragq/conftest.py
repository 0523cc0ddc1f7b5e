"""What the tests of ragq share: a running service with the sample handbook, and a model behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ragq import Client
from ragq.cli import main
from tests.cli.test_main import Service, service
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.openai_stub import KEY, Behaviour, openai_stub
from tests.support.processes import ROOT

HANDBOOK = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take?"
ANSWER = "A full charge takes three hours and twenty minutes [1]."


@dataclass(frozen=True)
class Served:
    """A running `python main.py` at `url`, which has indexed the handbook. `model` is its provider."""

    service: Service
    model: Behaviour

    @property
    def url(self) -> str:
        return str(self.service.api.base_url).rstrip("/")


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with openai_stub() as provider:
        use = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": KEY}
        with service(tmp_path_factory.mktemp("ragq"), **use) as started:
            served = Served(started, provider.behaviour)
            with Client(served.url, api_key="") as client:
                client.upload(HANDBOOK, wait=True)
            yield served


@pytest.fixture
def served(running_service: Served) -> Iterator[Served]:
    """The service, with a model that answers QUESTION by ANSWER until a test says otherwise."""
    behaviour = running_service.model
    vars(behaviour).update(vars(Behaviour(answer=ANSWER)))
    yield running_service
    vars(behaviour).update(vars(Behaviour()))


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the config file and the variables of this machine's user out of the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("RAGQ_URL", "RAGQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url) as client:
        yield client


@pytest.fixture
def proxy(served: Served) -> Iterator[CuttingProxy]:
    """A proxy before the service that cuts connections as told."""
    url = served.service.api.base_url
    with cutting_proxy(url.host, url.port or 80) as proxy:
        yield proxy


def ragq(*arguments: str, url: str, text: str | None = None) -> Result:
    """Run a command; its result has `exit_code`, `stdout` and `stderr`."""
    return CliRunner().invoke(main, list(arguments), input=text, env={"RAGQ_URL": url}, prog_name="ragq")
