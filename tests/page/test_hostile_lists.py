"""Strings of strangers in each list of the page: conversations, chips, the tray, keys, users, webhooks, failed jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import Watched
from tests.page.hostile_strings import HOSTILE_STRINGS
from tests.page.test_hostile_strings import FORBIDDEN
from tests.support.service import Service

WHEN = "2026-01-01T00:00:00Z"
EVERYWHERE = FORBIDDEN.replace("main :is", "body :is").replace("script, ", "")
COUNT = len(HOSTILE_STRINGS)
# A name is shown in one line: line breaks and control characters of the strings are white space.
WORDS = [" ".join(re.sub(r"[\x00-\x1f]", " ", text).split()) for text in HOSTILE_STRINGS]


@pytest.fixture(autouse=True)
def _inert(page: Page) -> Iterator[None]:
    """After each test no string has run, and none has become an element."""
    yield
    expect(page.locator(EVERYWHERE)).to_have_count(0)
    handlers = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap((node) => [...node.attributes])"
        ".filter((one) => one.name.startsWith('on')).length"
    )
    assert handlers == 0
    assert page.evaluate("window.hurt") is None


def _answer(page: Page, path: str, body: object) -> None:
    page.route(path, lambda route: route.fulfill(content_type="application/json", body=json.dumps(body)))


def _check_texts(texts: list[str]) -> None:
    """Each string is shown as it is."""
    shown = [" ".join(re.sub(r"[\x00-\x1f]", " ", text).split()) for text in texts]
    assert shown == WORDS


def test_names_of_conversations(page: Page, service: Service) -> None:
    one = {"updated_at": WHEN, "created_at": WHEN}
    listed = [one | {"conversation_id": text, "title": text} for text in HOSTILE_STRINGS]
    _answer(page, "**/conversations?*", {"conversations": listed, "next": None})
    page.goto(service.url)
    page.get_by_role("button", name="Conversations").click()
    links = page.get_by_role("dialog").get_by_role("listitem").get_by_role("link")
    expect(links).to_have_count(COUNT)
    _check_texts(links.all_text_contents())
    # An id is a part of an address, and no more.
    addresses = links.evaluate_all("(nodes) => nodes.map((node) => new URL(node.href).hash)")
    assert all(re.fullmatch(r"#/ask/[\w.!~*'()%-]+", address) for address in addresses), addresses
    page.get_by_label("Search conversations").fill(HOSTILE_STRINGS[0])
    expect(links).to_have_count(sum(HOSTILE_STRINGS[0].lower() in text.lower() for text in HOSTILE_STRINGS))


def test_chips_of_documents_and_collections(page: Page, service: Service) -> None:
    def uploads(route: Route) -> None:
        listed = [_upload(str(n), text) for n, text in enumerate(HOSTILE_STRINGS)]
        route.fulfill(content_type="application/json", body=json.dumps({"uploads": listed, "next": None}))

    page.route("**/uploads?*", uploads)
    stores = [{"id": str(n), "name": text} for n, text in enumerate(HOSTILE_STRINGS)]
    _answer(page, "**/v1/vector_stores?*", {"data": stores})
    page.goto(service.url)
    for text in HOSTILE_STRINGS[:3]:
        page.get_by_role("button", name=re.compile("document")).first.click()
        dialog = page.get_by_role("dialog")
        _check_texts(dialog.locator("li").all_text_contents())
        dialog.get_by_role("checkbox").nth(HOSTILE_STRINGS.index(text)).check()
        dialog.get_by_role("button", name="Done").click()
    chips = page.locator(".chip.on span")
    assert [text.strip() for text in chips.all_text_contents()] == [text.strip() for text in HOSTILE_STRINGS[:3]]
    for text in HOSTILE_STRINGS:
        page.get_by_role("button", name=re.compile("document")).first.click()
        dialog.get_by_role("combobox").select_option(index=HOSTILE_STRINGS.index(text) + 1)
        dialog.get_by_role("button", name="Done").click()
        expect(chips).to_have_count(1)
        assert (chips.text_content() or "").strip() == text.strip()


def test_names_and_reasons_in_the_tray(page: Page, service: Service, watched: Watched) -> None:
    watched.expected = ["422"]

    def refuse(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        sent = route.request.post_data_buffer or b""
        number = int(re.search(rb"number (\d+)\.", sent)[1])  # type: ignore[index]
        body = json.dumps({"detail": HOSTILE_STRINGS[number]})
        return route.fulfill(status=422, content_type="application/problem+json", body=body)

    page.route("**/uploads", refuse)
    page.goto(service.url)
    page.get_by_role("link", name="Documents", exact=True).wait_for()
    names = page.evaluate(
        """(names) => {
            const transfer = new DataTransfer();
            names.forEach((name, n) => transfer.items.add(new File([`number ${n}.`], name)));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
            return names.map((name) => new File([], name).name);
        }""",
        [text.lstrip(".") for text in HOSTILE_STRINGS],
    )
    rows = page.get_by_role("region", name="Files on their way").get_by_role("listitem")
    expect(rows).to_have_count(COUNT)
    expect(page.get_by_role("region", name="Files on their way").get_by_role("heading")).to_have_text(
        f"{COUNT} files failed"
    )
    _check_texts(rows.locator(".state").all_text_contents())
    assert rows.locator(".name").all_text_contents() == names


def test_names_of_keys_users_and_webhooks(page: Page, service: Service) -> None:
    key = {"scopes": ["query"], "valid": True, "expires_at": None, "revoked_at": None}
    keys = [key | {"key_id": text, "name": text, "user_id": text} for text in HOSTILE_STRINGS]
    _answer(page, "**/keys", {"keys": keys})
    user = {"keys": 1, "uploads": 0, "stored_bytes": 0, "conversations": 0, "waiting_jobs": 0}
    users = [user | {"user_id": text, "uploads_today": None, "tokens_today": None} for text in HOSTILE_STRINGS]
    _answer(page, re.compile(r"/users(\?|$)"), {"users": users, "limits": {}, "next": None})  # type: ignore[arg-type]
    endpoint = {"created_at": WHEN, "disabled_at": WHEN}
    endpoints = [endpoint | {"id": text, "url": text, "events": [text]} for text in HOSTILE_STRINGS]
    _answer(page, "**/webhooks", {"endpoints": endpoints})
    settings = [
        {"name": text, "value": text, "description": text, "is_default": False, "secret": False}
        for text in HOSTILE_STRINGS
    ]
    _answer(page, "**/settings", {"settings": settings})
    _answer(page, "**/ready", _ready())
    page.goto(f"{service.url}#/admin")
    lists = page.locator("ul.keys")
    expect(lists).to_have_count(3)
    for number in range(3):
        expect(lists.nth(number).get_by_role("listitem")).to_have_count(COUNT)
        _check_texts(lists.nth(number).locator(".name").all_text_contents())
    _check_texts(page.locator(".settings dt").all_text_contents())
    _check_texts(page.locator(".settings code").all_text_contents())
    _check_texts(page.locator("section > .notice").all_text_contents())
    page.get_by_role("button", name=re.compile("^Revoke")).first.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(f"Revoke {HOSTILE_STRINGS[0]}?")


def test_failed_jobs_and_deliveries(page: Page, service: Service) -> None:
    letter = {"kind": "chat", "ended_at": WHEN, "retryable": True, "user_id": "u"}
    letters = [letter | {"job_id": text, "query": text, "error": text} for text in HOSTILE_STRINGS]
    _answer(page, "**/dead-letters?*", {"dead_letters": letters, "next": None})
    delivery = {"created_at": WHEN, "attempts": [], "status": "failed"}
    deliveries = [delivery | {"id": text, "type": text, "url": text, "reason": text} for text in HOSTILE_STRINGS]
    _answer(page, "**/webhooks/deliveries?*", {"deliveries": deliveries, "next": None})
    page.goto(f"{service.url}#/activity")
    failed = page.get_by_role("list", name="Failed jobs").get_by_role("listitem")
    expect(failed).to_have_count(COUNT)
    _check_texts(failed.locator(".name").all_text_contents())
    expect(page.get_by_role("list", name="Deliveries").get_by_role("listitem")).to_have_count(COUNT)


def _upload(upload_id: str, name: str) -> dict[str, Any]:
    return {
        "upload_id": upload_id,
        "name": name,
        "media_type": "application/pdf",
        "status": "ready",
        "bytes": 1,
        "pages": 1,
        "pages_done": 1,
        "created_at": WHEN,
        "searched": True,
    }


def _ready() -> dict[str, Any]:
    return {"status": "ok", "parts": {}, "warnings": HOSTILE_STRINGS, "queues": [], "index": None}
