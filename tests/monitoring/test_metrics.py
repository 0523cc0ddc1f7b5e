"""/metrics: what is counted, for whom it is, and that nothing which a client sends becomes a label."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from prometheus_client.samples import Sample
from redis import Redis

from client.sql.database import Database
from client.valkey import counts, keys
from monitoring.collector import DeploymentMetrics
from monitoring.port import MetricsPort
from observability.metrics import COUNTS, FIRST_TOKEN, MAX_SERIES, METRICS, OTHER, TOKENS, Counts, Key
from settings import Settings
from tests.api.test_security_headers import service
from tests.conftest import MakeSettings
from tests.monitoring.samples import OPENMETRICS, metric_value, samples_of, value_of
from tests.queues.test_chat import index
from tests.support.callers import bearer
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import PYTHON, RQ, free_port, running, wait_until
from tests.support.workers import work

QUESTION = "Who built the lighthouse of Brindle Point?"
SECRET_NAME = "crumpet-7"


@pytest.fixture(autouse=True)
def _nothing_counted_before() -> None:
    COUNTS.take()


@contextmanager
def with_model(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub
) -> Iterator[tuple[httpx.Client, Settings]]:
    values = {"openai_base_url": stub.url, "openai_api_key": KEY, "chat_model": "writer", "embedding_model": "embedder"}
    settings = make_settings(valkey_url=valkey_url, **values)
    with service(make_settings, valkey_url, **values) as client:
        yield client, settings


def test_questions_and_documents_are_counted(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path
) -> None:
    with with_model(make_settings, valkey_url, stub) as (api, settings):
        api.post("/uploads", files={"file": (f"{SECRET_NAME}.pdf", pdf.read_bytes())})
        work(settings)
        for question in (QUESTION, QUESTION):
            api.post("/chat", json={"query": question})
            work(settings)
        stub.behaviour.answer = "[NO ANSWER] The documents do not say."
        api.post("/chat", json={"query": f"What does {SECRET_NAME} cost?"})
        work(settings)
        stub.behaviour.always_fail = 401
        api.post("/chat", json={"query": "And this fails?"})
        work(settings)
        api.post("/chat", json={"query": "Who asks for a worker?"})
        wait_until(lambda: metric_value(api, "rag_answers_total", outcome="failed"), what="a failure in the metrics")
        wait_until(lambda: metric_value(api, "http_server_request_duration_seconds_count", http_route="/chat") == 5)
        plain, text = samples_of(api.get("/metrics")), api.get("/metrics", headers=OPENMETRICS)
    assert text.text.endswith("# EOF\n")
    samples = samples_of(text)
    assert {sample.name for sample in samples} == {sample.name for sample in plain}
    assert SECRET_NAME not in text.text
    assert value_of(samples, "rag_answers_total", outcome="answered") == 2
    assert value_of(samples, "rag_answers_total", outcome="refused") == 1
    assert value_of(samples, "rag_answers_total", outcome="failed", code="provider_key_rejected") == 1
    assert value_of(samples, "rag_cache_hits_total") == 1
    assert value_of(samples, "rag_tokens_total", model="writer", direction="output") == 2
    assert value_of(samples, "rag_tokens_total", model="embedder", direction="input") > 0
    assert value_of(samples, "rag_first_token_seconds_count") == 2
    assert value_of(samples, "rag_provider_seconds_count", operation="chat", outcome="ok") == 2
    assert value_of(samples, "rag_provider_seconds_count", outcome="refused") == 1
    assert value_of(samples, "rag_pages_total", reader="pdfium") == 3
    assert value_of(samples, "rag_uploads", status="ready") == 1
    assert value_of(samples, "rag_job_seconds_count", kind="index", stage="run", outcome="finished") == 1
    assert value_of(samples, "rag_job_seconds_count", kind="chat", stage="run") == 4
    for stage in ("embed", "search", "model"):
        assert value_of(samples, "rag_job_seconds_count", kind="chat", stage=stage, outcome="finished") == 2
    _assert_gauges(samples)


def _assert_gauges(samples: list[Sample]) -> None:
    assert value_of(samples, "rq_jobs", queue="rag_queries", status="queued") == 1
    assert value_of(samples, "rq_jobs", queue="rag_queries", status="failed") == 1
    assert value_of(samples, "rag_queue_oldest_seconds", queue="rag_queries") > 0
    assert value_of(samples, "rag_queue_oldest_seconds", queue="rag_documents") == 0
    assert {part: value_of(samples, "rag_part_up", part=part) for part in ("valkey", "database", "vector_store")} == {
        "valkey": 1,
        "database": 1,
        "vector_store": 1,
    }
    assert 0 < value_of(samples, "rag_disk_free_bytes") < value_of(samples, "rag_disk_size_bytes")
    assert 0 < value_of(samples, "rag_valkey_memory_bytes") < value_of(samples, "rag_valkey_memory_limit_bytes")
    shown = {sample.name for sample in samples}
    assert [name for name in METRICS if not any(shown_name.startswith(name) for shown_name in shown)] == ["rq_workers"]


def test_only_administrators_read_metrics_with_a_key(api: httpx.Client) -> None:
    assert api.get("/metrics").status_code == 200
    assert api.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    admin = bearer(api.post("/keys", json={"name": "mine", "scopes": ["admin"]}).json()["key"])
    user = bearer(api.post("/keys", json={"name": "theirs", "user_id": "alice"}, headers=admin).json()["key"])
    assert api.get("/metrics").status_code == 401
    assert api.get("/metrics", headers=user).status_code == 403
    assert api.get("/metrics", headers=admin).status_code == 200


def test_what_clients_send_becomes_no_label(
    make_settings: MakeSettings, valkey_url: str, valkey: Redis, stub: OpenAIStub, pdf: Path
) -> None:
    with with_model(make_settings, valkey_url, stub) as (api, settings):
        api.post("/uploads", files={"file": ("lighthouse.pdf", pdf.read_bytes())})
        work(settings)
        for number in range(25):
            api.request(("PROPFIND", "PURGE", "LOCK")[number % 3], f"/{SECRET_NAME}-{number}")
            api.get(f"/result/{uuid.uuid4()}")
            api.get(f"/v1/{SECRET_NAME}-{number}", headers={"Host": f"{SECRET_NAME}-{number}.example"})
            valkey.sadd(keys.QUEUES, keys.queue(f"{SECRET_NAME}-{number:02}"))
            worker = keys.worker("w" * 300 + str(number))
            valkey.sadd(keys.WORKERS, worker)
            valkey.hset(worker, mapping={"birth": "now", "queues": "q" * 300, "state": SECRET_NAME})
        valkey.set(keys.queue(f"{SECRET_NAME}-00"), "no list")
        # A job that somebody wrote into Valkey asks for a model which the settings do not name.
        api.post("/chat", json={"query": QUESTION})
        _ask_another_model(valkey, SECRET_NAME)
        work(settings)
        wait_until(lambda: metric_value(api, "rag_tokens_total", model=OTHER), what="the tokens of the other model")
        wait_until(lambda: metric_value(api, "http_server_request_duration_seconds_count") >= 75)
        samples = samples_of(api.get("/metrics"))
    assert {sample.labels["model"] for sample in samples if "model" in sample.labels} == {"embedder", OTHER}
    named = {name for sample in samples for name, value in sample.labels.items() if SECRET_NAME in value}
    assert named == {"queue"}
    assert len({sample.labels["queue"] for sample in samples if "queue" in sample.labels}) == 3 + 20
    assert max(len(value) for sample in samples for value in sample.labels.values()) <= 120
    requests = [sample.labels for sample in samples if sample.name == "http_server_request_duration_seconds_count"]
    assert {labels["http_request_method"] for labels in requests} <= {"GET", "POST", "_OTHER"}
    assert len(requests) < 15


def _ask_another_model(valkey: Redis, model: str) -> None:
    from rq.job import Job

    from client.rq.serializer import PlainSerializer

    (job_id,) = cast("list[bytes]", valkey.lrange(keys.queue("rag_queries"), 0, -1))
    job = Job.fetch(job_id.decode(), connection=valkey, serializer=PlainSerializer)
    (payload,) = job.args
    job.args = ({**payload, "model": model},)
    valkey.hset(job.key, "data", job.to_dict()["data"])


def test_a_process_knows_only_so_many_series() -> None:
    process = Counts()
    for number in range(MAX_SERIES * 2):
        process.count(TOKENS, f"model {number}", "input")
        process.take()
        process.count(TOKENS, f"model {number}", "input", by=2)
    process.count(TOKENS, "model 3", "input", by=5)
    taken = process.take()
    assert taken["rag_tokens_total", "model 3", "input"] == 5
    assert taken["rag_tokens_total", OTHER, OTHER] == 2


def test_valkey_keeps_only_so_many_fields(valkey: Redis) -> None:
    many: dict[Key, int] = {("rag_tokens_total", str(number), "input"): 1 for number in range(counts.MAX_FIELDS + 10)}
    counts.add_counts(valkey, many)
    counts.add_counts(valkey, many)
    stored = counts.read_counts(valkey)
    assert len(stored) == counts.MAX_FIELDS
    assert set(stored.values()) == {2}
    assert (valkey.memory_usage(keys.COUNTS) or 0) < 4_000_000


def test_counts_survive_an_outage_of_valkey(valkey: Redis) -> None:
    process = Counts()
    process.observe(FIRST_TOKEN, 0.3)
    process.observe(FIRST_TOKEN, 1_000)
    with Redis.from_url("redis://127.0.0.1:1") as away:
        assert not counts.store_counts(away, process)
    process.observe(FIRST_TOKEN, -5)  # a clock that was set back
    assert counts.store_counts(valkey, process)
    assert not process.take()
    stored = {key[1]: number for key, number in counts.read_counts(valkey).items()}
    assert stored == {"0.32": 1, "+Inf": 1, "0.01": 1, "sum": 1_000_300_000}


def test_fields_of_other_versions_and_programs_do_no_harm(api: httpx.Client, valkey: Redis) -> None:
    valkey.hset(
        keys.COUNTS,
        mapping={
            '["rag_first_token_seconds", "0.3"]': 2,  # a bound of another version
            '["rag_first_token_seconds", "+Inf"]': 1,
            '["rag_first_token_seconds", "sum"]': 1_500_000,
            '["rag_gone_total", "x"]': 1,
            '["rag_cache_hits_total", "x"]': 1,
            '["rq_jobs", "x", "y"]': 1,
            "no list": "no number",
        },
    )
    samples = samples_of(api.get("/metrics", headers=OPENMETRICS))
    assert value_of(samples, "rag_first_token_seconds_bucket", le="0.16") == 0
    assert value_of(samples, "rag_first_token_seconds_bucket", le="0.32") == 2
    assert value_of(samples, "rag_first_token_seconds_count") == 3
    assert value_of(samples, "rag_first_token_seconds_sum") == 1.5
    assert value_of(samples, "rag_cache_hits_total") == 0
    assert not [sample for sample in samples if "gone" in sample.name]


def test_without_valkey_the_rest_is_shown(make_settings: MakeSettings) -> None:
    with service(make_settings, "redis://127.0.0.1:1") as client:
        samples = samples_of(client.get("/metrics"))
    assert value_of(samples, "rag_part_up", part="valkey") == 0
    assert value_of(samples, "rag_part_up", part="database") == 1
    assert value_of(samples, "rag_disk_free_bytes") > 0


def test_the_metrics_port_passes_from_process_to_process(settings: Settings) -> None:
    settings = settings.model_copy(update={"metrics_port": free_port()})
    database = Database(settings)
    database.prepare()
    metrics = DeploymentMetrics(settings, database)
    first, second = (MetricsPort(settings, metrics, retry_seconds=0.05) for _ in range(2))
    url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
    first.start()
    wait_until(lambda: _answers(url), what="the first process")
    second.start()
    first.stop()
    wait_until(lambda: _answers(url), what="the second process")
    assert value_of(samples_of(httpx.get(url, headers=OPENMETRICS)), "rag_part_up", part="valkey") == 1
    second.stop()
    assert not _answers(url)
    metrics.close()
    database.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_stock_workers_count_and_a_killed_worker_loses_nothing_stored(
    api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, settings)
    port = free_port()
    use = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url, "RQ_REDIS_URL": settings.queue_url}
    api.post("/chat", json={"query": QUESTION, "cache": False})
    with running([RQ, "worker", "rag_queries", "--burst"], tmp_path / "stock.log", **use) as stock:
        stock.process.wait(60)
    wait_until(lambda: metric_value(api, "rag_answers_total", outcome="answered") == 1, what=lambda: stock.output)
    with running([PYTHON, "main.py", "worker"], tmp_path / "own.log", METRICS_PORT=str(port), **use) as own:
        api.post("/chat", json={"query": QUESTION, "cache": False})
        wait_until(lambda: metric_value(api, "rag_answers_total", outcome="answered") == 2, what=lambda: own.output)
        samples = samples_of(httpx.get(f"http://127.0.0.1:{port}/metrics"))
        (worker,) = [sample for sample in samples if sample.name == "rq_workers"]
        assert worker.labels["queues"] == "rag_queries,rag_documents,rag_webhooks"
        assert value_of(samples, "rag_answers_total", outcome="answered") == 2
        own.process.send_signal(signal.SIGKILL)
        own.process.wait()
    assert metric_value(api, "rag_answers_total", outcome="answered") == 2
    assert metric_value(api, "rag_job_seconds_count", kind="chat", stage="run", outcome="finished") == 2


@pytest.mark.parametrize("fresh_seconds", [600.0, 0.0])
def test_reading_often_costs_one_reading(settings: Settings, fresh_seconds: float) -> None:
    database = Database(settings)
    database.prepare()
    metrics = DeploymentMetrics(settings, database, fresh_seconds=fresh_seconds)
    before, _ = metrics.render("")
    counts.add_counts(metrics.valkey, {("rag_cache_hits_total",): 1})
    after, _ = metrics.render("")
    assert (b"rag_cache_hits_total 1.0" in after, after == before) == (not fresh_seconds, bool(fresh_seconds))
    metrics.close()
    database.close()
