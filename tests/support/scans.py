"""Pictures of words, as scanners and screens make them."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rag.ingest.extraction import close_readers
from tests.support.servers import missing

SIZE = (1000, 500)
LINES = ("The lighthouse keeper counts", "seventeen ships in the harbour", "before the tide turns at noon.")


def require_tesseract() -> None:
    """Skip on a machine without tesseract; fail in CI."""
    if shutil.which("tesseract") is None:
        missing("tesseract")


@contextmanager
def without_tesseract(folder: Path) -> Iterator[Path]:
    """Have programs looked for in an empty folder within `folder`, and yield that folder."""
    programs = folder / "bin"
    programs.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        close_readers()
        patch.setenv("PATH", str(programs))
        yield programs
        close_readers()


def scanned(turned: int = 0) -> Callable[[Canvas], object]:
    """Return a function that draws a scan on a page of 400 x 400 points."""

    def draw(canvas: Canvas) -> None:
        width, height = (200, 400) if turned == 90 else (400, 200)
        canvas.drawImage(ImageReader(scan(turned=turned)), 0, 400 - height, width=width, height=height)

    return draw


def text_of_its_own(canvas: Canvas) -> None:
    """Draw a sentence."""
    canvas.drawString(20, 300, "The crane lifts forty tonnes.")


def scan(*lines: str, turned: int = 0) -> Image.Image:
    """Draw lines of text, 60 pixels apart, perhaps turned by degrees against the clock."""
    image = Image.new("L", SIZE, 255)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=44)
    for number, line in enumerate(lines or LINES):
        pen.text((60, 60 + 90 * number), line, fill=0, font=font)
    return image.rotate(turned, expand=True, fillcolor=255)


def encoded(image: Image.Image, kind: str, *more: Image.Image, **options: bool) -> bytes:
    """Return a picture, and perhaps more of them, as a file such as PNG or TIFF."""
    out = io.BytesIO()
    if more:
        image.save(out, kind, save_all=True, append_images=more, **options)
    else:
        image.save(out, kind, **options)
    return out.getvalue()
