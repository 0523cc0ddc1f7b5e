"""Pictures of pages, and the boxes of quotes on them.

Each page has a quote in red among words in blue. So the picture itself says where the quote stands: the boxes must hold
all that is red, and nothing that is blue.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from PIL import ImageChops, ImageDraw
from reportlab.lib.colors import blue, red
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from errors import DocumentError, ServerBusy
from rag.ingest import reader_pool
from rag.ingest.boxes import Box, PlacedChar, align, boxes_of, find_quote, runs
from rag.ingest.extraction import ExtractionLimits, close_readers, read_document
from rag.ingest.media_types import PDF
from rag.ingest.page_views import page_picture, page_view, prepare_reader
from tests.support.processes import wait_until

LIMITS = ExtractionLimits(cpu_seconds=20)
# A word with this mark before it is part of the quote.
MARK = "*"
SCALE = 2


def draw(canvas: Canvas, x: float, y: float, line: str, font: str = "Helvetica", size: float = 11) -> None:
    """Draw a line of words: red the marked ones, blue the others."""
    canvas.setFont(font, size)
    for word in line.split():
        canvas.setFillColor(red if word.startswith(MARK) else blue)
        canvas.drawString(x, y, word.removeprefix(MARK))
        x += canvas.stringWidth(word.removeprefix(MARK) + " ", font, size)


def two_columns(canvas: Canvas) -> None:
    left = ("Kettles are sold in", "three sizes. *The *small", "*one *holds *a *litre *and", "*a *half. All of them")
    right = ("are made of steel.", "The large one holds", "three litres, and it is", "the heaviest by far.")
    for x, column in ((60, left), (320, right)):
        for number, line in enumerate(column):
            draw(canvas, x, 700 - 15 * number, line)


def divided_words(canvas: Canvas) -> None:
    for number, line in enumerate(
        ("Store it dry. *The *guar-", "*antee *covers *the *heat-", "*ing *element. Ask us.")
    ):
        draw(canvas, 60, 700 - 15 * number, line)


def ligatures(canvas: Canvas) -> None:
    pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))
    draw(canvas, 60, 700, "Before the ﬁrst use, *ﬁll *the *ﬂask *of *water *and wait for it.", "Vera", 10)


def turned_page(canvas: Canvas) -> None:
    canvas.setPageRotation(90)
    canvas.translate(60, 500)
    draw(canvas, 0, 0, "This page is turned. *All *of *its *words are.")


def upright_text(canvas: Canvas) -> None:
    draw(canvas, 60, 700, "A table with a heading")
    canvas.translate(300, 300)
    canvas.rotate(90)
    draw(canvas, 0, 0, "that *stands *upright beside it")


def cropped_page(canvas: Canvas) -> None:
    canvas.setCropBox((40, 500, 500, 760))
    draw(canvas, 60, 700, "What is outside *of *the *crop *box is cut.")


def wide_gap(canvas: Canvas) -> None:
    draw(canvas, 60, 700, "Weight *142")
    draw(canvas, 300, 700, "*grams empty")


def as_pdf(path: Path, drawing: Callable[[Canvas], None]) -> Path:
    canvas = Canvas(str(path), pagesize=(595, 842), invariant=True)
    draw(canvas, 60, 800, "A first page")
    canvas.showPage()
    drawing(canvas)
    canvas.save()
    return path


@pytest.mark.parametrize(
    ("drawing", "quote", "lines"),
    [
        (two_columns, "The small one holds a litre and a half.", 3),
        (divided_words, "The guarantee covers the heating element.", 3),
        (ligatures, "fill the flask of water and", 1),
        (turned_page, "All of its words", None),
        (upright_text, "stands upright", 1),
        (cropped_page, "of the crop box", 1),
        (wide_gap, "142 grams", 2),
    ],
)
def test_boxes_cover_a_quote_and_nothing_else(
    tmp_path: Path, drawing: Callable[[Canvas], None], quote: str, lines: int | None
) -> None:
    path = as_pdf(tmp_path / "page.pdf", drawing)
    view = page_view(path, 2, media_type=PDF, limits=LIMITS)
    assert view.text == list(read_document(path).pages)[1].text
    span = find_quote(view.text, quote, 0)
    assert span
    boxes = boxes_of(view.runs, *span)
    assert lines in {None, len(boxes)}, boxes
    assert view.width
    data = page_picture(path, 2, media_type=PDF, width=round(view.width * SCALE), kind="png", limits=LIMITS)
    picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    assert abs(picture.height - (view.height or 0) * SCALE) <= 1
    red_ink, _, blue_ink = picture.split()
    reds, blues = ImageChops.subtract(red_ink, blue_ink), ImageChops.subtract(blue_ink, red_ink)
    assert pixels(reds) > 100
    assert pixels(ImageChops.multiply(reds, ImageChops.invert(mask(picture.size, boxes, margin=1)))) == 0
    assert pixels(ImageChops.multiply(blues, mask(picture.size, boxes, margin=-1))) == 0


def pixels(ink: PIL.Image.Image) -> int:
    return sum(ink.histogram()[100:])


def mask(size: tuple[int, int], boxes: list[Box], *, margin: int) -> PIL.Image.Image:
    """Return a picture that is white where the boxes are, each larger by a margin in pixels."""
    image = PIL.Image.new("L", size)
    for box in boxes:
        left, top, right, bottom = (edge * SCALE for edge in box)
        ImageDraw.Draw(image).rectangle((left - margin, top - margin, right + margin, bottom + margin), fill=255)
    return image


def test_text_in_another_order_than_the_file_gives_it_is_placed_word_by_word() -> None:
    words = ["Weight", "142", "Height", "97"]
    chars = [
        PlacedChar(char, Box(10 * at + 5 * number, 0, 10 * at + 5 * (number + 1), 10))
        for at, word in ((0, words[0]), (10, words[2]), (20, words[1]), (30, words[3]))
        for number, char in enumerate(word)
    ]
    text = "Weight | 142\nHeight | 97\nWeight of the box"
    found = runs(text, align(text, chars))
    boxes = {text[run.start : run.start + len(run.edges) - 1]: run.edges[0] for run in found}
    assert boxes == {"Weight": 0, "142": 200, "Height": 100, "97": 300}


def test_lines_from_right_to_left_have_edges_that_fall() -> None:
    text = "שלום עולם"
    chars = [PlacedChar(char, Box(90 - 10 * at, 0, 100 - 10 * at, 12)) for at, char in enumerate(text)]
    (run,) = runs(text, align(text, chars))
    assert run.edges == tuple(100 - 10 * at for at in range(len(text) + 1))
    assert boxes_of([run], 5, 9) == [Box(10, 0, 50, 12)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"%PDF-1.7\nnothing more", "broken"), (None, "no_page")],
)
def test_what_cannot_be_shown_has_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = as_pdf(tmp_path / "page.pdf", wide_gap)
    if content:
        path.write_bytes(content)
    for ask in (
        lambda: page_picture(path, 3, media_type=PDF, width=200, kind="webp", limits=LIMITS),
        lambda: page_view(path, 3, media_type=PDF, limits=LIMITS),
    ):
        with pytest.raises(DocumentError) as error:
            ask()
        assert error.value.reason == reason


def test_a_reader_is_ready_before_the_first_page(tmp_path: Path) -> None:
    close_readers()
    prepare_reader()
    (reader,) = reader_pool.idle
    page_picture(as_pdf(tmp_path / "page.pdf", wide_gap), 1, media_type=PDF, width=200, kind="webp", limits=LIMITS)
    assert reader_pool.idle == [reader]
    close_readers()


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGSTOP])
def test_a_reader_that_was_killed_is_replaced_and_one_without_time_is_no_fault_of_the_file(
    tmp_path: Path, ends_by: signal.Signals
) -> None:
    path = as_pdf(tmp_path / "page.pdf", wide_gap)
    close_readers()
    prepare_reader()
    (reader,) = reader_pool.idle
    os.kill(reader.pid, ends_by)
    limits = ExtractionLimits(cpu_seconds=1)
    if ends_by is signal.SIGKILL:
        wait_until(lambda: not reader.is_running)
    else:
        with pytest.raises(ServerBusy, match="try again"):
            page_view(path, 1, media_type=PDF, limits=limits)
    assert page_view(path, 1, media_type=PDF, limits=LIMITS).text
    assert reader not in reader_pool.idle
    close_readers()


def test_a_page_of_a_hundred_metres_is_drawn_smaller(tmp_path: Path) -> None:
    path = tmp_path / "strip.pdf"
    canvas = Canvas(str(path), pagesize=(100, 14_000), invariant=True)
    canvas.drawString(10, 10, "strip")
    canvas.save()
    picture = PIL.Image.open(io.BytesIO(page_picture(path, 1, media_type=PDF, width=2_400, kind="webp", limits=LIMITS)))
    assert picture.width * picture.height <= 8_100_000
