"""The id of a request on the log lines of the job that the request submitted, in another process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.uvicorn_protocol import uvicorn_options
from server import create_app
from settings import Settings
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, RQ, Running, running, wait_until
from tests.support.webhook_receiver import receiving

ALLOWED = {"WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOW_PRIVATE": "1"}


@contextmanager
def api_of(settings: Settings) -> Iterator[httpx.Client]:
    """Serve an API that lets webhooks go to this machine; yield a client of it."""
    allowing = settings.model_copy(update={"webhook_allow_http": True, "webhook_allow_private": True})
    with serving(create_app(allowing), **uvicorn_options(allowing)) as url, httpx.Client(base_url=url) as client:
        yield client


def lines_of(worker: Running, job_id: str) -> list[dict[str, Any]]:
    """Return the complete lines that a worker logged of a job."""
    lines = [line for line in worker.output.splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n")]
    return [line for line in map(json.loads, lines) if line.get("job_id") == job_id]


@pytest.mark.parametrize("kind", ["RagWorker", "a stock worker"])
def test_a_job_logs_the_id_of_its_request(kind: str, api: httpx.Client, valkey_url: str, tmp_path: Path) -> None:
    question = {"query": "How heavy is the lamp?"}
    asked = api.post("/chat", json=question, headers={"X-Request-ID": "question-77"})
    job_id = asked.json()["job_id"]
    rag_worker = [PYTHON, "main.py", "worker"]
    command = rag_worker if kind == "RagWorker" else [RQ, "worker", "--url", valkey_url, "rag_queries"]
    use = {"VALKEY_URL": valkey_url, "DATA_DIR": str(tmp_path / "data"), "LOG_FORMAT": "json"}
    with running(command, tmp_path / "worker.log", **use) as worker:
        wait_until(
            lambda: any("outcome" in line for line in lines_of(worker, job_id)),
            seconds=60,
            what=lambda: worker.output,
        )
        assert {line.get("request_id") for line in lines_of(worker, job_id)} == {"question-77"}


def test_a_webhook_has_the_id_of_the_request_that_asked(settings: Settings, valkey_url: str, tmp_path: Path) -> None:
    with receiving() as receiver, api_of(settings) as api:
        question = {"query": "How heavy is the lamp?", "webhook_url": receiver.url}
        api.post("/chat", json=question, headers={"X-Request-ID": "question-78"}).raise_for_status()
        use = {"VALKEY_URL": valkey_url, "DATA_DIR": str(tmp_path / "data"), "LOG_FORMAT": "json"} | ALLOWED
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use) as worker:
            wait_until(lambda: receiver.received, seconds=60, what=lambda: worker.output)
            wait_until(lambda: "rag_webhooks: webhook-" in worker.output, seconds=60, what=lambda: worker.output)
            (got,) = receiver.received
            lines = [json.loads(line) for line in worker.output.splitlines() if "webhook-" in line]
    assert got.headers["x-request-id"] == "question-78"
    assert {line["request_id"] for line in lines} == {"question-78"}
