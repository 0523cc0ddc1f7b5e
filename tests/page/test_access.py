"""The page for everybody: axe's rules, keyboard, screen readers, small screens, right to left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.page.conftest import ANSWER, PATIENCE_MS, QUESTION, Watched, ask
from tests.support.openai_stub import Behaviour
from tests.support.service import Service

KEY_OF_ALICE = {
    "key_id": "k1",
    "name": "laptop of alice",
    "user_id": "alice",
    "scopes": ["query"],
    "valid": True,
    "expires_at": None,
    "revoked_at": None,
}
SMALL: ViewportSize = {"width": 320, "height": 640}


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, watched: Watched, service: Service, handbook_id: str, scheme: str, width: int
) -> None:
    with _tab(browser, watched, scheme, width) as page:
        page.goto(service.url)
        page.get_by_label("Question", exact=True).fill(QUESTION)
        page.keyboard.press("Enter")
        page.get_by_role("list", name="Sources").get_by_role("button").first.click()
        expect(page.locator(".mark").first).to_be_visible()
        _check(page)
        page.keyboard.press("Escape")  # on a small screen the document lies over the rest
        expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
        _check(page)
        page.get_by_role("button", name="Settings", exact=True).click()
        _check(page)
        for screen in (f"documents?view={handbook_id}", "documents", "activity", "admin"):
            page.goto(f"{service.url}#/{screen}")
            page.reload()
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            expect(page.locator("li").first).to_be_visible()
            _check(page)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_what_a_newcomer_sees(
    browser: Browser, watched: Watched, service: Service, scheme: str, width: int
) -> None:
    watched.expected = ["401"]
    with _tab(browser, watched, scheme, width) as page:
        _answer(page, "**/uploads?limit=1", {"uploads": [], "next": None})
        _answer(page, "**/v1/models", {"object": "list", "data": [{"id": "rag", "object": "model"}]})
        _answer(page, "**/settings/suggested", {})
        page.goto(service.url)
        expect(page.get_by_role("button", name="Try the sample")).to_be_visible()
        _check(page)
        page.get_by_role("button", name="Set a model").click()
        _check_dialog(page, "Set a model")
        _answer(page, "**/me", {"title": "Unauthorized", "status": 401, "detail": "A key is needed."}, status=401)
        page.reload()
        expect(page.get_by_label("Key", exact=True)).to_be_focused()
        _check(page)


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("handbook_id")
def test_axe_finds_nothing_in_dialogs(
    browser: Browser, watched: Watched, service: Service, scheme: str, width: int
) -> None:
    made = service.client.post("/webhooks", json={"url": "https://hooks.example/axe"}).raise_for_status().json()
    with _tab(browser, watched, scheme, width) as page:
        page.goto(service.url)
        page.get_by_label("Question", exact=True).fill(QUESTION)
        page.keyboard.press("Enter")
        expect(page.get_by_role("list", name="Sources")).to_be_visible()
        for button, title in (
            ("the maker", "A link in the answer"),
            ("All documents", "Search in"),
            ("Conversations", "Conversations"),
        ):
            page.get_by_role("button", name=button, exact=True).click()
            _check_dialog(page, title)
        page.get_by_role("link", name="Documents", exact=True).click()
        page.get_by_role("button", name="More about this document").first.click()
        _check_dialog(page, None)
        page.get_by_role("link", name="Admin", exact=True).click()
        for button in ("New key", "New endpoint"):
            page.get_by_role("button", name=button).click()
            _check_dialog(page, button)
        _answer(page, "**/keys", {"keys": [KEY_OF_ALICE]})
        page.reload()
        page.get_by_role("button", name="Revoke laptop of alice").click()
        _check_dialog(page, "Revoke laptop of alice?")
    service.client.delete(f"/webhooks/{made['id']}").raise_for_status()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_failures(
    browser: Browser,
    watched: Watched,
    service: Service,
    handbook_id: str,
    model: Behaviour,
    scheme: str,
    width: int,
) -> None:
    watched.expected = ["503", "404", "ERR_FAILED"]
    model.always_fail = 401
    busy = {"title": "Service Unavailable", "status": 503, "detail": "the queue is away"}
    with _tab(browser, watched, scheme, width) as page:
        page.goto(service.url)
        ask(page, "How long does a full charge take, while nothing works?")
        expect(page.get_by_role("alert")).to_contain_text("OPENAI_API_KEY")
        _check(page)
        # A document that is gone, and a page whose picture is away.
        page.goto(f"{service.url}#/documents?view=gone&page=1")
        expect(page.get_by_text("This document was deleted")).to_be_visible()
        _check(page)
        _answer(page, re.compile(r"/pages/1\?"), busy, status=503)
        page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
        expect(page.get_by_role("alert").filter(has_text="The picture of this page")).to_be_visible()
        _check(page)
        page.goto(f"{service.url}#/documents")
        row = page.get_by_role("listitem").filter(has_text="handbook.pdf")
        row.get_by_role("button", name="Delete").click()
        expect(page.locator(".toast")).to_be_visible()
        _check(page)
        page.get_by_role("button", name="Undo").click()
        _answer(page, "**/jobs?*", busy, status=503)
        page.get_by_role("link", name="Activity", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="The jobs could not be loaded.")).to_be_visible()
        _check(page)
        _answer(page, "**/keys", busy, status=503)
        page.get_by_role("link", name="Admin", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="The keys could not be loaded.")).to_be_visible()
        _check(page)


@contextmanager
def _tab(browser: Browser, watched: Watched, scheme: str, width: int) -> Iterator[Page]:
    """Open a tab of a width in a colour scheme; what its browser does wrong fails the test."""
    with browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    ) as context:
        context.set_default_timeout(PATIENCE_MS)
        watched.watch(context)
        yield context.new_page()
    watched.check()


def _answer(page: Page, path: str | re.Pattern[str], body: object, status: int = 200) -> None:
    kind = "application/json" if status == 200 else "application/problem+json"
    page.route(path, lambda route: route.fulfill(status=status, content_type=kind, body=json.dumps(body)))


def _check_dialog(page: Page, title: str | None) -> None:
    """Check the open dialog, and close it."""
    dialog = page.get_by_role("dialog", name=title)
    expect(dialog).to_be_visible()
    _check(page)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def _check(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.usefixtures("handbook_id")
def test_asking_and_reading_a_source_by_keyboard_alone(page: Page, service: Service) -> None:
    page.goto(service.url)
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.card')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".mark").first).to_be_visible()
    expect(page.get_by_role("heading", name="handbook.pdf")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".card").first).to_be_focused()


@pytest.mark.usefixtures("handbook_id")
def test_screen_readers_hear_sentences(page: Page, service: Service, model: Behaviour) -> None:
    model.pause_seconds = 0.02
    page.goto(service.url)
    page.evaluate(
        """() => {
            window.heard = [];
            const added = (changes) => changes.flatMap((one) => [...one.addedNodes]);
            const note = (changes) => window.heard.push(...added(changes).map((node) => node.textContent));
            const region = document.querySelector("[aria-live=polite][role=log]");
            new MutationObserver(note).observe(region, { childList: true });
        }"""
    )
    page.get_by_label("Question", exact=True).fill("How long does a full charge take, spoken aloud?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    heard = page.evaluate("window.heard")
    assert heard[0] == "A full charge takes three hours and twenty minutes."
    assert heard[1] == "The ring turns green when it is full."
    assert heard[-1].endswith("The answer is complete, with 1 source.")
    assert len(heard) <= ANSWER.count(".")
    expect(page.locator(".turns [aria-live]")).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_a_small_screen_does_not_scroll_sideways(browser: Browser, service: Service, watched: Watched) -> None:
    with browser.new_context(viewport=SMALL, reduced_motion="reduce") as context:
        context.set_default_timeout(PATIENCE_MS)
        watched.watch(context)
        page = context.new_page()
        page.goto(service.url)
        page.get_by_label("Question", exact=True).fill(QUESTION)
        page.keyboard.press("Enter")
        page.get_by_role("list", name="Sources").get_by_role("button").first.click()
        expect(page.locator(".mark").first).to_be_in_viewport()
        _check_width(page)
        for screen in ("documents", "activity", "admin"):
            page.goto(f"{service.url}#/{screen}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            _check_width(page)
        # A document with a long name, and none of whose words is short.
        upload_id = service.upload(f"{'Protokoll_' * 20}.txt", b"Aktenvernichtung" * 40)
        page.goto(f"{service.url}#/documents?view={upload_id}&page=1")
        expect(page.get_by_role("heading", name="Protokoll_")).to_be_visible()
        expect(page.locator("article.plain")).to_be_visible()
        _check_width(page)
        expect(page.get_by_role("button", name="Close the document")).to_be_in_viewport(ratio=1)
        service.client.delete(f"/uploads/{upload_id}").raise_for_status()
    watched.check()


def _check_width(page: Page) -> None:
    wide = page.evaluate(
        """() => [...document.querySelectorAll("html, body, main, .column, .scroller, .pane, rag-viewer, .stage")]
            .filter((one) => one.scrollWidth > one.clientWidth + 1)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert wide == []


@pytest.mark.usefixtures("handbook_id")
def test_text_from_right_to_left(page: Page, service: Service, model: Behaviour) -> None:
    model.answer = 'الشحن الكامل يستغرق ثلاث ساعات [1 "A full charge takes three hours and twenty minutes"].'
    page.goto(service.url)
    page.get_by_label("Question", exact=True).fill("كم يستغرق شحن المصباح full charge؟")
    page.keyboard.press("Enter")
    expect(page.locator(".answer p").first).to_be_visible()
    for part in (".question", ".answer p"):
        expect(page.locator(part).first).to_have_css("direction", "rtl")
