"""Activity, Admin, and signing in."""

from __future__ import annotations

from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from auth.api_keys import ApiKeyRepository
from client.sql.database import Database
from schemas import DEFAULT_SCOPES
from server import create_app
from settings import Settings
from tests.page.conftest import PATIENCE_MS, Service, Watched
from tests.support.openai_stub import Behaviour, serving
from tests.support.processes import wait_until


@pytest.mark.usefixtures("handbook_id")
def test_activity_shows_jobs_as_they_go_and_cancels_them(page: Page, service: Service, model: Behaviour) -> None:
    model.pause_seconds = 1.0
    question = "How long does a full charge take, so slowly that somebody cancels it?"
    service.client.post("/chat", json={"query": question}).raise_for_status()
    page.goto(f"{service.url}#/activity")
    job = page.get_by_role("list", name="Jobs").get_by_role("listitem").filter(has_text=question)
    expect(job.locator(".state")).to_have_text("writing")
    job.get_by_role("button", name="Cancel", exact=True).click()
    expect(job.locator(".state")).to_have_text("cancelled")

    # A job's name leads to its answer.
    model.pause_seconds = 0
    job.get_by_role("button", name="Ask again", exact=True).click()
    again = page.get_by_role("listitem").filter(has_text=question).filter(has_text="finished")
    again.get_by_role("button", name=question).click()
    expect(page.get_by_role("heading", name=question)).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()


def test_admin_shows_health_and_registers_webhooks(page: Page, service: Service) -> None:
    page.goto(f"{service.url}#/admin")
    expect(page.get_by_role("listitem").filter(has_text="Workers")).to_contain_text("ready")
    page.get_by_role("button", name="New endpoint").click()
    page.get_by_label("Address").fill("https://hooks.example/rag")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("dialog")).to_contain_text("whsec_")
    page.get_by_role("button", name="Done").click()
    endpoint = page.get_by_role("listitem").filter(has_text="https://hooks.example/rag")
    endpoint.get_by_role("button", name="Delete https://hooks.example/rag").click()
    expect(endpoint).to_have_count(0)


def test_a_server_with_keys_asks_for_one(browser: Browser, settings: Settings) -> None:
    with closing(Database(settings)) as database, serving(create_app(settings)) as url:
        keys = ApiKeyRepository(database)
        made, text = keys.create("page", user_id="alice", scopes=DEFAULT_SCOPES)
        watched = Watched(url.removeprefix("http://"), expected=["401"])
        with browser.new_context(reduced_motion="reduce") as context:
            context.set_default_timeout(PATIENCE_MS)
            watched.watch(context)
            page = context.new_page()
            page.goto(url)
            page.get_by_label("Key").fill("rag_wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("This key is wrong")
            page.get_by_label("Key").fill(text)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("button", name="Try the sample")).to_be_visible()
            assert page.evaluate("document.cookie") == ""

            # The session ends with its key: the page asks for another.
            keys.revoke(made.key_id)
            wait_until(lambda: context.request.get(f"{url}/jobs").status == 401, what="the end of the session")
            page.get_by_role("link", name="Documents", exact=True).click()
            expect(page.get_by_role("dialog")).to_contain_text("This server asks for a key")
            _, text = keys.create("another", user_id="alice", scopes=DEFAULT_SCOPES)
            page.get_by_label("Key").fill(text)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("No documents yet.")).to_be_visible()
        watched.check()
