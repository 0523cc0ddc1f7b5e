"""Quotes on their pages: the sentence in a quote, DOCX and text, dense screens, text from right to left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from tests.page.conftest import PATIENCE_MS, Watched, ask
from tests.support.corpus.word import docx, p
from tests.support.pdfs import HEIGHT, MARGIN, WIDTH, write_pdf
from tests.support.service import Service, running_service

QUESTION = "How many sacks of coal does the cellar of Brindle hold?"
SENTENCE = "The cellar of Brindle holds forty sacks of coal."
PASSAGE = (
    "The tower stands on the north cliff. Its stair has ninety steps, and its door is painted green. "
    f"{SENTENCE} They are brought by boat each October. The stove burns two sacks a week in winter."
)
HEBREW = "המגדלור עומד על הצוק הצפוני"
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without a model: its sources name the sentence that fits the question best."""
    with running_service(tmp_path_factory.mktemp("quotes")) as started:
        yield started


def _open_source(page: Page, url: str, question: str, name: str) -> None:
    page.goto(url)
    ask(page, question)
    page.get_by_role("list", name="Sources").get_by_role("button").filter(has_text=name).first.click()
    expect(page.locator("figure.loaded")).to_be_visible()


def _source(page: Page, service: Service) -> dict[str, Any]:
    """Return the source that the address of the page names."""
    query = dict(part.split("=") for part in page.url.partition("?")[2].split("&"))
    sources = service.client.get(f"/result/{query['job']}").json()["sources"]
    return next(one for one in sources if one["n"] == int(query["n"]))


def _boxes(page: Page, marks: Locator, width: float, height: float) -> list[list[float]]:
    """Return where the marks lie, in points of a page of this size."""
    figure = page.locator("figure").bounding_box()
    assert figure is not None
    across, down = width / figure["width"], height / figure["height"]
    boxes = [box for mark in marks.all() if (box := mark.bounding_box())]
    corners = [(box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]) for box in boxes]
    return [
        [
            (x - figure["x"]) * across if at % 2 == 0 else (x - figure["y"]) * down
            for at, x in enumerate((left, top, right, bottom))
        ]
        for left, top, right, bottom in corners
    ]


