"""Conversations are kept by the server: another tab and a reload show them."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.page.conftest import QUESTION, Service


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
    page.get_by_role("button", name="Conversations").click()
    entry = page.get_by_role("dialog").get_by_role("listitem").filter(has_text=question)
    entry.get_by_role("button", name="Delete this conversation").click()
    expect(entry).to_have_count(0)
