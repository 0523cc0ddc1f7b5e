"""Requests at once: what blocks for one request does not delay another, and what is too much is refused at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

import server
from api.routes import webhooks
from auth import api_keys
from auth.api_keys import ApiKeyRepository
from client.files.store import LocalFileStore
from client.sql.database import Database
from errors import FilesUnavailable
from schemas import DEFAULT_SCOPES
from server import create_app
from settings import Settings
from tests.api.test_api import assert_problem
from tests.api.test_hostile_requests import connect, exchange, read_all, status_of
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving
from tests.support.processes import wait_until
from webhooks import ssrf

MIB = 1024 * 1024


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocked calls wait for. Opens at the end of the test at the latest."""
    opened = threading.Event()
    yield opened
    opened.set()


@contextmanager
def serving_with(settings: Settings, **values: object) -> Iterator[httpx.Client]:
    with (
        serving(create_app(settings.model_copy(update=TAKING_TOKENS | values))) as url,
        httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_connections=None)) as api,
    ):
        yield api


def upload_head(user: str, size: int | None) -> bytes:
    """Return the head of an upload whose body does not follow; None: chunked."""
    body = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    lines = ("POST /uploads HTTP/1.1", "Host: localhost", "Connection: close", body)
    content_type = "Content-Type: multipart/form-data; boundary=B"
    return "\r\n".join((*lines, content_type, f"Authorization: Bearer {token(user)}", "", "")).encode()


def test_uploads_that_wait_for_the_disk_delay_neither_health_nor_lists(
    settings: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, waiting = LocalFileStore.put, []

    def slow_put(store: LocalFileStore, *arguments: object) -> None:
        waiting.append(arguments)
        assert gate.wait(30)
        put(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalFileStore, "put", slow_put)
    alice = bearer(token("alice"))
    with serving_with(settings) as api, ThreadPoolExecutor(60) as clients:
        sent = [
            clients.submit(api.post, "/uploads", files={"file": ("a.txt", f"text {n}".encode())}, headers=alice)
            for n in range(60)
        ]
        wait_until(lambda: len(waiting) == 4)  # all threads for files wait
        assert api.get("/health", timeout=5).status_code == 200
        assert api.get("/uploads", headers=alice, timeout=5).status_code == 200
        gate.set()
        assert Counter(answer.result().status_code for answer in sent) == {202: 60}


def test_a_resolver_that_hangs_delays_no_other_request(
    settings: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(_host: str, _port: int) -> list[str]:
        gate.wait(30)
        raise OSError

    monkeypatch.setattr(ssrf, "lookup", hang)
    monkeypatch.setattr(webhooks, "RESOLVE_SECONDS", 0.3)
    with serving_with(settings) as api, ThreadPoolExecutor(60) as clients:

        def register(number: int) -> httpx.Response:
            url = {"url": f"https://host-{number}.example.com/hook"}
            return api.post("/webhooks", json=url, headers=bearer(token(f"user{number}")))

        sent = [clients.submit(register, number) for number in range(60)]
        assert api.get("/health", timeout=5).status_code == 200
        answers = [answer.result() for answer in sent]
        assert {answer.status_code for answer in answers} == {201, 503}
        assert sum(answer.status_code == 201 for answer in answers) >= 32
        assert all(answer.headers["retry-after"] == "5" for answer in answers if answer.status_code == 503)


def test_a_database_that_hangs_delays_no_caller_whose_key_is_known(
    settings: Settings, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "REFRESH_SECONDS", 0.01)
    database = Database(settings)
    _, key = ApiKeyRepository(database).create("good", user_id="alice", scopes=DEFAULT_SCOPES)
    database.close()
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=5) as api:
        hanging = threading.Event()

        def hang(_keys: ApiKeyRepository) -> str:
            hanging.set()
            gate.wait(30)
            return ""

        monkeypatch.setattr(ApiKeyRepository, "version", hang)
        assert hanging.wait(5)
        assert api.get("/health").status_code == 200
        assert api.get("/jobs", headers=bearer(key)).status_code == 200
        assert api.get("/jobs", headers=bearer("rag_other")).status_code == 401
        gate.set()


@pytest.mark.parametrize("processes", [1, 3])
def test_the_bodies_received_at_a_time_have_a_limit(
    processes: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits of one process here: 16 MiB for a caller, 32 MiB for all."""
    monkeypatch.setattr(server, "BODIES_OF_CALLER", 1)
    monkeypatch.setattr(server, "BODIES_OF_ALL", 2 * processes)
    limits = {"max_upload_mb": 16, "api_processes": processes}
    app = create_app(settings.model_copy(update=TAKING_TOKENS | limits))
    with serving(app) as url:

        def refused(user: str, size: int | None, *body: bytes) -> int:
            answer = exchange(url, upload_head(user, size), *body)
            assert b"retry-after: 5" in answer
            return status_of(answer)

        part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        chunks = [b"%x\r\n%s\r\n" % (len(data), data) for data in (part, *[b"x" * MIB] * 8)]
        with connect(url) as alice, connect(url) as bob, connect(url) as carol:
            alice.sendall(upload_head("alice", 10 * MIB) + part)
            wait_until(lambda: refused("alice", 10 * MIB) == 429)
            assert refused("alice", None, *chunks) == 429
            for user, connection in {"bob": bob, "carol": carol}.items():
                connection.sendall(upload_head(user, 10 * MIB) + part)
            wait_until(lambda: refused("dave", 10 * MIB) == 503)
            assert refused("dave", None, *chunks) == 503
        # What has ended no longer counts.
        small = part + b"text\r\n--B--\r\n"
        padded = small + b" " * (10 * MIB - len(small))

        def accepted() -> bool:
            with connect(url) as connection:
                connection.sendall(upload_head("alice", 10 * MIB) + padded)
                return status_of(read_all(connection)) == 202

        wait_until(accepted)


@pytest.mark.parametrize(
    ("limits", "used", "name"),
    [
        ({"uploads_per_day": 1}, b"text", "UPLOADS_PER_DAY"),
        ({"max_stored_mb": 1}, b"word " * 200_000, "MAX_STORED_MB"),
        ({"max_queued_jobs": 1}, b"text", "MAX_QUEUED_JOBS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_user_over_a_limit_is_refused_before_the_body(
    limits: dict[str, int], used: bytes, name: str, settings: Settings
) -> None:
    alice = bearer(token("alice")) | {"Idempotency-Key": "one"}
    first = {"file": ("a.txt", used)}
    with serving_with(settings, **limits) as api:
        assert api.post("/uploads", files=first, headers=alice).status_code == 202
        answer = exchange(str(api.base_url), upload_head("alice", MIB))
        assert status_of(answer) == 429
        assert name.encode() in answer
        # A repeated request is answered as before, also over the limit.
        assert api.post("/uploads", files=first, headers=alice).status_code == 202


def test_an_upload_that_could_not_be_stored_is_not_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    put = LocalFileStore.put

    def fail(_store: LocalFileStore, *_arguments: object) -> None:
        raise FilesUnavailable("the disk is full", retry_after_seconds=5)

    alice = bearer(token("alice"))
    with serving_with(settings, uploads_per_day=2) as api:
        files = [("file", ("a.txt", b"one")), ("file", ("b.txt", b"two"))]
        monkeypatch.setattr(LocalFileStore, "put", fail)
        for _ in range(3):
            assert_problem(api.post("/uploads", files=files, headers=alice), 503)
        monkeypatch.setattr(LocalFileStore, "put", put)
        assert api.post("/uploads", files=files, headers=alice).status_code == 202
        assert_problem(api.post("/uploads", files=files[:1], headers=alice), 429)
