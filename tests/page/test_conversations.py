"""Conversations are kept by the server: another tab and a reload show them."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.page.conftest import QUESTION, Watched, ask, wait_for_requests
from tests.support.openai_stub import Behaviour
from tests.support.processes import wait_until
from tests.support.service import Service

MESSAGES, ITEMS_AT_ONCE = 1_000, 20


@pytest.mark.usefixtures("handbook_id")
def test_a_conversation_is_shown_again_and_deleted(page: Page, context: BrowserContext, service: Service) -> None:
    question = f"{QUESTION[:-1]}, in two tabs?"
    page.goto(service.url)
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()

    # A second tab shows the question, the answer and its sources, and goes on with the conversation.
    other = context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", name=question)).to_be_visible()
    expect(other.get_by_role("list", name="Sources").get_by_role("button").first).to_contain_text("handbook.pdf")
    other.get_by_label("Question", exact=True).fill("And when does the ring turn green?")
    other.keyboard.press("Enter")
    expect(other.get_by_role("list", name="Sources")).to_have_count(2)

    page.reload()
    expect(page.locator(".question")).to_have_count(2)
    conversation_id = page.url.rpartition("/")[2]
    page.get_by_role("button", name="Conversations").click()
    page.get_by_label("Search conversations").fill("IN TWO TABS")
    entry = page.get_by_role("dialog").get_by_role("listitem")
    expect(entry).to_have_count(1)
    entry.get_by_role("button", name="Delete this conversation").click()
    entry.get_by_role("button", name="Undo").click()
    entry.get_by_role("button", name="Delete this conversation").click()
    expect(entry).to_contain_text("Deleted")
    assert service.client.get(f"/conversations/{conversation_id}/items").status_code == 200
    # The list is closed: there is no way back.
    page.get_by_role("button", name="Close", exact=True).click()
    items = f"/conversations/{conversation_id}/items"
    wait_until(lambda: service.client.get(items).status_code == 404, what="the deletion")


@pytest.mark.usefixtures("handbook_id")
def test_a_follow_up_is_stopped_after_a_reload(page: Page, service: Service, model: Behaviour) -> None:
    page.goto(service.url)
    ask(page, f"{QUESTION[:-1]}, before a reload?")
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    model.pause_seconds = 0.5
    ask(page, "And when does the ring turn green, told slowly?")
    expect(page.locator(".answer.writing")).to_contain_text("A full charge")
    page.reload()
    expect(page.locator(".question")).to_have_count(2)
    expect(page.locator(".answer.writing")).to_contain_text("A full charge")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_have_count(1)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    listed = service.client.get("/jobs", params={"limit": 1}).json()["jobs"]
    assert listed[0]["status"] == "cancelled"


@pytest.mark.usefixtures("handbook_id")
@pytest.mark.parametrize("accepted", [False, True])
def test_a_question_survives_a_reload_before_its_acceptance(
    page: Page, service: Service, watched: Watched, accepted: bool
) -> None:
    watched.expected.append("404")  # of a conversation that the server does not know yet
    question = f"{QUESTION[:-1]}, with a reload {'after' if accepted else 'before'} the server took it?"
    held: list[Route] = []

    def lose(route: Route) -> None:
        if held:
            return route.continue_()
        if accepted:
            route.fetch()
        return held.append(route)

    page.route("**/chat", lose)
    page.goto(service.url)
    ask(page, question)
    expect(page.get_by_text("Sending …")).to_be_visible()
    wait_for_requests(page, held)
    page.reload()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    page.reload()
    expect(page.get_by_role("list", name="Sources")).to_be_visible()
    expect(page.locator(".question")).to_have_text([question])
    jobs = service.client.get("/jobs", params={"limit": 20}).json()["jobs"]
    assert sum(job.get("query") == question for job in jobs) == 1


def test_a_conversation_of_a_thousand_messages_opens_at_its_end_and_is_read_backwards(
    page: Page, service: Service
) -> None:
    conversation_id = _long_conversation(service)
    pages: list[str] = []
    page.on("request", lambda request: pages.append(request.url) if "/items?" in request.url else None)
    page.goto(f"{service.url}#/ask/{conversation_id}")
    expect(page.get_by_text(f"Answer {MESSAGES // 2 - 1}.", exact=True)).to_be_in_viewport()
    assert len(pages) == 1
    assert page.locator(".turn").count() <= 30
    assert page.locator("rag-ask *").count() < 1_000

    # What is read stays where it is while the turns before it come in.
    first = page.locator(".turn").first
    number = first.locator(".question").text_content() or ""
    first.scroll_into_view_if_needed()
    expect(page.locator(".question").first).not_to_have_text(number)
    expect(page.locator(".turn").filter(has=page.get_by_text(number, exact=True))).to_be_in_viewport()

    column = page.get_by_label("Conversation", exact=True)

    def at_the_beginning() -> bool:
        column.evaluate("(node) => node.scrollTo(0, 0)")
        return page.get_by_text("Question 0?", exact=True).is_visible()

    wait_until(at_the_beginning, seconds=60, what="the first question")
    expect(page.locator(".turn")).to_have_count(MESSAGES // 2)
    questions = page.locator(".question").all_text_contents()
    assert questions == [f"Question {number}?" for number in range(MESSAGES // 2)]
    assert len(pages) == len(set(pages))


def _long_conversation(service: Service) -> str:
    """Make a conversation in which each question has its answer; return its id."""
    said = [
        {"type": "message", "role": role, "content": f"{text} {number}{mark}"}
        for number in range(MESSAGES // 2)
        for role, text, mark in (("user", "Question", "?"), ("assistant", "Answer", "."))
    ]
    made = service.client.post("/v1/conversations", json={}).raise_for_status().json()
    for start in range(0, MESSAGES, ITEMS_AT_ONCE):
        body = {"items": said[start : start + ITEMS_AT_ONCE]}
        service.client.post(f"/v1/conversations/{made['id']}/items", json=body).raise_for_status()
    return str(made["id"])
