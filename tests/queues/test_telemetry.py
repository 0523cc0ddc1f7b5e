"""Nothing leaves but to the configured servers, whatever the environment says to the libraries."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.files.store import open_file_store
from documents.deployment import MARKER
from settings import Settings
from tests.cli.test_main import service
from tests.conftest import MakeSettings
from tests.queues.test_chat import index, variables, workers
from tests.queues.test_conversations import ask, result
from tests.support.library_variables import sending_variables
from tests.support.openai_stub import KEY, Behaviour, make_stub, serving
from tests.support.processes import RQ, running, wait_until
from tests.support.servers import empty_database, s3_location

# Under each of these a question is sent to the address in LANGSMITH_ENDPOINT unless the variables are removed.
TRACING = {"LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true", "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
# Known to libraries that are not written in Python: the S3 client and libpq.
NATIVE = {"AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_METADATA_ENDPOINT", "PGHOST", "PGHOSTADDR", "PGSERVICE"}
PROXIES = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"}
STOCK_WORKERS = {
    "rq worker": [RQ, "worker"],
    "rq worker, preloaded": [RQ, "worker", "-c", "queues.preload"],
    "RagWorker under rq": [RQ, "worker", "-w", "queues.RagWorker"],
}


class Listener:
    """A server that stands in for LangSmith and every other place, and keeps the first bytes that it gets."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.received: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def environment(self) -> dict[str, str]:
        """Return every variable by which a locked package may choose where to send, set to this server."""
        names = sending_variables().keys() - {name.upper() for name in Settings.model_fields} - PROXIES
        names -= {"REDIS_URL", "RQ_REDIS_URL"}
        return {name: self._value(name) for name in names | NATIVE} | TRACING

    def close(self) -> None:
        self._socket.close()

    def _value(self, name: str) -> str:
        if name == "LANGSMITH_RUNS_ENDPOINTS":
            return f'[{{"api_url": "{self.url}", "api_key": "x"}}]'
        return (
            "stray" if name.endswith(("KEY", "TOKEN", "ORG_ID", "ORGANIZATION", "PROJECT", "PROJECT_ID")) else self.url
        )

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.received.append(connection.recv(300))
                except OSError:
                    self.received.append(b"nothing")


class Provider:
    """A model stub that keeps the headers of each request."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.headers: list[dict[str, str]] = []
        self._app = make_stub(self.behaviour)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await self._app(scope, receive, send)


@pytest.fixture
def elsewhere() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@contextmanager
def provider() -> Iterator[tuple[Provider, dict[str, str]]]:
    """Serve a model stub; yield it and the settings that name it."""
    made = Provider()
    with serving(made) as url:
        yield made, {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY}


def upload_and_ask(api: httpx.Client) -> None:
    """Upload a document, ask a question and a follow-up."""
    made = api.post("/uploads", files={"file": ("museum.txt", "The museum opens at nine. Admission is four crowns.")})
    upload_id = made.json()["upload_id"]
    wait_until(lambda: api.get(f"/uploads/{upload_id}").json()["status"] == "ready", seconds=40)
    for question in ("When does the museum open?", "And the admission?"):
        answered = result(api, ask(api, question, conversation_id="c"))
        assert answered["status"] == "completed", answered


def assert_only_the_provider_was_called(stub: Provider, elsewhere: Listener) -> None:
    calls = [("messages" in call, bool(call.get("stream"))) for call in stub.behaviour.calls]
    assert {(True, True), (True, False), (False, False)} <= set(calls)  # an answer, a rewriting, embeddings
    for headers in stub.headers:
        assert headers["authorization"] == f"Bearer {KEY}"
        assert "stray" not in str(headers)
        assert not headers.keys() & {"openai-organization", "openai-project"}
    assert elsewhere.received == []


def test_main_sends_nothing_elsewhere(elsewhere: Listener, tmp_path: Path) -> None:
    with provider() as (stub, use):
        with service(tmp_path, **(elsewhere.environment() | use)) as started:
            upload_and_ask(started.api)
        assert_only_the_provider_was_called(stub, elsewhere)


@pytest.mark.parametrize("command", STOCK_WORKERS.values(), ids=STOCK_WORKERS)
def test_workers_under_rq_and_the_command_line_send_nothing_elsewhere(
    command: list[str], elsewhere: Listener, api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    listening = [*command, "rag_queries", "rag_documents"]
    with provider() as (stub, model):
        use = elsewhere.environment() | model | {"RQ_REDIS_URL": settings.queue_url}
        index(pdf, settings, **use)
        with running(listening, tmp_path / "worker.log", **variables(settings, **use)) as worker:
            wait_until(lambda: workers(api) == 1, seconds=40, what=lambda: worker.output)
            upload_and_ask(api)
        assert_only_the_provider_was_called(stub, elsewhere)


def test_files_and_rows_go_to_the_configured_servers(
    elsewhere: Listener, make_settings: MakeSettings, s3_url: str, postgres_url: str, valkey_url: str, pdf: Path
) -> None:
    use = s3_location(s3_url) | {"database_url": empty_database(postgres_url)}
    settings = make_settings(valkey_url=valkey_url, **use)
    index(pdf, settings, **elsewhere.environment(), **{name.upper(): value for name, value in use.items()})
    assert len({name for name, _ in open_file_store(settings).all()} - {MARKER}) == 1
    assert elsewhere.received == []


def test_main_reaches_the_provider_through_a_proxy(tmp_path: Path) -> None:
    with provider() as (stub, model):
        use = {"http_proxy": model["OPENAI_BASE_URL"].removesuffix("/v1"), "no_proxy": "", "NO_PROXY": ""}
        use |= {"OPENAI_BASE_URL": "http://provider.invalid/v1", "OPENAI_API_KEY": KEY}
        with service(tmp_path, **use) as started:
            upload_and_ask(started.api)
        assert {headers["host"] for headers in stub.headers} == {"provider.invalid"}
