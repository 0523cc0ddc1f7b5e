"""Scans are read by tesseract where it is installed, with the place of each word; without it, the reader says so."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from errors import DocumentError
from rag.ingest.boxes import boxes_of
from rag.ingest.extraction import ExtractionLimits, close_readers, read_document
from rag.ingest.formats import ocr
from rag.ingest.formats.ocr import OcrError, Picture, Recognizer
from rag.ingest.media_types import PDF, detect
from rag.ingest.page_views import page_picture, page_view
from rag.text.word_boxes import UNITS, WordBox, pack, unpack
from schemas import Page
from tests.support.corpus.pdfs import MISREAD, PROSE, drawn, mapped
from tests.support.scans import LINES, encoded, require_tesseract, scan, scanned, text_of_its_own, without_tesseract


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


@pytest.fixture
def no_tesseract(tmp_path: Path) -> Iterator[Path]:
    """The empty folder in which programs are looked for."""
    with without_tesseract(tmp_path) as folder:
        yield folder


def with_stamp(canvas: Canvas) -> None:
    canvas.drawImage(ImageReader(scan()), 0, 0, width=400, height=250)
    canvas.drawString(20, 300, "Copy 7")


def read(path: Path, data: bytes, media_type: str = PDF) -> list[Page]:
    path.write_bytes(data)
    return list(read_document(path, media_type=media_type).pages)


def test_scanned_pages_among_others_are_read_and_the_place_of_each_word_is_kept(tmp_path: Path) -> None:
    require_tesseract()
    pages = read(tmp_path / "a.pdf", drawn(text_of_its_own, scanned(), scanned(90), with_stamp)())
    assert [page.warning for page in pages] == [""] * 4
    assert (pages[0].text.strip(), pages[0].words) == ("The crane lifts forty tonnes.", b"")
    for page in pages[1:]:
        assert " ".join(LINES) in " ".join(page.text.split())
        words = unpack(page.words)
        assert [page.text[word.start : word.end] for word in words] == page.text.split()
        assert all(word.left < word.right <= UNITS and word.top < word.bottom <= UNITS for word in words)
    assert "Copy 7" in pages[3].text
    upright, turned = (
        next(word for word in unpack(page.words) if page.text[word.start : word.end] == "seventeen")
        for page in pages[1:3]
    )
    # The word stands at (60, 165) of 1,000 x 500 pixels, which fill the width of the page and half its height.
    assert [upright.left, upright.top] == pytest.approx([600, 1650], abs=150)
    # Turned by 90 degrees, what was at the left is at the bottom.
    assert [turned.bottom, turned.left] == pytest.approx([9400, 1650], abs=150)


@pytest.mark.parametrize(("kind", "data"), [(PDF, drawn(scanned())), ("image/tiff", lambda: encoded(scan(), "TIFF"))])
def test_a_quote_of_a_scan_is_found_on_its_picture(kind: str, data: Callable[[], bytes], tmp_path: Path) -> None:
    """The text of the view is the text of the index, and the box of a word covers its ink."""
    require_tesseract()
    path = tmp_path / "file"
    (page,) = read(path, data(), kind)
    limits = ExtractionLimits()
    view = page_view(path, 1, media_type=kind, limits=limits)
    assert view.text == page.text
    assert view.width is not None
    start = page.text.index("seventeen")
    (box,) = boxes_of(view.runs, start, start + len("seventeen"))
    webp = page_picture(path, 1, media_type=kind, width=1_000, kind="webp", limits=limits)
    scale = 1_000 / view.width
    picture = ImageOps.invert(Image.open(io.BytesIO(webp)).convert("L"))
    left, top, right, bottom = (edge * scale for edge in box)
    inside = picture.crop((left - 3, top - 3, right + 3, bottom + 3))
    ink = inside.getbbox()
    assert ink is not None
    assert ink[2] - ink[0] == pytest.approx(inside.width, abs=12)


def test_a_page_whose_fonts_have_no_map_is_read_as_a_picture(tmp_path: Path) -> None:
    require_tesseract()
    (page,) = read(tmp_path / "a.pdf", mapped(PROSE.lower(), lambda char: chr(0xE000 + ord(char))))
    assert (page.warning, "every ship that enters the harbour" in " ".join(page.text.split())) == ("", True)


def with_layer(words: str) -> Callable[[Canvas], None]:
    """Draw a scan with the invisible text that some other program recognized."""

    def draw(canvas: Canvas) -> None:
        canvas.drawImage(ImageReader(scan()), 0, 0, width=400, height=400)
        canvas.line(6, 0, 6, 400)  # the shadow of the glass; text over no ink at all counts as hidden
        layer = canvas.beginText(2, 380)
        layer.setTextRenderMode(3)
        for at in range(0, len(words), 60):
            layer.textLine(words[at : at + 60])
        canvas.drawText(layer)

    return draw


def test_a_scan_whose_text_is_misread_is_read_again_and_a_good_text_is_kept(tmp_path: Path) -> None:
    require_tesseract()
    poor, good = read(tmp_path / "a.pdf", drawn(with_layer(MISREAD), with_layer(PROSE))())
    assert LINES[1] in poor.text
    assert ("sh*p" in poor.text, poor.warning) == (False, "")
    assert "Every ship that enters the harbour" in " ".join(good.text.split())
    assert (good.words, good.warning) == (b"", "")


def animated() -> bytes:
    return encoded(scan(), "GIF", scan("Another frame of words"))


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("image/png", lambda: encoded(on_glass(scan()), "PNG"), [LINES]),
        ("image/jpeg", lambda: encoded(scan(turned=90), "JPEG"), [LINES]),
        ("image/tiff", lambda: encoded(scan(), "TIFF", scan("The second page")), [LINES, ("The second page",)]),
        ("image/webp", lambda: encoded(scan().convert("RGB"), "WEBP", lossless=True), [LINES]),
        ("image/bmp", lambda: encoded(scan().resize((500, 250)), "BMP"), [LINES]),
        ("image/gif", animated, [LINES, ("Another frame of words",)]),
    ],
)
def test_each_frame_of_an_image_is_a_page(
    kind: str, data: Callable[[], bytes], expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    require_tesseract()
    assert detect(io.BytesIO(data()), "file") == kind
    pages = read(tmp_path / "file", data(), kind)
    assert [" ".join(page.text.split()) for page in pages] == [" ".join(lines) for lines in expected]
    assert [page.warning for page in pages] == [""] * len(expected)


def on_glass(image: Image.Image) -> Image.Image:
    """Return a picture whose white is transparent, over black."""
    glass = Image.new("RGBA", image.size, (0, 0, 0, 0))
    glass.putalpha(ImageOps.invert(image))
    return glass


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "too_large"),
        (encoded(scan(), "PNG")[:2_000], "broken"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "broken"),
        (
            encoded(Image.new("1", (9, 9)), "TIFF", *[Image.new("1", (9, 9))] * 501),
            "too_long",
        ),
    ],
)
def test_images_that_cannot_be_read_are_refused_with_the_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    require_tesseract()
    with pytest.raises(DocumentError) as caught:
        read(tmp_path / "file", data, detect(io.BytesIO(data), "file"))
    assert caught.value.reason == reason


@pytest.mark.usefixtures("no_tesseract")
def test_without_tesseract_an_image_is_warned_of(tmp_path: Path) -> None:
    assert [page.warning for page in read(tmp_path / "file", encoded(scan(), "PNG"), "image/png")] == ["no_text"]


@pytest.mark.usefixtures("no_tesseract")
def test_without_tesseract_a_scan_is_warned_of(tmp_path: Path) -> None:
    assert not ocr.is_installed()
    pages = read(tmp_path / "a.pdf", drawn(text_of_its_own, scanned())())
    assert [(page.text.strip(), page.warning) for page in pages] == [
        ("The crane lifts forty tonnes.", ""),
        ("", "no_text"),
    ]


def test_a_page_that_tesseract_cannot_read_costs_that_page_only(no_tesseract: Path, tmp_path: Path) -> None:
    program(no_tesseract, 'if [ "$1" = --list-langs ]; then echo eng; else exit 1; fi')
    pages = read(tmp_path / "a.pdf", drawn(text_of_its_own, scanned())())
    assert [page.warning for page in pages] == ["", "ocr_failed"]


def test_a_picture_that_is_slow_to_draw_or_to_recognize_is_given_up(
    no_tesseract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "CPU_SECONDS", 1)
    recognizer = Recognizer("eng", lambda: None)
    program(no_tesseract, 'if [ "$1" = --list-langs ]; then echo eng; else while :; do :; done; fi')
    with pytest.raises(OcrError):
        recognizer.read(lambda: Picture(1, 1, b"x"), dpi=200)
    program(no_tesseract, "read -r line; exit 0")
    with pytest.raises(OcrError):
        recognizer.read(draw_for_ever, dpi=200)


def draw_for_ever() -> Picture:
    while True:
        pass


def program(folder: Path, script: str) -> None:
    """Write a stand-in for tesseract."""
    path = folder / "tesseract"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_languages_of_several_scripts_are_chosen_by_the_script_of_the_page(no_tesseract: Path) -> None:
    """A stand-in says that the page is Cyrillic, and gives its arguments as the text."""
    row = r"1\t1\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t\n5\t1\t1\t1\t1\t1\t1\t1\t2\t2\t90\t%s\n"
    program(
        no_tesseract,
        'if [ "$1" = --list-langs ]; then printf "eng\\nrus\\nukr\\nosd\\n"; exit; fi\nwhile read -r _; do :; done\n'
        f'case "$*" in *"psm 0"*) echo "Script: Cyrillic";; *) printf "head\\n{row}" "$4";; esac',
    )
    recognized = Recognizer("eng+rus+ukr+deu", lambda: None).read(lambda: Picture(9, 9, bytes(81)), dpi=200)
    assert recognized is not None
    assert (recognized.text, recognized.words) == ("rus+ukr", (WordBox(0, 7, 1111, 1111, 3333, 3333),))


def test_words_are_packed_and_unpacked() -> None:
    words = [WordBox(0, 5, 1, 2, 3, 4), WordBox(70_000, 70_001, 0, 0, UNITS, UNITS)]
    assert unpack(pack(words)) == words
    assert unpack(b"") == []
