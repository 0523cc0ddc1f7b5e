"""The API over a real socket: the responses to good and bad requests."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from uuid_utils.compat import uuid7

from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.tables import each

PROBLEM = "application/problem+json"


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that a response is a problem document with this status, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem = dict(response.json())
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    assert "Traceback" not in response.text
    return problem


def ask(api: httpx.Client, question: str = "Why?") -> str:
    return str(api.post("/chat", params={"query": question}).json()["job_id"])


def test_the_server_says_that_it_runs(api: httpx.Client) -> None:
    assert api.get("/").json() == {"status": "Server is up and running", "service": "RAG Query API"}
    assert api.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("how", [{"params": {"query": "Why?"}}, {"json": {"query": "Why?"}}], ids=["query", "json"])
def test_a_question_is_accepted_and_waits_on_the_queue(how: dict[str, Any], api: httpx.Client, valkey: Redis) -> None:
    response = api.post("/chat", **how)
    assert response.status_code == 202
    body = response.json()
    assert body == {
        "status": "queued",
        "job_id": body["job_id"],
        "message": "Your query has been queued for processing",
    }
    assert response.headers["location"] == f"/job-status/{body['job_id']}"
    assert valkey.lrange("rq:queue:rag_queries", 0, -1) == [body["job_id"].encode()]
    job = Job.fetch(body["job_id"], connection=valkey)
    assert (job.func_name, job.args[0]["query"], job.result_ttl) == ("queues.worker.process_query", "Why?", 86_400)
    assert "Why?" not in str(job.description)


def test_a_waiting_job_shows_its_place(api: httpx.Client) -> None:
    first, second = ask(api), ask(api)
    state = api.get(f"/job-status/{second}").json()
    assert state == {"job_id": second, "status": "queued", "created_at": state["created_at"], "position": 2}
    assert state["created_at"].endswith("Z")
    assert api.get("/job-status", params={"job_id": second}).json() == state
    result = api.get(f"/result/{first}")
    assert result.status_code == 202
    assert result.headers["retry-after"] == "1"
    assert result.json() == {"job_id": first, "status": "queued"}


def test_high_priority_enters_at_the_front(api: httpx.Client) -> None:
    ask(api)
    urgent = api.post("/chat", json={"query": "Why?", "priority": "high"}).json()["job_id"]
    assert api.get(f"/job-status/{urgent}").json()["position"] == 1


BAD_QUESTIONS = {
    "empty": "",
    "blank": " \n\t ",
    "NUL": "a\x00b",
    "too long": "x" * 4001,
}


@each("question", BAD_QUESTIONS)
@each("place", ["params", "json"])
def test_a_bad_question_is_refused_with_the_name_of_the_field(place: str, question: str, api: httpx.Client) -> None:
    problem = assert_problem(api.post("/chat", **{place: {"query": question}}), 422)  # type: ignore[arg-type]
    assert [error["field"] for error in problem["errors"]] == ["query"]
    assert "input" not in json.dumps(problem)


BAD_BODIES = {
    "lone surrogate": (b'{"query": "\\ud800 secret-text"}', "query"),
    "NaN": (b'{"query": NaN}', "query"),
    "number": (b'{"query": 7}', "query"),
    "an upload that is a number": (b'{"query": "a", "upload_id": 5}', "upload_id"),
    "one of many that is a number": (b'{"query": "a", "upload_id": ["x", 5]}', "upload_id"),
    "a name that is a number": (b'{"query": "a", "name": 5}', "name"),
    "missing": (b"{}", "query"),
    "null": (b"null", "query"),
    "list": (b'["secret-text"]', "body"),
    "broken": (b'{"query": "secret-text', "body"),
    "not UTF-8": (b'{"query": "\xff\xfe"}', "body"),
    "unknown field": (b'{"query": "a", "secret-text": 1}', "body"),
    "bad k": (b'{"query": "a", "k": 0}', "k"),
    "huge k": (b'{"query": "a", "k": 1e400}', "k"),
    "bad priority": (b'{"query": "a", "priority": "secret-text"}', "priority"),
    "deep": (b"[" * 20_000, "body"),
    "NUL in a name": (b'{"query": "a", "name": "secret-text\\u0000"}', "name"),
    "NUL in one of many names": (b'{"query": "a", "name": ["a", "secret-text\\u0000"]}', "name"),
    "NUL in metadata": (b'{"query": "a", "metadata": {"k": "secret-text\\u0000"}}', "metadata"),
    "NUL in a name of metadata": (b'{"query": "a", "metadata": {"secret-text\\u0000": "v"}}', "metadata"),
    "half a character in metadata": (b'{"query": "a", "metadata": {"secret-text\\ud800": "v"}}', "metadata"),
    "long metadata": (b'{"query": "a", "metadata": {"secret-text": "' + b"x" * 513 + b'"}}', "metadata"),
    "long name of metadata": (b'{"query": "a", "metadata": {"' + b"secret-text" * 9 + b'": "v"}}', "metadata"),
    "much metadata": (
        b'{"query": "a", "metadata": {' + b", ".join(b'"%d": ""' % n for n in range(21)) + b"}}",
        "metadata",
    ),
    "conversation": (b'{"query": "a", "conversation_id": "secret-text\\u0000"}', "conversation_id"),
}


BAD_PARAMETERS = {
    "half a character": ("query=%ED%A0%80", "query"),
    "unknown": ("query=a&secret-text=1", "query string"),
    "conversation": ("query=a&conversation_id=secret%20text", "conversation_id"),
    "metadata that is no JSON": ("query=a&metadata=secret-text", "metadata"),
    "metadata that is no object": ("query=a&metadata=%5B%22secret-text%22%5D", "metadata"),
    "no name": ("query=a&name=", "name"),
    "a temperature of its own": ("query=a&temperature=9", "temperature"),
}


@each("parameters, field", BAD_PARAMETERS)
def test_a_bad_parameter_is_refused_without_an_echo(parameters: str, field: str, api: httpx.Client) -> None:
    response = api.post(f"/chat?{parameters}")
    problem = assert_problem(response, 422)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} == {field}, problem
    assert "secret" not in response.text


def test_parameters_accept_every_field_of_a_body(api: httpx.Client) -> None:
    parameters: dict[str, Any] = {
        "query": "Why?", "k": 3, "priority": "high", "conversation_id": "c", "name": "a.pdf", "first_page": 2,
        "last_page": 3, "min_score": 0.5, "cache": False, "metadata": '{"a": "b"}',
    }  # fmt: skip
    body = parameters | {"metadata": {"a": "b"}, "name": ["a.pdf"]}
    once = {"Idempotency-Key": "in-both-forms"}
    first, second = api.post("/chat", params=parameters, headers=once), api.post("/chat", json=body, headers=once)
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()


@each("body, field", BAD_BODIES)
def test_a_bad_body_is_refused_without_an_echo(body: bytes, field: str, api: httpx.Client) -> None:
    response = api.post("/chat", content=body, headers={"content-type": "application/json"})
    problem = assert_problem(response, 422)
    assert {error["field"].partition(".")[0] for error in problem["errors"]} == {field}, problem
    assert not re.search(r"\[|str|constrained", str([error["field"] for error in problem["errors"]])[1:])
    assert "secret-text" not in response.text


UNKNOWN_FIELDS = {
    "a synonym": ("/chat", {"question": "Why?"}, "question", "`query`"),
    "a missing underscore": ("/chat", {"query": "Why?", "uploadid": "x"}, "uploadid", "`upload_id`"),
    "camel case": ("/chat", {"query": "Why?", "maxTokens": 9}, "maxTokens", "`max_tokens`"),
    "nothing like it": ("/chat", {"query": "Why?", "zzz": "x"}, "zzz", None),
    "inside a list": ("/chat/batch", {"questions": [{"query": "a"}, {"prompt": "b"}]}, "questions.1.prompt", "`query`"),
    "another body": ("/webhooks", {"callback": "x", "event": []}, "event", "`events`"),
}


@pytest.mark.parametrize(("path", "body", "field", "suggestion"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_an_unknown_field_is_named_with_the_nearest_known_one(
    path: str, body: dict[str, Any], field: str, suggestion: str | None, api: httpx.Client
) -> None:
    errors = {error["field"]: error["message"] for error in assert_problem(api.post(path, json=body), 422)["errors"]}
    assert errors[field] == "is not a known field" + (f": did you mean {suggestion}?" if suggestion else "")


def test_an_unknown_parameter_is_named_too(api: httpx.Client) -> None:
    errors = assert_problem(api.post("/chat?query=a&upload=x"), 422)["errors"]
    assert errors == [{"field": "upload", "message": "is not a known field: did you mean `upload_id`?"}]


@pytest.mark.parametrize("name", ["a secret", "x" * 31, "secret-text", "1secret"])
def test_a_long_or_strange_field_name_is_not_repeated(name: str, api: httpx.Client) -> None:
    response = api.post("/chat", json={"query": "Why?", name: 1})
    assert assert_problem(response, 422)["errors"] == [{"field": "body", "message": "contains an unknown field"}]
    assert name not in response.text


def test_the_favicon_is_204(make_settings: MakeSettings, valkey_url: str) -> None:
    closed = make_settings(valkey_url=valkey_url, auth_required=True)
    with serving(create_app(closed)) as url:
        response = httpx.get(f"{url}/favicon.ico")
    assert (response.status_code, response.content) == (204, b"")


def test_a_question_is_required(api: httpx.Client) -> None:
    assert assert_problem(api.post("/chat"), 422)["errors"][0]["field"] == "query"
    assert assert_problem(api.get("/job-status"), 422)["errors"][0]["field"] == "job_id"


def test_the_longest_question_is_accepted_and_trimmed(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api, " " + "ü" * 4000 + " ")
    assert Job.fetch(job_id, connection=valkey).args[0]["query"] == "ü" * 4000


@each("chunked", [False, True])
def test_a_large_body_is_refused(chunked: bool, api: httpx.Client) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    content = stream() if chunked else b" " * 102_400
    assert_problem(api.post("/chat", content=content, headers={"content-type": "application/json"}), 413)


NO_JOBS: dict[str, Callable[[], str]] = {
    "word": lambda: "nonsense",
    "NUL": lambda: "%00",
    "emoji": lambda: "%F0%9F%92%A9",
    "upwards": lambda: "../x",
    "long": lambda: "a" * 300,
    "unknown UUIDv4": lambda: str(uuid.uuid4()),
    "unknown UUIDv7": lambda: str(uuid7()),
}


@each("path", ["/job-status/{}", "/job-status?job_id={}", "/result/{}"])
@each("make_id", NO_JOBS)
def test_an_unknown_id_is_404(path: str, make_id: Callable[[], str], api: httpx.Client) -> None:
    assert_problem(api.get(path.format(make_id())), 404)


def test_an_id_whose_retention_has_passed_is_410(api: httpx.Client) -> None:
    yesterday = int((time.time() - 90_000) * 1000)
    old = uuid.UUID(int=(yesterday << 80) | (7 << 76) | (0b10 << 62) | 12345)
    problem = assert_problem(api.get(f"/result/{old}"), 410)
    assert "RESULT_TTL_SECONDS" in problem["detail"]


def test_other_addresses_and_methods(api: httpx.Client) -> None:
    assert_problem(api.get("/nowhere"), 404)
    problem = api.delete("/chat")
    assert_problem(problem, 405)
    assert problem.headers["allow"] == "POST"


@each("path", ["/", "/health", "/openapi.json", "/docs", "/job-status/{}", "/nowhere", "/chat"])
def test_head_is_get_without_the_body(path: str, api: httpx.Client) -> None:
    path = path.format(ask(api))
    got, head = api.get(path), api.head(path)
    assert head.status_code == got.status_code
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"]
    assert not head.content


def test_ready_names_what_is_missing(api: httpx.Client) -> None:
    ask(api)
    body = api.get("/ready").json()
    assert body["status"] == "degraded"
    assert body["parts"] == {"valkey": "ready", "workers": "none", "vector_store": "empty"}
    assert "no worker listens on rag_queries (1 waiting)" in body["warnings"][0]
    assert "index.py" in body["warnings"][1]


def test_ready_says_when_the_qdrant_server_is_away(make_settings: MakeSettings, valkey_url: str) -> None:
    settings = make_settings(valkey_url=valkey_url, qdrant_url="http://127.0.0.1:9")
    with serving(create_app(settings)) as url:
        body = httpx.get(f"{url}/ready").json()
    assert body["parts"]["vector_store"] == "unavailable"
    assert any("QDRANT_URL" in warning for warning in body["warnings"])


@contextmanager
def black_hole() -> Iterator[int]:
    """Listen on a port, take connections, and never send a byte."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextmanager
