"""Traces as a collector receives them: one from a request through the queue to its webhook, without content."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes
from opentelemetry.semconv.schemas import Schemas
from redis import Redis

from errors import SettingsError
from observability import otlp, tracing
from tests.conftest import MakeSettings
from tests.support.openai_stub import KEY, Behaviour, openai_stub
from tests.support.processes import PYTHON, RQ, Running, free_port, running, wait_until
from tests.support.traces import ReceivedSpan, Traces, receiving_traces
from tests.support.webhook_receiver import Receiver, receiving

PARENT_TRACE, PARENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUESTION = "How heavy is the zanzibar lamp?"
DOCUMENT, NAME = "The zanzibar lamp weighs 142 kilograms.", "quagga.txt"
QUEUES = ("rag_queries", "rag_documents", "rag_webhooks")
WORKERS = {
    "RagWorker": [[PYTHON, "main.py", "worker"]],
    "rq worker": [[RQ, "worker", queue] for queue in QUEUES],
    "rq worker, preloaded": [[RQ, "worker", "-c", "queues.preload", queue] for queue in QUEUES],
    "SimpleWorker": [[RQ, "worker", "-w", "rq.worker.SimpleWorker", *QUEUES]],
}


class Trial:
    """An API and workers of processes of their own, which send traces to a receiver."""

    def __init__(self, api: httpx.Client, model: Behaviour, use: dict[str, str], workers: list[Running]) -> None:
        self.api, self.model, self.use, self.workers = api, model, use, workers

    def index(self) -> None:
        sent = self.api.post("/uploads", files={"file": (NAME, DOCUMENT.encode())}).raise_for_status().json()
        assert self.result(sent["job_id"])["status"] == "completed"

    def ask(self, **headers: str) -> str:
        body: dict[str, Any] = {"query": QUESTION, "cache": False}
        if "webhook_url" in headers:
            body["webhook_url"] = headers.pop("webhook_url")
        answered = self.api.post("/chat", json=body, headers=headers).raise_for_status()
        return str(answered.json()["job_id"])

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job once it has ended."""
        wait_until(lambda: self._read(job_id).status_code == 200, seconds=120, what=self.log)
        return dict(self._read(job_id).json())

    def _read(self, job_id: str) -> httpx.Response:
        return self.api.get(f"/result/{job_id}", params={"wait": 30}).raise_for_status()

    def log(self) -> str:
        return "\n".join(worker.output for worker in self.workers)


@contextmanager
def trial(folder: Path, valkey_url: str, endpoint: str, commands: list[list[str]], **variables: str) -> Iterator[Trial]:
    port = free_port()
    with openai_stub() as stub:
        use = {
            "VALKEY_URL": valkey_url,
            "DATA_DIR": str(folder / "data"),
            "PORT": str(port),
            "LOG_FORMAT": "json",
            "OPENAI_BASE_URL": stub.url,
            "OPENAI_API_KEY": KEY,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "WEBHOOK_ALLOW_HTTP": "1",
            "WEBHOOK_ALLOW_PRIVATE": "1",
        } | variables
        with (
            running([PYTHON, "main.py", "api"], folder / "api.log", **use) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=70) as api,
        ):
            wait_until(lambda: answers(api), seconds=60, what=lambda: server.output)
            with started(commands, folder, use) as workers:
                yield Trial(api, stub.behaviour, use, [server, *workers])


@contextmanager
def started(commands: list[list[str]], folder: Path, use: dict[str, str]) -> Iterator[list[Running]]:
    if not commands:
        yield []
        return
    rq_url = {"RQ_REDIS_URL": use["VALKEY_URL"]} if commands[0][0] == RQ else {}
    log = folder / f"worker-{len(commands)}.log"
    with running(commands[0], log, **(use | rq_url)) as first, started(commands[1:], folder, use) as others:
        yield [first, *others]


