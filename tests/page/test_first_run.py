"""A newcomer, with no key and no model: from the drop of a scan to the words on its picture, and how to get a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from client.llm import ollama
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.page.conftest import Watched, ask, drop
from tests.support.ollama import make_ollama, model
from tests.support.openai_stub import serving
from tests.support.processes import free_port
from tests.support.scans import SIZE, encoded, require_tesseract, scan
from tests.support.service import Service, running_service

PAGES = [
    ("The keeper of the north tower", "logs the wind each morning", "in a book bound in green."),
    ("Coal is stored in the cellar", "below the eastern stair,", "forty sacks for each winter."),
    ("The lighthouse keeper counts", "seventeen ships in the harbour", "before the tide turns at noon."),
    ("Visitors may climb the stair", "on the first Sunday in June", "if the wind is gentle."),
]
# Where the second line of a scan is drawn.
LINE_TOP, LINE_BOTTOM, LINE_LEFT = 150, 200, 60


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with nothing set: quotes instead of a model, and OCR by the tesseract of this machine."""
    with running_service(tmp_path_factory.mktemp("newcomer")) as started:
        yield started


def test_a_scanned_pdf_from_the_drop_to_the_words_on_its_picture(page: Page, service: Service, tmp_path: Path) -> None:
    require_tesseract()
    scanned = tmp_path / "log of the keeper.pdf"
    first, *others = (scan(*lines) for lines in PAGES)
    scanned.write_bytes(encoded(first, "PDF", *others))
    page.goto(service.url)
    expect(page.get_by_role("heading", name="See the answer on its page")).to_be_visible()
    drop(page, scanned)

    # Each page is recognized, and counted as it is done.
    tray = page.get_by_role("region", name="Files on their way")
    expect(tray.get_by_role("listitem")).to_contain_text(re.compile(r"page [1-4] of 4"))
    expect(tray.get_by_role("listitem")).to_contain_text("4 pages")

    ask(page, "How many ships does the lighthouse keeper count?")
    expect(page.locator(".answer")).to_contain_text("seventeen ships in the harbour")
    source = page.get_by_role("list", name="Sources").get_by_role("button").first
    expect(source).to_contain_text("log of the keeper.pdf page 3")
    source.click()
    expect(page.locator("figure.loaded")).to_be_visible()

    expect(page.locator(".mark").first).to_be_visible()

    # A mark lies on the line of the picture that OCR read.
    figure = page.locator("figure").bounding_box()
    boxes = [box for mark in page.locator(".mark:not(.around)").all() if (box := mark.bounding_box())]
    assert figure is not None
    scale = figure["width"] / SIZE[0]
    middles = [(box["y"] + box["height"] / 2 - figure["y"]) / scale for box in boxes]
    (line,) = (box for box, middle in zip(boxes, middles, strict=True) if LINE_TOP < middle < LINE_BOTTOM)
    assert abs((line["x"] - figure["x"]) / scale - LINE_LEFT) < 15
    # The words lie over the picture, to be selected and found.
    page.get_by_label("Find in the document").fill("harbour")
    expect(page.locator(".hit")).to_have_count(1)


def test_an_ollama_is_noticed_and_its_lines_are_shown(
    page: Page,
    watched: Watched,
    settings: Settings,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched.expected = ["ERR_"]  # while the service is started again
    models = [model("nomic-embed-text:latest", "nomic-bert"), model("qwen3:8b", "qwen3")]
    port = free_port()
    watched.host = f"127.0.0.1:{port}"
    with serving(make_ollama(models)) as url:
        monkeypatch.setattr(ollama, "URL", url)
        with serving(create_app(settings), port=port) as started:
            page.goto(started)
            expect(page.get_by_text("Ollama runs on this machine and can write them.")).to_be_visible()
            page.get_by_role("button", name="Use Ollama").click()
            dialog = page.get_by_role("dialog")
            expect(dialog.get_by_text("Ollama, which runs here with nomic-embed-text, qwen3:8b")).to_be_visible()
            lines = dialog.locator("pre").first.inner_text()
            assert lines == f"OPENAI_BASE_URL={url}/v1\nCHAT_MODEL=qwen3:8b\nEMBEDDING_MODEL=nomic-embed-text"

        # The lines are set and the service is started again: the page sees that.
        values = dict(line.lower().split("=", 1) for line in lines.splitlines())
        online = make_settings(valkey_url=settings.queue_url, **values)
        with serving(create_app(online), port=port):
            expect(page.locator(".toast")).to_contain_text("From now on qwen3:8b writes the answers.")
            expect(dialog).to_have_count(0)
            expect(page.get_by_text("No model is set")).to_have_count(0)


def test_without_an_ollama_the_page_tells_what_to_set(page: Page, service: Service) -> None:
    page.goto(service.url)
    page.get_by_role("button", name="Set a model").click()
    expect(page.get_by_role("dialog")).to_contain_text("OPENAI_API_KEY=sk-…")
    expect(page.get_by_role("dialog")).to_contain_text("CHAT_MODEL=llama3.2")
