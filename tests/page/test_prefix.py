"""The page behind a reverse proxy that adds a path: every request stays below the path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES
from server import create_app
from tests.conftest import MakeSettings
from tests.page.conftest import QUESTION, Watched, ask
from tests.support.openai_stub import serving
from tests.support.service import Service

PREFIX = "/tools/rag"


@pytest.mark.usefixtures("handbook_id")
def test_asking_and_looking_at_a_source_below_a_path(page: Page, service: Service, watched: Watched) -> None:
    paths: list[str] = []
    page.on("request", lambda request: paths.append(urlsplit(request.url).path))
    with serving(_proxy(service.url)) as url:
        watched.host = urlsplit(url).netloc
        page.goto(f"{url}{PREFIX}/")
        ask(page, f"{QUESTION[:-1]}, below a path?")
        page.get_by_role("list", name="Sources").get_by_role("button").first.click()
        expect(page.locator("figure.loaded")).to_be_visible()
        expect(page.locator(".mark").first).to_be_visible()
        for screen in ("Documents", "Activity", "Admin"):
            page.get_by_role("link", name=screen, exact=True).click()
            expect(page.get_by_role("heading", level=1, name=screen)).to_be_visible()
    _check(paths)


def test_the_cookie_of_a_session_is_of_the_path(
    page: Page, watched: Watched, make_settings: MakeSettings, valkey_url: str
) -> None:
    watched.expected = ["401"]
    settings = make_settings(valkey_url=valkey_url, root_path=PREFIX)
    paths: list[str] = []
    page.on("request", lambda request: paths.append(urlsplit(request.url).path))
    with (
        closing(Database(settings)) as database,
        serving(create_app(settings)) as upstream,
        serving(_proxy(f"{upstream}/")) as url,
    ):
        _, text = ApiKeyRepository(database).create("laptop", user_id="alice", scopes=DEFAULT_SCOPES)
        watched.host = urlsplit(url).netloc
        page.goto(f"{url}{PREFIX}/")
        page.get_by_label("Key").fill(text)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Try the sample")).to_be_visible()
        (cookie,) = page.context.cookies(f"{url}{PREFIX}/")
        assert cookie["path"] == PREFIX
        page.get_by_role("link", name="Admin", exact=True).click()
        page.get_by_role("link", name="API reference").click()
        expect(page.get_by_role("heading", name="RAG Query API")).to_be_visible()
        page.goto(f"{url}{PREFIX}/#/admin")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Key")).to_be_visible()
        assert page.context.cookies(f"{url}{PREFIX}/") == []
    _check(paths)


def _check(paths: list[str]) -> None:
    assert len(paths) > 10
    assert [path for path in paths if not path.startswith(f"{PREFIX}/")] == []


def _proxy(upstream: str) -> Starlette:
    """A proxy that takes requests below PREFIX, and strips it."""
    client = httpx.AsyncClient(base_url=upstream, timeout=60)

    @asynccontextmanager
    async def closing_client(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> Response:
        target = f"{request.path_params['path']}?{request.url.query}"
        headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
        asked = client.build_request(request.method, target, headers=headers, content=await request.body())
        got = await client.send(asked, stream=True)
        kept = {name: value for name, value in got.headers.items() if name not in {"transfer-encoding", "connection"}}
        return StreamingResponse(_parts(got), got.status_code, kept)

    routes = [Route(f"{PREFIX}/{{path:path}}", forward, methods=["GET", "POST", "DELETE"])]
    return Starlette(routes=routes, lifespan=closing_client)


async def _parts(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in response.aiter_raw():
            yield part
    finally:
        await response.aclose()
