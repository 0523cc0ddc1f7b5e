"""The security headers of responses, and which web pages may call the service."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.uvicorn_protocol import uvicorn_options
from errors import SettingsError
from server import create_app
from tests.api.test_api import assert_problem
from tests.conftest import MakeSettings
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.openai_stub import serving

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PAGE = "https://app.example"


@contextmanager
def service(make_settings: MakeSettings, valkey_url: str, **values: Any) -> Iterator[httpx.Client]:
    settings = make_settings(valkey_url=valkey_url, **values)
    with (
        serving(create_app(settings), **uvicorn_options(settings)) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        yield client


@pytest.fixture
def api(make_settings: MakeSettings, valkey_url: str) -> Iterator[httpx.Client]:
    with service(make_settings, valkey_url) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("POST", "/chat"),
        ("PUT", "/chat"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
    ],
)
def test_every_response_has_the_security_headers(method: str, path: str, api: httpx.Client) -> None:
    headers = api.request(method, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert len(headers["x-request-id"]) == 32
    assert "server" not in headers
    assert "strict-transport-security" not in headers
    assert not [name for name in headers if name.startswith("access-control-")]


def test_a_500_has_the_security_headers_too(make_settings: MakeSettings, valkey_url: str) -> None:
    app = create_app(make_settings(valkey_url=valkey_url))

    @app.get("/boom")
    async def boom() -> None:
        """Fail."""
        raise ValueError("a secret of the inside")

    with serving(app) as url:
        answer = httpx.get(f"{url}/boom", headers={"X-Request-ID": "mine-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-request-id"] == "mine-1"
    assert "secret" not in answer.text


def test_a_well_formed_request_id_is_kept(api: httpx.Client) -> None:
    assert api.get("/", headers={"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "x" * 65, '"}', ""):
        assert len(api.get("/", headers={"X-Request-ID": odd}).headers["x-request-id"]) == 32


def test_an_uploaded_file_is_saved_and_never_shown(api: httpx.Client) -> None:
    page = b"<html><script>alert(1)</script></html>"
    upload = api.post("/uploads", files={"file": ("a.html", page, "text/html")}).json()
    answer = api.get(f"/uploads/{upload['upload_id']}/file")
    assert answer.content == page
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_hsts_is_sent_only_behind_a_trusted_proxy(make_settings: MakeSettings, valkey_url: str) -> None:
    forwarded = {"X-Forwarded-Proto": "https"}
    with service(make_settings, valkey_url) as client:
        assert "strict-transport-security" not in client.get("/", headers=forwarded).headers
    with service(make_settings, valkey_url, trusted_proxies="127.0.0.1") as client:
        assert "max-age=" in client.get("/", headers=forwarded).headers["strict-transport-security"]


# -- other origins


def test_pages_of_listed_origins_may_call(make_settings: MakeSettings, valkey_url: str) -> None:
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    with service(make_settings, valkey_url, cors_origins=f"{PAGE}, http://localhost:3000") as client:
        preflight = client.options("/chat", headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in preflight.headers
        asked = client.post("/chat", json={"query": "Why?"}, headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site"})
        assert asked.status_code == 202
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "X-Request-ID" in asked.headers["access-control-expose-headers"]
        other = client.options("/chat", headers=asks | {"Origin": "https://evil.example"})
        assert assert_problem(other, 400)["detail"].startswith("Disallowed CORS origin")
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_origins_are_refused(headers: dict[str, str], api: httpx.Client) -> None:
    for method, path in (("POST", "/chat?query=a"), ("DELETE", "/uploads/x"), ("POST", "/webhooks")):
        refused = api.request(method, path, headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        assert "CORS_ORIGINS" in refused.json()["detail"]
    assert api.get("/jobs").json()["jobs"] == []


def test_the_servers_page_and_programs_may_call(api: httpx.Client) -> None:
    own = {"Origin": str(api.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert api.post("/chat?query=a", headers=own).status_code == 202
    assert api.post("/chat?query=a").status_code == 202
    assert api.post("/chat?query=a", headers={"Sec-Fetch-Site": "none"}).status_code == 202


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.168.0.7", 421),
        ("0.0.0.0", 421),
        ("[::2", 421),
        ("localhost", 200),
        ("localhost:9999", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:8000", 200),
        ("rag.localhost", 200),
    ],
)
def test_a_foreign_name_that_resolves_to_this_server_is_refused(host: str, status: int, api: httpx.Client) -> None:
    answer = api.get("/jobs", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        assert answer.headers["content-type"] == "application/problem+json"


def test_allowed_hosts_adds_names_and_other_hosts_accept_any_name(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(make_settings, valkey_url, allowed_hosts="rag.example, other.example") as client:
        assert client.get("/", headers={"Host": "rag.example"}).status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    with service(make_settings, valkey_url, host="0.0.0.0") as client:
        assert client.get("/", headers={"Host": "rag.example"}).status_code == 200


def test_the_host_of_the_public_url_is_allowed(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(
        make_settings, valkey_url, public_url="https://rag.example/docs", allowed_hosts="other.example"
    ) as client:
        for host in ("rag.example", "RAG.example:443", "other.example"):
            assert client.get("/", headers={"Host": host}).status_code == 200
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    with service(make_settings, valkey_url, public_url="https://rag.example", host="0.0.0.0") as client:
        assert client.get("/", headers={"Host": "192.168.0.7"}).status_code == 200


def test_without_keys_no_foreign_page_may_change_anything_beyond_loopback(
    make_settings: MakeSettings, valkey_url: str
) -> None:
    with service(make_settings, valkey_url, host="0.0.0.0", allow_anonymous=True) as client:
        for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.post("/chat?query=a", headers=foreign).status_code == 403
        own = {"Host": "rag.example", "Origin": "https://rag.example"}
        assert client.post("/chat?query=a", headers=own).status_code == 202
    with service(
        make_settings, valkey_url, host="0.0.0.0", allow_anonymous=True, allowed_hosts="rag.example"
    ) as client:
        assert client.post("/chat?query=a", headers=own).status_code == 202
        assert client.post("/chat?query=a", headers={"Host": "evil.example"}).status_code == 421


def test_a_caller_with_a_key_may_use_any_host_name(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(make_settings, valkey_url, **TAKING_TOKENS) as client:
        proxied = {"Host": "rag.example", "Origin": "https://app.example"}
        assert client.post("/chat?query=a", headers=proxied).status_code == 401
        assert client.post("/chat?query=a", headers=proxied | bearer(token("alice"))).status_code == 202


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cors_origins", "*,https://app.example"),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/path"),
        ("cors_origins", "null"),
        ("allowed_hosts", "http://rag.example"),
        ("allowed_hosts", "rag.example:8000"),
    ],
)
def test_an_invalid_list_setting_stops_the_start(name: str, value: str, make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match=name.upper()):
        make_settings(**{name: value})


# -- the docs


def test_the_docs_can_be_turned_off(make_settings: MakeSettings, valkey_url: str) -> None:
    with service(make_settings, valkey_url, docs_enabled=False) as client:
        for path in ("/docs", "/openapi.json", "/redoc", "/static-offline-docs/swagger-ui-bundle.js"):
            assert client.get(path).status_code == 404
        assert "/docs" not in client.get("/nowhere").json()["detail"]


def test_the_docs_let_only_their_own_script_run(api: httpx.Client) -> None:
    page = api.get("/docs")
    policy = page.headers["content-security-policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert f"script-src 'self' 'sha256-{hashes[0]}';" in policy
    assert len(hashes) == 1
    assert not re.search(r"https?://", page.text)
    assert api.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_docs_work_in_a_browser_under_their_policy(api: httpx.Client, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=15000", "--dump-dom", f"{api.base_url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "Content Security Policy" not in done.stderr, done.stderr
    assert "operations-chat-" in done.stdout  # Swagger has read the document and drawn the routes
