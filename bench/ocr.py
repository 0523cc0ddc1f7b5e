"""`make bench-ocr`: how well scans are read, and at what cost, on pages made here.

The words of the sample handbook are set in three fonts, drawn as a scanner would see them, and read as an upload is
read. Word F1 compares the words that were read with those that were set, each as often as it occurs. A page that OCR
gave up counts as 0, and in the column "unread". Needs tesseract.
"""

from __future__ import annotations

import io
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image, ImageFilter
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rag.ingest.extraction import ResourceUsage, close_readers, read_document
from rag.ingest.formats.ocr import is_installed

HANDBOOK = Path(__file__).resolve().parent.parent / "samples" / "handbook.pdf"
FONTS = ("Times-Roman", "Helvetica", "Courier")
POINTS, MARGIN, LEADING = 11, 60, 15
LINES_A_PAGE = 48
SCANNERS: dict[str, tuple[int, Callable[[Image.Image], Image.Image]]] = {
    "200 dpi": (200, lambda image: image),
    "300 dpi": (300, lambda image: image),
    "150 dpi": (150, lambda image: image),
    "200 dpi, 1.5 degrees askew": (
        200,
        lambda image: image.rotate(1.5, fillcolor=255, resample=Image.Resampling.BICUBIC),
    ),
    "200 dpi, on its side": (200, lambda image: image.rotate(90, expand=True)),
    "200 dpi, a poor JPEG": (200, lambda image: _jpeg(image, quality=15)),
    "200 dpi, blurred": (200, lambda image: image.filter(ImageFilter.GaussianBlur(1.2))),
    "200 dpi, a faint copy": (200, lambda image: image.point(lambda value: 140 + value * 115 // 255)),
}


def main() -> None:
    if not is_installed():
        print("tesseract is not installed: apt install tesseract-ocr")
        return
    words = _words()
    print(f"{'scanner':30}{'pages':>6}{'unread':>8}{'word F1':>9}{'CPU s a page':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (dpi, spoil) in SCANNERS.items():
            print(_line(name, Path(folder, "scan.pdf"), words, dpi, spoil), flush=True)
    close_readers()


def _line(name: str, path: Path, words: list[str], dpi: int, spoil: Callable[[Image.Image], Image.Image]) -> str:
    """Make a scan of a page in each font, read the scan, and return the figures."""
    set_words = []
    canvas = Canvas(str(path))
    for image, of_page in _pages(words, dpi):
        spoiled = spoil(image)
        width, height = spoiled.width * 72 / dpi, spoiled.height * 72 / dpi
        canvas.setPageSize((width, height))
        canvas.drawImage(ImageReader(spoiled), 0, 0, width, height)
        canvas.showPage()
        set_words.append(of_page)
    canvas.save()
    usage = ResourceUsage()
    pages = list(read_document(path, usage=usage).pages)
    scores = [_f1(page.text.split(), wanted) for page, wanted in zip(pages, set_words, strict=True)]
    unread = sum(1 for page in pages if page.warning)
    cpu = (usage.cpu_seconds + usage.ocr_seconds) / len(pages)
    return f"{name:30}{len(pages):>6}{unread:>8}{sum(scores) / len(scores):>9.3f}{cpu:>14.2f}"


def _words() -> list[str]:
    return " ".join(page.text for page in read_document(HANDBOOK).pages).split()


def _pages(words: list[str], dpi: int) -> Iterator[tuple[Image.Image, list[str]]]:
    """Yield a page in each font as a picture, and its words."""
    for number, font in enumerate(FONTS):
        lines = textwrap.wrap(" ".join(words[number * 200 :] + words), 70)[:LINES_A_PAGE]
        out = io.BytesIO()
        canvas: Any = Canvas(out, pagesize=A4)
        text = canvas.beginText(MARGIN, A4[1] - MARGIN)
        text.setFont(font, POINTS, leading=LEADING)
        text.textLines(lines)
        canvas.drawText(text)
        canvas.save()
        page = pypdfium2.PdfDocument(out.getvalue())[0]
        yield page.render(scale=dpi / 72, grayscale=True).to_pil().convert("L"), " ".join(lines).split()


def _f1(found: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / max(len(found) + len(wanted), 1)


def _jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("L")


if __name__ == "__main__":
    main()