def nobody() -> Iterator[int]:
    """Find a port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


@pytest.mark.parametrize("valkey_away", [black_hole, nobody], ids=["black hole", "refused"])
def test_without_valkey_every_call_gets_503_in_time(valkey_away: Any, make_settings: MakeSettings) -> None:
    with valkey_away() as port:
        settings = make_settings(valkey_url=f"redis://127.0.0.1:{port}")
        with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as api:
            calls = [("POST", "/chat?query=Why"), ("GET", f"/job-status/{uuid7()}"), ("GET", f"/result/{uuid7()}")]
            for method, path in [*calls, ("GET", "/ready")]:
                response = api.request(method, path)
                assert_problem(response, 503)
                assert int(response.headers["retry-after"]) > 0


def test_many_calls_at_once_to_a_silent_valkey_all_get_503_in_time(make_settings: MakeSettings) -> None:
    with black_hole() as port, serving(create_app(make_settings(valkey_url=f"redis://127.0.0.1:{port}"))) as url:
        took: list[float] = []

        def call() -> None:
            started = time.monotonic()
            assert httpx.post(f"{url}/chat?query=Why", timeout=60).status_code == 503
            took.append(time.monotonic() - started)

        threads = [threading.Thread(target=call) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(took) == 30
        assert max(took) < 30  # each waits for 1.8 s: one after the other, the last would have taken 54 s


def test_the_api_comes_back_with_valkey(make_settings: MakeSettings, valkey_url: str) -> None:
    port = int(valkey_url.rpartition(":")[2])
    with nobody() as proxy_port:
        app = create_app(make_settings(valkey_url=f"redis://127.0.0.1:{proxy_port}"))
        with serving(app) as url:
            assert httpx.post(f"{url}/chat?query=Why").status_code == 503
            with _forward(proxy_port, port):
                assert httpx.post(f"{url}/chat?query=Why").status_code == 202


@contextmanager
def _forward(port: int, target: int) -> Iterator[None]:
    """Pass connections on `port` through to `target`."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    sink.sendall(data)

        def connect(client: socket.socket) -> None:
            with client, socket.create_connection(("127.0.0.1", target)) as upstream:
                threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
                pump(client, upstream)

        def accept() -> None:
            with suppress(OSError):  # closed at the end of the block
                while True:
                    threading.Thread(target=connect, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)  # wakes `accept`


