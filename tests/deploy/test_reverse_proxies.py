"""The API behind nginx, Caddy and HAProxy, configured as docs/deployment.md shows: addresses, and events one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from api.uvicorn_protocol import uvicorn_options
from server import create_app
from tests.api.test_api import ask, assert_problem
from tests.api.test_watching import finish, in_background, start
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import wait_until
from tests.support.proxies import PROXIES, nginx

BEHIND_PROXY = {"trusted_proxies": "127.0.0.1"}
UNDER_ROOT_PATH = {"root_path": "/rag"}
# HAProxy's example leaves the path in, and so sends no X-Forwarded-Prefix.
SETTINGS = {"nginx": BEHIND_PROXY, "caddy": BEHIND_PROXY, "haproxy": BEHIND_PROXY | UNDER_ROOT_PATH}
FORM = {"file": ("notes.txt", b"The bridge was built in 1932.")}


@contextmanager
def served(make_settings: MakeSettings, valkey_url: str, **values: Any) -> Iterator[str]:
    """Serve the API; yield its host and port."""
    settings = make_settings(valkey_url=valkey_url, webhook_allow_private=True, webhook_allow_http=True, **values)
    with serving(create_app(settings), **uvicorn_options(settings)) as url:
        yield url.removeprefix("http://")


@pytest.fixture(params=sorted(PROXIES))
def behind_proxy(
    request: pytest.FixtureRequest, make_settings: MakeSettings, valkey_url: str, tmp_path: Path
) -> Iterator[httpx.Client]:
    """A client of each proxy."""
    with (
        served(make_settings, valkey_url, **SETTINGS[request.param]) as api,
        PROXIES[request.param](api, tmp_path) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        yield client


def assert_public_under_rag(client: httpx.Client) -> None:
    """Check every address that the API names, as a client of the proxy."""
    page = client.get("/rag/docs").text
    named = re.findall(r"""(?:href|src|url)\s*[=:]\s*['"](/[^'"]+)['"]""", page)
    assert len(named) == 4
    assert {client.get(address).status_code for address in named} == {200}
    document = client.get("/rag/openapi.json").json()
    assert document["servers"] == [{"url": "/rag"}]

    created = [
        client.post("/rag/chat", json={"query": "Why?"}),
        client.post("/rag/chat?query=Why?", headers={"Idempotency-Key": "a"}),
        client.post("/rag/uploads", files=FORM),
        client.post("/rag/webhooks", json={"url": "http://127.0.0.1:9999/hook"}),
    ]
    assert all(answer.is_success for answer in created), [answer.text for answer in created]
    locations = [answer.headers["location"] for answer in created]
    assert [location.split("/")[1:3] for location in locations] == [
        ["rag", "job-status"],
        ["rag", "job-status"],
        ["rag", "uploads"],
        ["rag", "webhooks"],
    ]
    assert {client.get(location).status_code for location in locations[:3]} == {200}
    assert client.delete(locations[3]).status_code == 204
    assert assert_problem(client.get("/rag/nowhere"), 404)["detail"].endswith(": /rag/docs lists the routes")


def test_every_address_keeps_the_path_of_the_proxy(behind_proxy: httpx.Client) -> None:
    assert_public_under_rag(behind_proxy)


@pytest.mark.parametrize("strips", [True, False], ids=["strips", "keeps"])
def test_root_path_serves_proxies_that_strip_the_path_and_that_keep_it(
    strips: bool, make_settings: MakeSettings, valkey_url: str, tmp_path: Path
) -> None:
    def silent(location: str) -> str:
        lines = [line for line in location.splitlines() if "X-Forwarded" not in line]
        return "\n".join(lines) if strips else "\n".join(lines).replace("/;", ";")

    with (
        served(make_settings, valkey_url, **UNDER_ROOT_PATH) as api,
        nginx(api, tmp_path, change=silent) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        assert_public_under_rag(client)
        assert client.get("/rag/").json()["service"] == "RAG Query API"


def test_events_arrive_one_by_one_through_a_proxy_that_compresses(behind_proxy: httpx.Client, valkey: Redis) -> None:
    location = behind_proxy.post("/rag/chat", json={"query": "Why?"}).headers["location"]
    job_id = location.rpartition("/")[2]
    arrived: list[str] = []

    def work() -> None:
        writer = start(valkey, job_id)
        for number in range(3):
            writer.write("token", {"text": f"word {number}"})
            wait_until(lambda: len(arrived) > number)  # noqa: B023  before the next is written
        finish(valkey, job_id, writer)

    headers = {"Accept-Encoding": "gzip"}
    with (
        in_background(work),
        behind_proxy.stream("GET", f"/rag/jobs/{job_id}/events", headers=headers, timeout=30) as response,
    ):
        assert "no-transform" in response.headers["cache-control"]
        for line in response.iter_lines():
            if line.startswith("event: token"):
                arrived.append(line)  # noqa: PERF401  one by one, for the thread that writes
    assert len(arrived) == 3


def test_events_say_that_no_proxy_may_collect_them(api: httpx.Client) -> None:
    path = f"/jobs/{ask(api)}/events"
    for address in (path, f"{path}?a=b"):  # the second is answered by FastAPI's route
        with api.stream("GET", address) as response:
            assert response.headers["x-accel-buffering"] == "no"
            assert response.headers.get_list("cache-control") == ["no-cache, no-transform"]
