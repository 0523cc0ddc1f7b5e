"""Before the modules of the page are here: a question can be typed and sent all the same."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.conftest import QUESTION, Watched, ask, hold, wait_for_requests
from tests.support.service import Service


@pytest.mark.usefixtures("handbook_id")
def test_a_question_is_typed_and_sent_before_the_page_is_whole(page: Page, service: Service) -> None:
    held = hold(page, "**/page/ui.js")
    page.goto(service.url, wait_until="commit")
    question = page.get_by_label("Question", exact=True)
    question.click()
    page.keyboard.type("How long does a full")
    wait_for_requests(page, held)
    held[0].continue_()
    expect(page.get_by_role("link", name="Documents", exact=True)).to_be_visible()
    expect(question).to_have_value("How long does a full")
    expect(question).to_be_focused()
    page.keyboard.type(" charge take, early?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()

    # Sent before anything can take it.
    held.clear()
    page.goto("about:blank")
    page.goto(service.url, wait_until="commit")
    ask(page, f"{QUESTION[:-1]}, too early?")
    wait_for_requests(page, held)
    expect(question).to_have_value(f"{QUESTION[:-1]}, too early?")
    held[0].continue_()
    expect(page.get_by_role("heading", name="too early?")).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    expect(question).to_have_value("")


def test_no_question_is_offered_before_another_screen_is_here(page: Page, service: Service) -> None:
    held = hold(page, "**/page/ui.js")
    page.goto(f"{service.url}#/activity", wait_until="commit")
    wait_for_requests(page, held)
    expect(page.get_by_label("Question", exact=True)).to_be_hidden()
    held[0].continue_()
    expect(page.get_by_role("heading", level=1, name="Activity")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1280, 1920])
@pytest.mark.parametrize("viewing", [False, True])
def test_the_field_stays_where_it_is_when_the_page_is_whole(
    page: Page, service: Service, handbook_id: str, width: int, viewing: bool
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    held = hold(page, "**/page/ui.js")
    page.goto(f"{service.url}#/ask{f'?view={handbook_id}&page=2' if viewing else ''}", wait_until="commit")
    field = page.get_by_label("Question", exact=True)
    field.fill("How long does")
    wait_for_requests(page, held)
    expect(field).to_have_css("resize", "none")  # the style is here
    early = field.bounding_box()
    held[0].continue_()
    expect(page.get_by_role("link", name="Documents", exact=True)).to_be_visible()
    if viewing:
        expect(page.locator("figure.loaded")).to_be_visible()
    else:
        expect(page.get_by_role("heading", name="Ask your documents")).to_be_visible()
    late = field.bounding_box()
    assert early is not None
    assert late is not None
    moved = {side: late[side] - early[side] for side in ("x", "y", "width", "height")}
    assert all(abs(by) < 2 for by in moved.values()), moved


@pytest.mark.usefixtures("handbook_id")
def test_a_question_that_is_not_finished_is_not_sent(page: Page, service: Service) -> None:
    held = hold(page, "**/page/ui.js")
    page.goto(service.url, wait_until="commit")
    question = page.get_by_label("Question", exact=True)
    question.press("Enter")
    page.keyboard.type("How lo")
    wait_for_requests(page, held)
    held[0].continue_()
    expect(page.get_by_role("link", name="Documents", exact=True)).to_be_visible()
    expect(question).to_have_value("How lo")
    expect(page.locator(".question")).to_have_count(0)


@pytest.mark.usefixtures("handbook_id")
def test_a_question_is_kept_while_a_lost_file_is_loaded_again(page: Page, service: Service, watched: Watched) -> None:
    watched.expected.append("ERR_FAILED")
    lost: list[Route] = []

    def lose(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(route)
        return route.abort()

    page.route("**/page/find.js", lose)
    page.goto(service.url, wait_until="commit")
    ask(page, f"{QUESTION[:-1]}, through a lost file?")
    expect(page.get_by_role("heading", name="through a lost file?")).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