def answers(api: httpx.Client) -> bool:
    try:
        return api.get("/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def traces() -> Iterator[Traces]:
    with receiving_traces() as receiver:
        yield receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def question_span(traces: Traces, job_id: str) -> ReceivedSpan:
    (span,) = [s for s in traces.named("process rag_queries") if s.attributes["messaging.message.id"] == job_id]
    return span


@pytest.mark.parametrize("commands", WORKERS.values(), ids=WORKERS)
def test_one_trace_from_the_request_to_the_webhook(
    commands: list[list[str]], tmp_path: Path, valkey_url: str, traces: Traces, receiver: Receiver
) -> None:
    with trial(tmp_path, valkey_url, traces.url, commands) as service:
        service.index()
        traceparent = f"00-{PARENT_TRACE}-{PARENT_SPAN}-01"
        headers = {"traceparent": traceparent, "X-Request-ID": "question-7", "webhook_url": receiver.url}
        job_id = service.ask(**headers)
        assert service.result(job_id)["sources"]
        wait_until(lambda: len(traces.named("POST")) == 1, seconds=60, what=service.log)
        wait_until(lambda: len(traces.named("process rag_queries")) == 1, seconds=30, what=service.log)
        log = [json.loads(line) for line in service.log().splitlines() if line.startswith("{") and job_id in line]

    request, delivery = traces.one("POST /chat"), traces.one("POST")
    assert request.kind == "server"
    assert (request.trace, request.parent) == (PARENT_TRACE, PARENT_SPAN)
    assert request.attributes["http.response.status_code"] == 202
    ours = [span for span in traces.spans if span.trace == PARENT_TRACE]
    model = next(span for span in ours if span.kind == "client" and span.name.startswith("chat "))
    embedding = next(span for span in ours if span.name.startswith("embeddings "))
    job = ["process rag_queries", "send rag_queries", "POST /chat"]
    assert traces.above(model) == ["model", *job]
    assert traces.above(embedding) == ["embed", *job]
    for stage in ("search", "rerank", "check citations"):
        assert traces.above(next(span for span in ours if span.name == stage)) == job
    assert traces.above(delivery) == ["process rag_webhooks", *job]
    assert model.attributes["gen_ai.usage.output_tokens"] > 0
    assert question_span(traces, job_id).attributes["rag.request_id"] == "question-7"
    assert not any(span.failed or span.links for span in ours)
    (got,) = receiver.received
    assert got.headers["x-request-id"] == "question-7"
    assert got.headers["traceparent"] == f"00-{PARENT_TRACE}-{delivery.id}-01"
    of_job = [line for line in log if line.get("job_id") == job_id]
    assert of_job
    assert {line.get("trace_id") for line in of_job} == {PARENT_TRACE}


def test_a_request_without_traceparent_begins_a_trace_and_one_that_is_not_sampled_none(
    tmp_path: Path, valkey_url: str, traces: Traces
) -> None:
    with trial(tmp_path, valkey_url, traces.url, WORKERS["RagWorker"]) as service:
        service.result(service.ask(traceparent=f"00-{PARENT_TRACE}-{PARENT_SPAN}-00"))
        service.result(service.ask(traceparent="00-nonsense"))
        wait_until(lambda: traces.named("POST /chat") and traces.named("process rag_queries"), seconds=30)
    span = traces.one("POST /chat")
    assert span.parent == ""
    assert traces.one("process rag_queries").trace == span.trace != PARENT_TRACE


def test_a_second_attempt_is_linked_to_the_first_whose_worker_was_killed(
    tmp_path: Path, valkey: Redis, valkey_url: str, traces: Traces
) -> None:
    with trial(tmp_path, valkey_url, traces.url, []) as service:
        with started(WORKERS["RagWorker"], tmp_path, service.use) as (first,):
            service.index()
            service.model.calls.clear()
            service.model.chat_delay_seconds = 60.0
            job_id = service.ask()
            wait_until(lambda: b"attempt_traceparent" in (valkey.hget(f"rq:job:{job_id}", "meta") or b""), seconds=60)
            wait_until(lambda: service.model.chats, seconds=60, what=lambda: first.output)
            first.kill()
        service.model.chat_delay_seconds = 0.0
        with started(WORKERS["RagWorker"], tmp_path, service.use):
            assert service.result(job_id)["status"] == "completed"
            wait_until(lambda: traces.named("process rag_queries"), seconds=30)
    second = traces.one("process rag_queries")
    assert len(second.links) == 1
    assert second.links != [second.id]
    assert traces.above(second) == ["send rag_queries", "POST /chat"]


def test_a_webhook_that_is_tried_again_stays_in_the_trace_and_links_its_first_attempt(
    tmp_path: Path, valkey_url: str, traces: Traces, receiver: Receiver
) -> None:
    receiver.answer = lambda _got: (500 if len(receiver.received) == 1 else 204, {})
    with trial(tmp_path, valkey_url, traces.url, WORKERS["RagWorker"]) as service:
        service.result(service.ask(webhook_url=receiver.url, **{"X-Request-ID": "again-1"}))
        wait_until(lambda: len(traces.named("process rag_webhooks")) == 2, seconds=60, what=service.log)
    first, second = traces.named("process rag_webhooks")
    failed, delivered = traces.named("POST")
    assert (failed.failed, failed.attributes["error.type"]) == (True, "500")
    assert not delivered.failed
    assert first.trace == second.trace
    assert second.links == [first.id]
    assert [got.headers["x-request-id"] for got in receiver.received] == ["again-1", "again-1"]


def test_a_failed_question_has_a_code_and_no_message(tmp_path: Path, valkey_url: str, traces: Traces) -> None:
    with trial(tmp_path, valkey_url, traces.url, WORKERS["RagWorker"]) as service:
        service.model.always_fail = 401
        assert service.result(service.ask())["status"] == "failed"
        wait_until(lambda: traces.named("process rag_queries"), seconds=30)
    span = traces.one("process rag_queries")
    assert span.failed
    assert (span.attributes["rag.job.outcome"], span.attributes["rag.job.failure"]) == (
        "failed",
        "provider_key_rejected",
    )


@pytest.mark.parametrize("shown", [False, True], ids=["as it is", "LOG_CONTENT=1"])
def test_traces_hold_content_only_if_told(
    tmp_path: Path, valkey_url: str, traces: Traces, receiver: Receiver, *, shown: bool
) -> None:
    content = {"LOG_CONTENT": "1"} if shown else {}
    with trial(tmp_path, valkey_url, traces.url, WORKERS["RagWorker"], **content) as service:
        service.index()
        service.api.get("/zanzibar/quagga")
        service.api.request("QUAGGA", "/chat")
        service.result(service.ask(webhook_url=f"{receiver.url}/quagga-hook"))
        wait_until(lambda: traces.named("POST") and traces.named("process rag_documents"), seconds=60)
    everything = b"".join(traces.bodies).lower()
    marks = (b"zanzibar", b"quagga", b"142 kilograms", b"127.0.0.1", b"user.id")
    found = {mark.decode() for mark in marks if mark in everything}
    assert found == ({"zanzibar", "quagga", "142 kilograms", "user.id"} if shown else set())


@pytest.mark.parametrize("kind", ["RagWorker", "rq worker"])
def test_a_dead_receiver_fails_no_job(kind: str, tmp_path: Path, valkey_url: str) -> None:
    with trial(tmp_path, valkey_url, f"http://127.0.0.1:{free_port()}", WORKERS[kind]) as service:
        service.index()
        assert service.result(service.ask())["status"] == "completed"
        assert service.result(service.ask())["status"] == "completed"
        wait_until(lambda: "spans were dropped" in service.log(), seconds=30, what=service.log)
        for process in service.workers:
            process.process.send_signal(signal.SIGTERM)
            process.process.wait(30)


def test_a_receiver_that_refuses_is_named_in_the_log(tmp_path: Path, valkey_url: str, traces: Traces) -> None:
    traces.status = 401
    with trial(
        tmp_path, valkey_url, traces.url, [], OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cr3t-t0ken"
    ) as it:
        it.ask()
        wait_until(lambda: "status 401" in it.log(), seconds=30, what=it.log)
        assert "s3cr3t" not in it.log()
    assert traces.headers[0]["authorization"] == "Bearer s3cr3t-t0ken"


def test_what_a_process_says_of_itself(tmp_path: Path, valkey_url: str, traces: Traces) -> None:
    names = {"OTEL_SERVICE_NAME": "library", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=trial%201"}
    with trial(tmp_path, valkey_url, traces.url, [], **names) as service:
        service.ask()
        wait_until(lambda: traces.named("POST /chat"), seconds=30)
    resource = traces.one("POST /chat").resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("library", "trial 1")


def test_without_an_endpoint_nothing_is_imported(make_settings: MakeSettings) -> None:
    tracing.configure(make_settings())
    with tracing.span("anything", root=True) as span:
        assert span is tracing.NO_SPAN
    assert not tracing.enabled()


def test_names_are_those_of_the_conventions() -> None:
    assert Schemas.V1_44_0.value == otlp.SCHEMA_URL
    known = {
        value
        for module in (gen_ai_attributes, messaging_attributes, error_attributes, http_attributes, url_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    used = {
        *("http.request.method", "http.response.status_code", "http.route", "http.request.resend_count", "url.scheme"),
        *("messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name"),
        *("messaging.message.id", "messaging.batch.message_count", "error.type", "gen_ai.operation.name"),
        *("gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"),
    }
    assert used <= known


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (f"00-{PARENT_TRACE}-{PARENT_SPAN}-01", f"00-{PARENT_TRACE}-{PARENT_SPAN}-01"),
        (f"00-{PARENT_TRACE}-{PARENT_SPAN}-fe", f"00-{PARENT_TRACE}-{PARENT_SPAN}-00"),
        (f"cc-{PARENT_TRACE}-{PARENT_SPAN}-03-more", f"00-{PARENT_TRACE}-{PARENT_SPAN}-01"),
        (f"00-{PARENT_TRACE}-{PARENT_SPAN}-01-more", None),
        (f"ff-{PARENT_TRACE}-{PARENT_SPAN}-01", None),
        (f"00-{'0' * 32}-{PARENT_SPAN}-01", None),
        (f"00-{PARENT_TRACE}-{'0' * 16}-01", None),
        (f"00-{PARENT_TRACE.upper()}-{PARENT_SPAN}-01", None),
        (f"00-{PARENT_TRACE}-{PARENT_SPAN}", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text: object, read: str | None) -> None:
    assert tracing.read_traceparent(text) == read


def test_a_missing_package_stops_the_service_and_no_job(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_is_installed", lambda _package: False)
    settings = make_settings(otel_exporter_otlp_endpoint="http://127.0.0.1:4318")
    with pytest.raises(SettingsError, match="make telemetry"):
        tracing.require(settings)
    tracing.close()
    tracing.configure_once(lambda: settings)
    assert not tracing.enabled()
    assert "no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set" in caplog.text
