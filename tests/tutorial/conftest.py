"""What the tutorial's tests share: a running service, a model behind it, and a document in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.openai_stub import Behaviour
from tests.support.pdfs import write_pdf
from tests.support.service import HANDBOOK, Service, service_with_model


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start the service as a user does, with a model provider of our own instead of OpenAI."""
    variables = {
        "WORKER_CONCURRENCY": "1",  # one job at a time, so that test_second_worker.py can keep the worker busy
        "WEBHOOK_ALLOW_HTTP": "1",  # the receiver of test_webhook.py is on this machine, without a certificate
        "WEBHOOK_ALLOW_PRIVATE": "1",
    }
    with service_with_model(tmp_path_factory.mktemp("tutorial"), **variables) as started:
        yield started


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
    return service.upload(HANDBOOK.name, HANDBOOK.read_bytes())