def _served_boxes(service: Service, source: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    path = f"/uploads/{source['upload_id']}/pages/{source['page']}/boxes"
    found: dict[str, Any] = service.client.get(path, params={"start": start, "end": end}).raise_for_status().json()
    return found


def test_the_sentence_is_marked_more_strongly_than_the_rest_of_its_quote(
    page: Page, service: Service, uploads: list[str], tmp_path: Path
) -> None:
    uploads.append(service.upload("tower.pdf", write_pdf(tmp_path / "tower.pdf", [PASSAGE]).read_bytes()))
    _open_source(page, service.url, QUESTION, "tower.pdf")
    source = _source(page, service)
    start, end = source["highlight"]
    assert " ".join(source["quote"][start:end].split()) == SENTENCE != source["quote"]

    # On its card, in the bar of the viewer, and on the page.
    card = page.get_by_role("list", name="Sources").get_by_role("button").first
    expect(card.locator("q mark")).to_have_text(SENTENCE)
    expect(card.locator("q")).to_contain_text("They are brought by boat")
    expect(page.locator(".quote-bar mark")).to_have_text(SENTENCE)
    strong, pale = page.locator(".mark:not(.around)"), page.locator(".mark.around")
    expect(strong.first).to_be_in_viewport()
    for marks, first, last in (
        (strong, source["start"] + start, source["start"] + end),
        (pale, source["start"], source["end"]),
    ):
        served = _served_boxes(service, source, first, last)
        shown = _boxes(page, marks, served["width"], served["height"])
        wanted = [[box["left"], box["top"], box["right"], box["bottom"]] for box in served["boxes"]]
        assert len(shown) == len(wanted) >= 1
        for one, other in zip(shown, wanted, strict=True):
            assert one == pytest.approx(other, abs=1.5)
    colours = [one.first.evaluate("(node) => getComputedStyle(node).backgroundColor") for one in (strong, pale)]
    assert colours[0] != colours[1]


@pytest.mark.parametrize("kind", ["docx", "txt"])
def test_a_passage_without_pictures_is_shown_with_its_sentence(
    page: Page, service: Service, uploads: list[str], kind: str
) -> None:
    before, after = "Foreword by the keeper 🛶. " * 3, "Here the log of the keeper ends."
    make = docx(p(before) + p(PASSAGE) + p(after)) if kind == "docx" else f"{before}\n\n{PASSAGE}".encode
    uploads.append(service.upload(f"tower.{kind}", make()))
    _open_source(page, service.url, QUESTION, f"tower.{kind}")
    source = _source(page, service)
    passage = page.locator("article.plain mark")
    expect(passage.locator("strong")).to_have_text(SENTENCE)
    expect(passage.locator("strong")).to_be_in_viewport()
    assert (passage.text_content() or "") == source["quote"]
    expect(page.locator("article.plain")).to_contain_text("Foreword by the keeper 🛶.")


def test_a_dense_screen_gets_a_larger_picture(
    browser: Browser, service: Service, uploads: list[str], watched: Watched, tmp_path: Path
) -> None:
    uploads.append(service.upload("tower.pdf", write_pdf(tmp_path / "tower.pdf", [PASSAGE]).read_bytes()))
    widths = []
    for density in (1, 2):
        with browser.new_context(
            viewport={"width": 1280, "height": 800}, device_scale_factor=density, reduced_motion="reduce"
        ) as context:
            context.set_default_timeout(PATIENCE_MS)
            watched.watch(context)
            page = context.new_page()
            page.goto(f"{service.url}#/documents?view={uploads[0]}&page=1")
            expect(page.locator("figure.loaded")).to_be_visible()
            picture = page.get_by_role("img", name="Page 1")
            shown, drawn, source = picture.evaluate(
                "(image) => [image.clientWidth, new URL(image.currentSrc).searchParams.get('width'), image.currentSrc]"
            )
            # As many dots as the screen has, and not twice as many.
            assert shown * density <= int(drawn) <= shown * density * 2
            assert source.startswith(service.url)
            widths.append(int(drawn))
    watched.check()
    assert widths[0] < widths[1]


def test_words_of_a_page_are_selected(page: Page, service: Service, uploads: list[str], tmp_path: Path) -> None:
    uploads.append(service.upload("tower.pdf", write_pdf(tmp_path / "tower.pdf", [PASSAGE]).read_bytes()))
    page.goto(f"{service.url}#/documents?view={uploads[0]}&page=1")
    expect(page.locator("figure.loaded")).to_be_visible()
    text = service.client.get(f"/uploads/{uploads[0]}/pages/1/text").json()
    start, top, bottom, *edges = text["runs"][0]
    line = text["text"][int(start) : int(start) + len(edges) - 1]
    begin = line.index("stands")
    end = begin + len("stands on the north cliff.")
    figure = page.locator("figure").bounding_box()
    assert figure is not None
    scale = figure["width"] / text["width"]
    middle = figure["y"] + (top + bottom) / 2 * scale
    page.mouse.move(figure["x"] + edges[begin] * scale + 1, middle)
    page.mouse.down()
    page.mouse.move(figure["x"] + (edges[end] + edges[end - 1]) / 2 * scale + 1, middle, steps=5)
    page.mouse.up()
    # What is selected is what the mouse went over on the picture.
    assert page.evaluate("getSelection().toString()") == "stands on the north cliff."
    # Lines stay lines.
    page.locator(".layer").evaluate("(layer) => getSelection().selectAllChildren(layer)")
    lines = [line.strip() for line in page.evaluate("getSelection().toString()").strip().split("\n")]
    assert lines == [line.strip() for line in text["text"].strip().split("\n")]
    assert len(lines) > 1


def test_marks_of_text_from_right_to_left(page: Page, service: Service, uploads: list[str], tmp_path: Path) -> None:
    pdfmetrics.registerFont(TTFont("Hebrew", str(FONT)))
    canvas = Canvas(str(tmp_path / "מגדלור.pdf"), pagesize=(WIDTH, HEIGHT), invariant=True)
    canvas.setFont("Hebrew", 16)
    canvas.drawRightString(WIDTH - MARGIN, HEIGHT - 100, HEBREW[::-1])  # as programs draw it, from left to right
    canvas.save()
    name = "מגדלור.pdf"
    uploads.append(service.upload(name, (tmp_path / name).read_bytes()))
    _open_source(page, service.url, "המגדלור עומד", name)
    source = _source(page, service)
    assert HEBREW in source["quote"]
    served = _served_boxes(service, source, source["start"], source["end"])
    expect(page.locator(".mark")).to_have_count(1)
    ((left, top, right, bottom),) = _boxes(page, page.locator(".mark"), served["width"], served["height"])
    assert right == pytest.approx(WIDTH - MARGIN, abs=3)
    assert left == pytest.approx(WIDTH - MARGIN - pdfmetrics.stringWidth(HEBREW, "Hebrew", 16), abs=3)
    assert top < 100 < bottom + 3
    # The name and the quote are read from the right, wherever they stand.
    card = page.get_by_role("list", name="Sources").get_by_role("button").first
    for part in (card.locator(".name"), card.locator("q"), page.locator("rag-viewer h2"), page.locator(".quote-bar p")):
        expect(part).to_have_css("direction", "rtl")
    page.get_by_role("link", name="Documents", exact=True).click()
    row = page.get_by_role("region", name="List of documents").get_by_role("button", name=name)
    expect(row).to_have_css("direction", "rtl")