def test_a_full_valkey_gives_503_with_the_reason(api: httpx.Client, valkey: Redis) -> None:
    valkey.config_set("maxmemory", "1mb")
    try:
        response = api.post("/chat", params={"query": "Why?"})
        assert "memory" in assert_problem(response, 503)["detail"]
        assert "retry-after" in response.headers
    finally:
        valkey.config_set("maxmemory", "0")


class Harm:
    """Makes a folder while it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)


def test_a_crafted_job_runs_no_code_in_the_api(api: httpx.Client, valkey: Redis, settings: Settings) -> None:
    target = settings.data_dir / "harm"
    settings.data_dir.mkdir(exist_ok=True)
    poison = pickle.dumps(Harm(str(target)))
    poisoned: list[dict[str | bytes, str | bytes]] = [
        {"status": "failed", "meta": poison},
        {"status": "finished"},
        {"status": "no such status"},
        {"status": "started", "created_at": "yesterday"},
        {"status": "failed", "meta": b"\x80garbage"},
    ]
    for fields in poisoned:
        job_id = ask(api)
        valkey.hset(f"rq:job:{job_id}", mapping=fields)  # type: ignore[arg-type]
        state = api.get(f"/job-status/{job_id}")
        assert state.status_code == 200
        assert state.json()["status"] == "failed"
        assert api.get(f"/result/{job_id}").status_code == 200
    assert not target.exists()


def test_a_job_of_another_program_is_not_shown(api: httpx.Client, valkey: Redis) -> None:
    job = Queue("other", connection=valkey).enqueue("os.getcwd")
    assert_problem(api.get(f"/result/{job.id}"), 404)


def test_a_cancelled_job_stays_cancelled(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    Job.fetch(job_id, connection=valkey).cancel()
    state = api.get(f"/job-status/{job_id}").json()
    assert (state["status"], state["error"]) == ("cancelled", "the job was cancelled")
    assert api.get(f"/result/{job_id}").json()["status"] == "cancelled"


def test_a_job_whose_worker_died_fails_with_that_reason(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    job = Job.fetch(job_id, connection=valkey)
    with valkey.pipeline() as pipeline:
        job.set_status("failed", pipeline=pipeline)  # type: ignore[arg-type]
        job._handle_failure("Work-horse terminated unexpectedly; waitpid returned 9", pipeline)
        pipeline.execute()
    result = api.get(f"/result/{job_id}").json()
    assert result["status"] == "failed"
    assert "worker died" in result["error"]
    registry = FailedJobRegistry(queue=Queue("rag_queries", connection=valkey))
    registry.requeue(job_id)
    assert api.get(f"/job-status/{job_id}").json()["status"] == "queued"


def test_swagger_needs_nothing_from_the_internet(api: httpx.Client) -> None:
    page = api.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("/static-offline-docs/swagger-ui-bundle.js", "/static-offline-docs/swagger-ui.css"):
        assert path in page
        assert api.get(path).status_code == 200


def test_the_examples_in_the_openapi_document_work(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    example = document["components"]["schemas"]["ChatRequest"]["examples"][0]
    assert api.post("/chat", json=example).status_code == 202
    parameters = document["paths"]["/chat"]["post"]["parameters"]
    examples = next(p for p in parameters if p["name"] == "query")["examples"]
    for shown in examples.values():
        assert api.post("/chat", params={"query": shown["value"]}).status_code == 202
