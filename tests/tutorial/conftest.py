"""What the tutorial's tests share: a running service, a model behind it, and a document in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.openai_stub import KEY, Behaviour, openai_stub
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, free_port, running, wait_until


@dataclass(frozen=True)
class Service:
    """A running `python main.py`: the API, one worker, and the Valkey between them.

    `client` calls the API. A program started with `variables` and `valkey_url` works on the same queues and documents.
    `model` is the model provider.
    """

    client: httpx.Client
    valkey_url: str
    variables: dict[str, str]
    model: Behaviour


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service as a user does, with a model provider of our own instead of OpenAI."""
    folder = tmp_path_factory.mktemp("tutorial")
    port = free_port()
    with openai_stub() as provider:
        variables = {
            "DATA_DIR": str(folder / "data"),
            "PORT": str(port),
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": KEY,
            "WORKER_CONCURRENCY": "1",  # one job at a time, so that test_second_worker.py can keep the worker busy
            "WEBHOOK_ALLOW_HTTP": "1",  # the receiver of test_webhook.py is on this machine, without a certificate
            "WEBHOOK_ALLOW_PRIVATE": "1",
        }
        with (
            running([PYTHON, "main.py"], folder / "main.log", **variables) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=40) as client,
        ):
            wait_until(lambda: _is_ready(client), seconds=60, what=lambda: process.output)
            valkey_url = (folder / "data" / "valkey" / "url").read_text()
            yield Service(client, valkey_url, variables, provider.behaviour)


def _is_ready(client: httpx.Client) -> bool:
    """Return True if the API answers and a worker listens."""
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def client(service: Service) -> httpx.Client:
    """An HTTP client of the service."""
    return service.client


@pytest.fixture
def model(service: Service) -> Iterator[Behaviour]:
    """The model provider: a test may make it slow or choose its answers. By default it quotes its first source.

    Its `calls` begin empty: a test that does not ask for this fixture leaves calls behind.
    """
    vars(service.model).update(vars(Behaviour()))
    yield service.model
    vars(service.model).update(vars(Behaviour()))


@pytest.fixture
def lighthouse_pdf(tmp_path: Path) -> Path:
    """A PDF of two pages."""
    return write_pdf(
        tmp_path / "lighthouse.pdf",
        [
            "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale.",
            "Its lamp turns once in twelve seconds and is seen from 21 nautical miles away.",
        ],
    )


@pytest.fixture(scope="session")
def handbook_id(service: Service) -> str:
    """The id of an upload that is ready: samples/handbook.pdf, the handbook of a lamp. See test_upload.py."""
    handbook = Path(__file__).parents[2] / "samples" / "handbook.pdf"
    upload = service.client.post("/uploads", files={"file": (handbook.name, handbook.read_bytes())}).json()
    service.client.get(f"/result/{upload['job_id']}", params={"wait": 30}).raise_for_status()
    return str(upload["upload_id"])
