"""Questions that the page keeps over a reload, of one user or of two."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import QUESTION, Watched, ask, hold, wait_for_requests
from tests.support.service import Service

FIRST, SECOND = f"{QUESTION[:-1]}, kept first?", f"{QUESTION[:-1]}, kept second?"


@pytest.fixture
def held(page: Page, watched: Watched) -> list[Route]:
    """The first question on its way to the server, which never comes to it."""
    watched.expected.append("404")  # of a conversation that the server does not know yet
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/chat", hold)
    return held


def times_asked(service: Service, question: str) -> int:
    jobs = service.client.get("/jobs", params={"limit": 50}).json()["jobs"]
    return sum(job.get("query") == question for job in jobs)


@pytest.mark.usefixtures("handbook_id")
def test_a_question_asked_before_the_kept_one_is_loaded_does_not_replace_it(
    page: Page, service: Service, held: list[Route]
) -> None:
    page.goto(service.url)
    ask(page, FIRST)
    wait_for_requests(page, held)
    items = hold(page, "**/conversations/*/items?*")
    page.reload()
    wait_for_requests(page, items)
    ask(page, SECOND)
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    items[0].continue_()
    expect(page.locator(".question")).to_have_count(2)
    expect(page.get_by_role("list", name="Sources")).to_have_count(2)
    assert times_asked(service, FIRST) == times_asked(service, SECOND) == 1


@pytest.mark.usefixtures("handbook_id")
def test_a_question_of_another_user_is_not_asked(page: Page, service: Service, held: list[Route]) -> None:
    page.goto(service.url)
    expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()
    ask(page, f"{FIRST[:-1]} by another?")
    wait_for_requests(page, held)

    def other(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, body=json.dumps(told.json() | {"user_id": "other"}))

    page.route(re.compile(r"/me$"), other)
    page.reload()
    expect(page.get_by_text("This conversation is no longer kept.")).to_be_visible()
    expect(page.locator(".question")).to_have_count(0)
    assert times_asked(service, f"{FIRST[:-1]} by another?") == 0


@pytest.mark.usefixtures("handbook_id")
def test_a_question_that_was_stopped_on_its_way_is_not_asked(page: Page, service: Service, held: list[Route]) -> None:
    page.goto(service.url)
    ask(page, f"{FIRST[:-1]} or stopped?")
    wait_for_requests(page, held)
    page.get_by_role("button", name="Stop").click()
    page.reload()
    expect(page.get_by_text("This conversation is no longer kept.")).to_be_visible()
    assert times_asked(service, f"{FIRST[:-1]} or stopped?") == 0
