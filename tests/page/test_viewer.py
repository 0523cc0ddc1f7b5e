"""The viewer: the quote lies on the page's picture, and everything is reached by keyboard."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.page.conftest import QUESTION
from tests.support.openai_stub import Behaviour
from tests.support.service import Service


def open_first_source(page: Page, service: Service, question: str = QUESTION) -> None:
    page.goto(service.url)
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")
    page.get_by_role("list", name="Sources").get_by_role("button").first.click()
    expect(page.locator("figure.loaded")).to_be_visible()


def test_the_marks_lie_over_the_words_of_the_quote(page: Page, service: Service, handbook_id: str) -> None:
    open_first_source(page, service)
    mark = page.locator(".mark").first
    expect(mark).to_be_visible()
    figure = page.locator("figure").bounding_box()
    box = mark.bounding_box()
    assert figure is not None
    assert box is not None

    # Where the service says that the words are, as parts of the page's size.
    sources = service.client.get(f"/result/{page.url.split('job=')[1].split('&')[0]}").json()["sources"]
    source = next(one for one in sources if one["n"] == 1)
    query = {"start": source["start"], "end": source["end"]}
    found = service.client.get(f"/uploads/{handbook_id}/pages/{source['page']}/boxes", params=query).json()
    first = found["boxes"][0]
    assert abs((box["x"] - figure["x"]) / figure["width"] - first["left"] / found["width"]) < 0.01
    assert abs((box["y"] - figure["y"]) / figure["height"] - first["top"] / found["height"]) < 0.01
    assert abs(box["width"] / figure["width"] - (first["right"] - first["left"]) / found["width"]) < 0.01


def test_quotes_and_pages_by_keyboard(page: Page, service: Service, model: Behaviour, handbook_id: str) -> None:
    assert handbook_id
    model.answer = _two_sentences
    open_first_source(
        page, service, "How long does the battery last at medium brightness, and what glows while the battery charges?"
    )
    expect(page.locator(".quote-bar")).to_contain_text("1 / 2")
    before = page.get_by_label("Page number").input_value()
    page.keyboard.press("n")
    expect(page.locator(".quote-bar")).to_contain_text("2 / 2")
    expect(page.get_by_label("Page number")).not_to_have_value(before)
    page.keyboard.press("p")
    expect(page.get_by_label("Page number")).to_have_value(before)

    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Page number")).to_have_value(str(int(before) + 1))
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary", name="Document")).to_be_hidden()
    expect(page.get_by_role("list", name="Sources").get_by_role("button").first).to_be_focused()


def test_find_in_a_document(page: Page, service: Service, handbook_id: str) -> None:
    page.goto(f"{service.url}#/documents?view={handbook_id}&page=1")
    page.get_by_label("Find in the document").fill("lithium-ion")
    expect(page.get_by_label("Page number")).to_have_value("5")
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator(".hits")).to_contain_text("on 1 page")


def test_a_kind_without_pictures_shows_the_passage(page: Page, service: Service, model: Behaviour) -> None:
    text = "Moored boats 🛶 need a permit. The harbour master of Quillfeather is Odalys Brandt. She lives upstream."
    upload_id = service.upload("harbour.txt", text.encode())
    model.answer = "The harbour master of Quillfeather is Odalys Brandt [1]."
    open_first_source(page, service, "Who is the harbour master of Quillfeather?")
    expect(page.locator("article.plain mark")).to_contain_text("The harbour master of Quillfeather is Odalys Brandt.")
    service.client.delete(f"/uploads/{upload_id}")


def _two_sentences(messages: list[dict[str, Any]]) -> str:
    """Return two sentences of the handbook, each with the number of the source that holds it."""
    sentences = ["The ring glows orange while the battery charges", "The battery lasts 9 hours at medium brightness"]
    prompt = " ".join(messages[-1]["content"].split())
    numbers = [re.findall(r'n="(\d+)"', prompt[: prompt.index(one[4:])])[-1] for one in sentences]
    return " ".join(f"{one} [{number}]." for one, number in zip(sentences, numbers, strict=True))
