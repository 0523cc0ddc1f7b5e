"""A server that is away or busy: the page says so, shows nothing as empty, and goes on by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import QUESTION, Watched, ask, hold, wait_for_requests
from tests.support.openai_stub import Behaviour
from tests.support.service import Service

BUSY = {"title": "Service Unavailable", "status": 503, "detail": "the queue is away"}
HOPE = "This page tries again by itself."
NEW_FILE = re.compile(r"/page/(find|activity)\.js$")


@pytest.fixture
def outage(page: Page, watched: Watched) -> Callable[..., Callable[[], None]]:
    """Make routes fail: with 503, or without a response. Calling the result ends the outage."""
    watched.expected += ["503", "ERR_FAILED"]

    def start(*paths: str | re.Pattern[str], away: bool = False) -> Callable[[], None]:
        def fail(route: Route) -> None:
            if route.request.method != "GET":
                route.fallback()
            elif away:
                route.abort()
            else:
                route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(BUSY))

        for path in paths:
            page.route(path, fail)

        def end() -> None:
            for path in paths:
                page.unroute(path, fail)

        return end

    return start


Outage = Callable[..., Callable[[], None]]


@pytest.mark.usefixtures("handbook_id")
def test_the_lists_of_admin_say_that_they_are_not_loaded(page: Page, service: Service, outage: Outage) -> None:
    end = outage("**/keys", "**/users", "**/webhooks", "**/settings")
    page.goto(f"{service.url}#/admin")
    names = ("keys", "users", "endpoints of webhooks", "settings")
    for name in names:
        sentence = f"The {name} could not be loaded. The queue is away. {HOPE}"
        expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible()
    for nothing in ("No keys:", "Nobody has a key", "No endpoints."):
        expect(page.get_by_text(nothing)).to_have_count(0)
    end()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("No keys: everybody who reaches this server may use it.")).to_be_visible()
    expect(page.get_by_role("list", name="Users").get_by_role("listitem").first).to_be_visible()
    expect(page.get_by_role("button", name="New endpoint")).to_be_visible()
    expect(page.get_by_text("OPENAI_BASE_URL", exact=True)).to_be_visible()


@pytest.mark.usefixtures("handbook_id")
def test_documents_and_jobs_are_not_called_empty_while_the_server_is_away(
    page: Page, service: Service, outage: Outage
) -> None:
    page.goto(f"{service.url}#/admin")
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    for screen, path, nothing in (
        ("Documents", "**/uploads?*", "No documents yet."),
        ("Activity", "**/jobs?*", "No jobs."),
    ):
        end = outage(path, away=True)
        page.get_by_role("link", name=screen, exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("could not be loaded. The server cannot be reached.")
        expect(page.get_by_role("alert")).to_contain_text(HOPE)
        expect(page.get_by_text(nothing)).to_have_count(0)
        end()
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator("main li").filter(has=page.get_by_role("button")).first).to_be_visible()


@pytest.mark.usefixtures("handbook_id")
def test_the_first_screen_waits_for_the_server(page: Page, service: Service, outage: Outage) -> None:
    end = outage("**/uploads?limit=1")
    page.goto(service.url)
    expect(page.get_by_role("alert")).to_have_text(f"This page could not be loaded. The queue is away. {HOPE}")
    expect(page.get_by_role("button", name="Try the sample")).to_have_count(0)
    end()
    expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()

    # So does the list of what a question may search.
    end = outage("**/uploads?limit=50*")
    page.get_by_role("button", name="All documents").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("The documents could not be loaded.")
    expect(dialog.get_by_text("No document of this name is ready.")).to_have_count(0)
    end()
    expect(dialog.get_by_role("checkbox", name="handbook.pdf")).to_be_visible()
    expect(dialog.get_by_role("alert")).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_a_conversation_and_its_source_are_loaded_again(page: Page, service: Service, outage: Outage) -> None:
    page.goto(service.url)
    ask(page, f"{QUESTION[:-1]}, before an outage?")
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.locator(".mark").first).to_be_visible()

    end = outage("**/conversations/*/items?*", "**/result/*", re.compile(r"/uploads/[^/?]+$"))
    page.reload()
    for name in ("conversation", "document", "quotes of the answer"):
        expect(page.get_by_role("alert").filter(has_text=f"The {name} could not be loaded.")).to_be_visible()
    expect(page.get_by_text("Ask your documents", exact=True)).to_have_count(1)  # not the start of a conversation
    end()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    expect(page.locator(".mark").first).to_be_visible()

    # A server without time for a picture draws the page later.
    end = outage(re.compile(r"/pages/\d+\?"))
    page.keyboard.press("ArrowRight")
    lost = page.get_by_role("alert").filter(has_text="The picture of this page could not be loaded. The queue is away.")
    expect(lost).to_be_visible()
    end()
    expect(page.locator("figure.loaded")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_a_question_without_an_answer_is_loaded_again(
    page: Page, service: Service, outage: Outage, model: Behaviour
) -> None:
    page.goto(service.url)
    ask(page, f"{QUESTION[:-1]}, before a busy server?")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    model.pause_seconds = 0.5
    ask(page, "And when does the ring turn green, told to a busy server?")
    expect(page.locator(".answer.writing")).to_contain_text("A full charge")

    end = outage("**/result/*")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The conversation could not be loaded.")
    end()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".question")).to_have_count(2)


@pytest.mark.usefixtures("handbook_id")
def test_a_question_that_is_asked_while_its_conversation_is_not_loaded(
    page: Page, service: Service, outage: Outage
) -> None:
    page.goto(service.url)
    questions = [f"{QUESTION[:-1]}, {when} a conversation is loaded?" for when in ("before", "while")]
    ask(page, questions[0])
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    address = page.url
    page.goto("about:blank")
    end = outage("**/conversations/*/items?*")
    page.goto(address)
    expect(page.get_by_role("alert")).to_contain_text("The conversation could not be loaded.")
    ask(page, questions[1])
    expect(page.get_by_role("list", name="Sources")).to_have_count(1)
    end()
    expect(page.locator(".question")).to_have_text(questions)
    expect(page.get_by_role("list", name="Sources")).to_have_count(2)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_picture_that_cannot_be_drawn_is_not_asked_for_without_end(
    page: Page, service: Service, handbook_id: str
) -> None:
    page.clock.install()
    asked: list[str] = []

    def garble(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(content_type="image/webp", body=b"no picture", headers={"Cache-Control": "no-store"})

    page.route(re.compile(r"/pages/1\?"), garble)
    page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
    notice = page.get_by_role("alert").filter(has_text="This browser cannot draw it. Download the document")
    for _ in range(20):
        page.clock.run_for(1_000)
        page.wait_for_load_state("networkidle")
    expect(notice).to_be_visible()
    often = len(asked)
    page.clock.run_for(20_000)
    page.wait_for_load_state("networkidle")
    assert len(asked) == often
    page.keyboard.press("ArrowRight")
    expect(page.locator("figure.loaded")).to_be_visible()
    expect(notice).to_have_count(0)


def test_a_picture_that_is_lost_late_does_not_replace_the_next_page(
    page: Page, service: Service, handbook_id: str, watched: Watched
) -> None:
    watched.expected += ["404"]
    late = hold(page, re.compile(r"/pages/2\?"))
    page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
    expect(page.locator("figure.loaded")).to_be_visible()
    page.keyboard.press("ArrowRight")
    wait_for_requests(page, late)
    page.keyboard.press("ArrowRight")
    expect(page.locator("figure.loaded")).to_be_visible()
    for number in (1, 2):  # the picture, then the question why it was lost
        wait_for_requests(page, late, number)
        late[number - 1].fulfill(status=404, content_type="application/problem+json", body=json.dumps(BUSY))
    page.wait_for_load_state("networkidle")
    expect(page.locator("figure.loaded")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_busy_server_is_not_a_picture_that_cannot_be_drawn(
    page: Page, service: Service, handbook_id: str, outage: Outage
) -> None:
    page.set_viewport_size({"width": 1920, "height": 900})
    end = outage(re.compile(r"/pages/1\?(?!width=640$)"))
    page.clock.install()
    page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
    for _ in range(15):
        page.clock.run_for(1_000)
        page.wait_for_load_state("networkidle")
    expect(page.get_by_role("alert")).to_have_text(
        f"The picture of this page could not be loaded. The queue is away. {HOPE}"
    )
    end()
    page.clock.run_for(4_000)
    expect(page.locator("figure.loaded")).to_be_visible()


def test_a_file_of_the_page_that_is_lost_is_loaded_again(page: Page, service: Service, outage: Outage) -> None:
    end = outage(NEW_FILE, away=True)
    page.goto(service.url, wait_until="commit")
    expect(page.get_by_text("Parts of this page are still missing.")).to_be_visible()
    end()
    expect(page.get_by_label("Question", exact=True)).to_be_visible()
    expect(page.get_by_text("Parts of this page are still missing.")).to_have_count(0)

    # A screen that is opened later.
    end = outage(NEW_FILE, away=True)
    page.get_by_role("link", name="Activity", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("This screen could not be loaded.")
    end()
    expect(page.get_by_role("heading", level=1, name="Activity")).to_be_visible()
