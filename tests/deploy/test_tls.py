"""Valkey and Qdrant over TLS, with a certificate authority of one's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.connection import connect
from client.qdrant.health import vector_store_condition
from client.qdrant.server import server_store
from errors import StoreUnavailable
from schemas import SearchFilter
from server import create_app
from settings.unencrypted import unencrypted_secrets
from tests.conftest import MakeSettings
from tests.support import acl
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, ROOT, RQ, environment, refused, running
from tests.support.tls import make_certificates, tls_in_front


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def secure_url(valkey_url: str, certificates: Path) -> Iterator[str]:
    """A Valkey behind TLS, for the service's user."""
    with tls_in_front(urlsplit(valkey_url).port or 0, certificates, name="valkey") as port:
        yield f"rediss://{acl.USER}:{acl.PASSWORD}@127.0.0.1:{port}"


def test_questions_are_answered_over_tls(
    secure_url: str, certificates: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    ca_file = str(certificates / "ca.crt")
    settings = make_settings(valkey_url=secure_url, tls_ca_file=ca_file)
    use = {"VALKEY_URL": secure_url, "TLS_CA_FILE": ca_file, "DATA_DIR": str(settings.data_dir)}
    with (
        running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use),
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=20) as api,
    ):
        upload = api.post("/uploads", files={"file": ("a.txt", b"The lamp is blue.")}).json()
        assert api.get(f"/result/{upload['job_id']}", params={"wait": 15}).json()["status"] == "completed"
        job = api.post("/chat", json={"query": "What is the lamp?"}).json()["job_id"]
        assert "blue" in api.get(f"/result/{job}", params={"wait": 15}).json()["result"]
        assert api.get("/ready").json()["parts"]["workers"] == "ready"


