"""The page of a browser: its files, and sessions in place of keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api import page_files
from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES
from server import create_app
from settings import Settings
from tests.api.test_security_headers import service
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import wait_until

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def keys(settings: Settings) -> Iterator[ApiKeyRepository]:
    database = Database(settings)
    yield ApiKeyRepository(database)
    database.close()


@pytest.fixture
def browser(settings: Settings, keys: ApiKeyRepository) -> Iterator[httpx.Client]:
    """A client that keeps cookies, of a server that asks for keys. Its header `key` is the key for the test."""
    made, text = keys.create("page", user_id="alice", scopes=DEFAULT_SCOPES)
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=10) as client:
        client.headers.update({"x-test-key": text, "x-test-key-id": made.key_id})
        yield client


def sign_in(browser: httpx.Client, **headers: str) -> httpx.Response:
    return browser.post("/session", json={"key": browser.headers["x-test-key"]}, headers=headers)


def test_a_session_stands_for_its_key_until_the_key_is_revoked(browser: httpx.Client, keys: ApiKeyRepository) -> None:
    assert browser.get("/jobs").status_code == 401
    signed_in = sign_in(browser)
    assert signed_in.status_code == 201
    assert (signed_in.json()["user_id"], signed_in.json()["scopes"]) == ("alice", ["query", "upload"])
    cookie = signed_in.headers["set-cookie"]
    for part in ("rag_session=", "HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    assert browser.headers["x-test-key"] not in cookie
    assert browser.get("/jobs").status_code == 200
    asked = browser.post("/chat", json={"query": "Why?"}, headers=SAME)
    assert asked.status_code == 202
    with browser.stream("GET", f"/jobs/{asked.json()['job_id']}/events") as events:
        assert events.status_code == 200
        assert next(events.iter_lines()) == "event: queued"
    keys.revoke(browser.headers["x-test-key-id"])
    wait_until(lambda: browser.get("/jobs").status_code == 401, what="the end of the session with its key")
    assert "sign in again" in browser.get("/jobs").json()["detail"]


def test_other_pages_change_nothing_by_the_cookie(browser: httpx.Client) -> None:
    assert sign_in(browser, Origin="https://evil.example").status_code == 403
    assert sign_in(browser).status_code == 201
    host = browser.base_url.netloc.decode()
    foreign: list[dict[str, str]] = [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"http://{host}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ]
    for headers in foreign:
        answer = browser.post("/chat", json={"query": "Why?"}, headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (403, "Not allowed"), headers
    by_key = {"Authorization": f"Bearer {browser.headers['x-test-key']}"}
    for headers in (SAME, {"Origin": f"http://{host}"}, {"Origin": f"https://{host}"}, by_key):
        assert browser.post("/chat", json={"query": "Why?"}, headers=headers).status_code == 202, headers


def test_signing_out_ends_every_copy_of_the_cookie(browser: httpx.Client) -> None:
    sign_in(browser)
    copy = {"Cookie": f"other=1; rag_session={browser.cookies['rag_session']}"}
    assert browser.get("/jobs", headers=copy).status_code == 200
    assert browser.delete("/session", headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.delete("/session", headers=SAME).status_code == 204
    assert "rag_session" not in browser.cookies
    assert browser.get("/jobs", headers=copy).status_code == 401
    assert browser.delete("/session").status_code == 204


def test_wrong_keys_start_no_session(browser: httpx.Client) -> None:
    for key, status in (("rag_wrong", 401), ("not a key", 422), ("rag_" + "x" * 600, 422), (7, 422)):
        answer = browser.post("/session", json={"key": key})
        assert (answer.status_code, "set-cookie" in answer.headers) == (status, False), key
        assert str(key) not in answer.text
    assert {browser.post("/session", json={"key": f"rag_{n}"}).status_code for n in range(40)} == {401, 429}


def test_a_server_without_keys_has_no_sessions(api: httpx.Client) -> None:
    assert api.post("/session", json={"key": "rag_x"}).status_code == 409


def test_the_page_is_for_browsers(
    make_settings: MakeSettings, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "index.html": "<!doctype html><head><title>x</title>",
        "app.js": "export {}",
        ".env": "secret",
        "a.py": "x",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path.parent / "outside.js").write_text("secret")
    monkeypatch.setattr(page_files.PageFiles.__init__, "__defaults__", (tmp_path,))
    with service(make_settings, valkey_url, auth_required=True, root_path="/rag") as client:
        assert client.get("/").json()["service"] == "RAG Query API"
        page = client.get("/rag/", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.text == files["index.html"].replace("<head>", '<head><base href="/rag/">')
        assert page.headers["content-security-policy"] == page_files.POLICY
        assert page.headers["vary"] == "Accept, Accept-Encoding"
        script = client.get("/rag/page/app.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert (script.text, script.headers["content-encoding"]) == ("export {}", "gzip")
        assert client.get("/page/app.js", headers={"If-None-Match": script.headers["etag"]}).status_code == 304
        plain = client.get("/page/app.js", headers={"Accept-Encoding": "identity"})
        assert (plain.content, "content-encoding" in plain.headers) == (b"export {}", False)
        for name in (".env", "a.py", "%2e%2e/outside.js", "..%2foutside.js", "", "app.js/", "none.js"):
            assert client.get(f"/page/{name}").status_code == 404, name
        (tmp_path / "app.js").write_text("export default 1")
        assert client.get("/page/app.js").text == "export default 1"
