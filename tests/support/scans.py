"""Pictures of words, as scanners and screens make them."""

from __future__ import annotations

import io
import shutil

from PIL import Image, ImageDraw, ImageFont

from tests.support.servers import missing

SIZE = (1000, 500)
LINES = ("The lighthouse keeper counts", "seventeen ships in the harbour", "before the tide turns at noon.")


def require_tesseract() -> None:
    """Skip on a machine without tesseract; fail in CI."""
    if shutil.which("tesseract") is None:
        missing("tesseract")


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
