"""A session that ends while its page is open: the page says so, keeps what was typed, and goes on after the sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES
from server import create_app
from settings import Settings
from tests.page.conftest import Watched, ask, drop
from tests.support.openai_stub import serving
from tests.support.processes import wait_until

ENDED = "Your session has ended."


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """The address of a server of this test, without workers."""
    with serving(create_app(settings)) as url:
        yield url


@dataclass
class Desk:
    """Makes keys, and ends them."""

    page: Page
    keys: ApiKeyRepository
    address: str

    def key(self, user: str) -> tuple[str, str]:
        """Make a key that the server takes already; return its id and its text."""
        made, text = self.keys.create("page", user_id=user, scopes=DEFAULT_SCOPES)
        wait_until(lambda: self.status(text) == httpx.codes.OK, what="the new key")
        return made.key_id, text

    def sign_in(self, text: str) -> None:
        self.page.get_by_label("Key", exact=True).fill(text)
        self.page.get_by_role("button", name="Sign in").click()

    def end(self, key_id: str) -> None:
        """End the session of the page with its key."""
        self.keys.revoke(key_id)
        wait_until(lambda: self.status() == httpx.codes.UNAUTHORIZED, what="the end of the session")

    def status(self, text: str | None = None) -> int:
        headers = {"X-API-Key": text} if text else {}
        return self.page.context.request.get(f"{self.address}/jobs", headers=headers).status

    def asked(self, text: str) -> list[str]:
        """Return the questions of the user of a key."""
        listed = httpx.get(f"{self.address}/jobs", headers={"X-API-Key": text}).raise_for_status().json()["jobs"]
        return [job["query"] for job in listed if job["kind"] == "chat"]


@pytest.fixture
def desk(page: Page, address: str, watched: Watched, settings: Settings) -> Iterator[Desk]:
    watched.expected = ["401"]
    with closing(Database(settings)) as database:
        yield Desk(page, ApiKeyRepository(database), address)


@pytest.fixture
def first_key(desk: Desk) -> str:
    """The id of the key with which alice is signed in."""
    key_id, text = desk.key("alice")
    # Until the server has seen the first key, it is open.
    wait_until(lambda: desk.status() == httpx.codes.UNAUTHORIZED, what="the first key")
    desk.page.goto(desk.address)
    desk.sign_in(text)
    expect(desk.page.get_by_role("dialog")).to_have_count(0)
    expect(desk.page.get_by_role("button", name="Try the sample")).to_be_visible()
    return key_id


def test_a_question_is_asked_once_its_user_has_signed_in_again(page: Page, desk: Desk, first_key: str) -> None:
    desk.end(first_key)
    question = page.get_by_label("Question", exact=True)
    ask(page, "What is asked at the end of a session?")
    expect(page.get_by_role("dialog")).to_contain_text(ENDED)
    _, text = desk.key("alice")
    desk.sign_in(text)
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("Waiting: number 1 in the queue")).to_be_visible()
    expect(page.locator(".question")).to_have_text(["What is asked at the end of a session?"])
    expect(question).to_have_value("")
    assert desk.asked(text) == ["What is asked at the end of a session?"]


def test_what_was_typed_is_kept(page: Page, desk: Desk, first_key: str) -> None:
    page.get_by_label("Question", exact=True).fill("A question that is not finish")
    page.get_by_role("link", name="Documents", exact=True).click()
    expect(page.get_by_text("No documents yet.")).to_be_visible()
    desk.end(first_key)
    page.get_by_label("Find documents by name").fill("lamp")
    expect(page.get_by_role("dialog")).to_contain_text(ENDED)
    desk.sign_in(desk.key("alice")[1])
    # The list is loaded without another word, and what was sought is still sought.
    expect(page.get_by_text("No document has this name and status.")).to_be_visible()
    expect(page.get_by_label("Find documents by name")).to_have_value("lamp")
    page.get_by_role("link", name="Ask", exact=True).click()
    expect(page.get_by_label("Question", exact=True)).to_have_value("A question that is not finish")


def test_nothing_is_asked_or_sent_for_another_user(page: Page, desk: Desk, first_key: str, tmp_path: Path) -> None:
    desk.end(first_key)
    ask(page, "What does alice want to know?")
    expect(page.get_by_role("dialog")).to_contain_text(ENDED)
    note = tmp_path / "note of alice.txt"
    note.write_text("A note of alice.")
    drop(page, note)
    expect(page.get_by_text("note of alice.txt")).to_be_visible()
    _, text = desk.key("bob")
    with page.expect_navigation():  # the page forgets what it knew
        desk.sign_in(text)
    expect(page.get_by_label("Question", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Documents", exact=True)).to_be_visible()
    expect(page.get_by_text("alice")).to_have_count(0)
    assert desk.asked(text) == []
    listed = httpx.get(f"{desk.address}/uploads", headers={"X-API-Key": text}).json()["uploads"]
    assert listed == []


def test_a_file_is_sent_once_its_user_has_signed_in_again(
    page: Page, desk: Desk, first_key: str, tmp_path: Path
) -> None:
    desk.end(first_key)
    note = tmp_path / "late.txt"
    note.write_text("A note that was dropped after the end of the session.")
    drop(page, note)
    expect(page.get_by_role("dialog")).to_contain_text(ENDED)
    _, text = desk.key("alice")
    desk.sign_in(text)
    expect(page.get_by_role("region", name="Files on their way")).to_contain_text("reading")
    listed = httpx.get(f"{desk.address}/uploads", headers={"X-API-Key": text}).json()["uploads"]
    assert [one["name"] for one in listed] == ["late.txt"]