def test_stock_rq_reads_the_certificates_from_the_url(
    secure_url: str, certificates: Path, make_settings: MakeSettings
) -> None:
    url = make_settings(valkey_url=secure_url, tls_ca_file=certificates / "ca.crt").queue_url
    for command in (["info"], ["worker", "--burst", "rag_queries"]):
        done = subprocess.run(
            [RQ, *command, "--url", url], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("trust", ["strangers", "system"])
def test_a_valkey_whose_certificate_is_not_trusted_is_refused(
    trust: str, secure_url: str, strangers: Path, make_settings: MakeSettings
) -> None:
    ca_file = strangers / "ca.crt" if trust == "strangers" else None
    settings = make_settings(valkey_url=secure_url, tls_ca_file=ca_file)
    with serving(create_app(settings)) as url:
        assert httpx.post(f"{url}/chat", params={"query": "Is anybody there?"}).status_code == 503


def test_a_certificate_for_another_host_is_refused(
    valkey_url: str, certificates: Path, make_settings: MakeSettings
) -> None:
    ca_file = certificates / "ca.crt"
    with tls_in_front(urlsplit(valkey_url).port or 0, certificates, name="valkey", host="127.0.0.2") as port:
        url = make_settings(valkey_url=f"rediss://127.0.0.2:{port}", tls_ca_file=ca_file).queue_url
        with Redis.from_url(url) as valkey, pytest.raises(RedisError, match="certificate is not valid for"):
            valkey.ping()


class _Qdrant(BaseHTTPRequestHandler):
    """As much of a Qdrant as tells that a collection is not there, to those who have the key."""

    def do_GET(self) -> None:
        self.answer(200, {"result": {"exists": False}, "status": "ok", "time": 0})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(404, {"status": {"error": "Not found"}})

    def answer(self, status: int, content: object) -> None:
        known = self.headers["api-key"] == "the-key"
        body = json.dumps(content).encode() if known else b""
        self.send_response(status if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def secure_qdrant(certificates: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Qdrant) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with tls_in_front(server.server_address[1], certificates, name="qdrant") as port:
            yield f"https://127.0.0.1:{port}"
        server.shutdown()
        thread.join()


def test_a_qdrant_server_over_tls(secure_qdrant: str, certificates: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(qdrant_url=secure_qdrant, qdrant_api_key="the-key", tls_ca_file=certificates / "ca.crt")
    assert asyncio.run(vector_store_condition(settings)) == "empty"
    stranger = settings.model_copy(update={"qdrant_api_key": None})
    assert asyncio.run(vector_store_condition(stranger)) == "refused"
    client = connect(settings)
    assert not client.collection_exists("chunks")
    client.close()


@pytest.mark.parametrize("trust", ["strangers", "system"])
def test_a_qdrant_whose_certificate_is_not_trusted_is_refused(
    trust: str, secure_qdrant: str, strangers: Path, make_settings: MakeSettings
) -> None:
    ca_file = strangers / "ca.crt" if trust == "strangers" else None
    settings = make_settings(qdrant_url=secure_qdrant, qdrant_api_key="the-key", tls_ca_file=ca_file)
    assert asyncio.run(vector_store_condition(settings)) == "unavailable"
    store = server_store(connect(settings), model="bm25", dense=None, bm25=Bm25Encoder())
    with pytest.raises(StoreUnavailable):
        store.count(SearchFilter(user_id="local"))
    store.close()


def test_the_certificates_are_named_once_in_the_url(certificates: Path, make_settings: MakeSettings) -> None:
    ca_file = certificates / "ca.crt"
    url = make_settings(valkey_url="rediss://example.test:7000/1?protocol=2", tls_ca_file=ca_file).queue_url
    assert url == f"rediss://example.test:7000/1?protocol=2&ssl_ca_certs={ca_file}"
    assert make_settings(valkey_url=url, tls_ca_file=ca_file).queue_url == url
    assert make_settings(valkey_url="redis://example.test", tls_ca_file=ca_file).queue_url == "redis://example.test"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_cannot_be_read_stop_the_start(content: str | None, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.crt"
    if content is not None:
        ca_file.write_text(content)
    said = refused("api", TLS_CA_FILE=str(ca_file), DATA_DIR=str(tmp_path))
    assert said.startswith("error: TLS_CA_FILE must name a readable PEM file of certificates")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"valkey_url": "redis://:secret@9.9.9.9:6379"}, ["VALKEY_URL"]),
        ({"valkey_url": "redis://:secret@valkey.example.com"}, ["VALKEY_URL"]),
        ({"qdrant_url": "http://qdrant.example.com:6333", "qdrant_api_key": "secret"}, ["QDRANT_URL"]),
        ({"openai_base_url": "http://models.example.com/v1", "openai_api_key": "secret"}, ["OPENAI_BASE_URL"]),
        ({"rerank_url": "http://[2001:4860::1]/rerank", "rerank_api_key": "secret"}, ["RERANK_URL"]),
        ({"valkey_url": "rediss://:secret@valkey.example.com", "qdrant_url": "https://qdrant.example.com"}, []),
        ({"valkey_url": "redis://:secret@valkey:6379", "qdrant_url": "http://qdrant.internal:6333"}, []),
        ({"valkey_url": "unix:///run/valkey.sock", "qdrant_url": "http://[::1]:6333"}, []),
        ({"valkey_url": "redis://:secret@10.1.2.3", "qdrant_url": "http://192.168.1.2:6333"}, []),
        ({}, []),
    ],
)
def test_secrets_sent_unencrypted_are_warned_of(
    values: dict[str, str], named: list[str], make_settings: MakeSettings
) -> None:
    warnings = unencrypted_secrets(make_settings(**values))
    assert [warning.split()[0] for warning in warnings] == named
    assert "secret" not in " ".join(warnings).replace("secrets", "")


def test_the_api_warns_when_it_starts(make_settings: MakeSettings, caplog: pytest.LogCaptureFixture) -> None:
    with serving(create_app(make_settings(valkey_url="redis://9.9.9.9:6379"))):
        assert [line for line in caplog.messages if line.startswith("VALKEY_URL sends")]
