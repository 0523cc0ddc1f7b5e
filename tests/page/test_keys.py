"""Keys: the page of a server that asks for one, who sees what, and making and revoking them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES, KeyScope
from server import create_app
from settings import Settings
from tests.page.conftest import Watched, drop
from tests.support.openai_stub import serving
from tests.support.processes import wait_until


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """The address of a server of this test, without documents and workers."""
    with serving(create_app(settings)) as url:
        yield url


def sign_in(page: Page, text: str) -> None:
    page.get_by_label("Key").fill(text)
    page.get_by_role("button", name="Sign in").click()


def test_a_server_with_keys_asks_for_one(page: Page, address: str, watched: Watched, settings: Settings) -> None:
    watched.expected = ["401"]
    with closing(Database(settings)) as database:
        keys = ApiKeyRepository(database)
        made, text = keys.create("page", user_id="alice", scopes=DEFAULT_SCOPES)
        wait_until(lambda: page.context.request.get(f"{address}/jobs").status == 401, what="the first key")
        page.goto(address)
        sign_in(page, "rag_wrong")
        expect(page.get_by_role("alert")).to_contain_text("This key is wrong")
        sign_in(page, text)
        expect(page.get_by_role("button", name="Try the sample")).to_be_visible()
        assert page.evaluate("document.cookie") == ""

        # The session ends with its key: the page asks for another.
        keys.revoke(made.key_id)
        wait_until(lambda: page.context.request.get(f"{address}/jobs").status == 401, what="the end of the session")
        page.get_by_role("link", name="Documents", exact=True).click()
        expect(page.get_by_role("dialog")).to_contain_text("Your session has ended.")
        _, text = keys.create("another", user_id="alice", scopes=DEFAULT_SCOPES)
        wait_until(lambda: _status(page, address, text) == 200, what="the new key")  # read twice a second
        sign_in(page, text)
        expect(page.get_by_text("No documents yet.")).to_be_visible()


def test_an_admin_makes_and_revokes_keys(page: Page, address: str, watched: Watched) -> None:
    watched.expected = ["401"]
    page.goto(f"{address}/#/admin")
    expect(page.get_by_text("No keys: everybody who reaches this server may use it.")).to_be_visible()
    page.get_by_role("button", name="New key").click()
    expect(page.get_by_text("From this key on every caller needs a key")).to_be_visible()
    page.get_by_label("Name").fill("operator")
    page.get_by_role("button", name="Make the key").click()
    first = page.locator(".address").inner_text()
    page.get_by_role("button", name="Done").click()

    # The first key closes the server, for this page too.
    sign_in(page, first)
    keys = page.locator(".keys li").filter(has=page.get_by_text("until revoked"))
    expect(keys).to_have_count(1)
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("laptop of alice")
    page.get_by_role("textbox", name="User").fill("alice")
    page.get_by_label("add documents").uncheck()
    page.get_by_role("button", name="Make the key").click()
    second = page.locator(".address").inner_text()
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("listitem").filter(has_text="laptop of alice")
    expect(row).to_contain_text("user alice")
    expect(row).to_contain_text("query")
    assert _status(page, address, second) == 200
    users = page.get_by_role("list", name="Users").get_by_role("listitem")
    expect(users).to_have_count(2)
    alice = users.filter(has_text="alice")
    for text in ("1 key", "0 documents, 0 bytes", "0 conversations", "0 waiting"):
        expect(alice.locator(".uses")).to_contain_text(text)

    row.get_by_role("button", name="Revoke laptop of alice").click()
    page.get_by_role("button", name="Revoke", exact=True).click()
    expect(row.locator(".state.failed")).to_have_text("revoked")
    assert _status(page, address, second) == 401


def test_a_key_shows_what_it_may(
    page: Page, address: str, watched: Watched, settings: Settings, tmp_path: Path
) -> None:
    watched.expected = ["401"]  # a 403 would be an error of the console
    with closing(Database(settings)) as database:
        keys = ApiKeyRepository(database)
        _, asks = keys.create("reader", user_id="alice", scopes=[KeyScope.QUERY])
        _, brings = keys.create("scanner", user_id="bob", scopes=[KeyScope.UPLOAD])
        wait_until(lambda: page.context.request.get(f"{address}/jobs").status == 401, what="the first key")
        page.goto(address)
        sign_in(page, asks)
        expect(page.get_by_text("There are no documents yet, and your key may not add any.")).to_be_visible()
        for screen in ("Documents", "Activity", "Admin"):
            page.get_by_role("link", name=screen, exact=True).click()
            expect(page.get_by_role("heading", level=1, name=screen)).to_be_visible()
            expect(page.get_by_role("button", name="Add files")).to_have_count(0)
        expect(page.get_by_role("heading", name="Health")).to_be_visible()
        for part in ("Keys", "Users", "Settings in force"):
            expect(page.get_by_role("heading", name=part, exact=True)).to_be_hidden()
        expect(page.get_by_role("button", name="Build again")).to_have_count(0)
        note = tmp_path / "note.txt"
        note.write_text("A note.")
        drop(page, note)
        expect(page.locator(".toast")).to_contain_text("Your key may not add documents.")

        # Another user signs in: nothing of the one before is left.
        page.get_by_role("button", name="Sign out").click()
        with page.expect_navigation():  # the page forgets what it knew
            sign_in(page, brings)
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("link", name="Documents", exact=True).click()
        expect(page.get_by_role("button", name="Add files")).to_be_visible()
        drop(page, note)
        expect(page.get_by_role("region", name="Files on their way")).to_contain_text("note.txt")
        page.get_by_role("link", name="Ask", exact=True).click()
        expect(page.get_by_text("Your key may add documents, but not ask.")).to_be_visible()


def _status(page: Page, url: str, key: str) -> int:
    return page.context.request.get(f"{url}/jobs", headers={"X-API-Key": key}).status
