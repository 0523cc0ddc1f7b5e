"""Images (PNG, JPEG, TIFF, WebP, BMP, GIF): each frame is a page, read by OCR."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from errors import DocumentError
from rag.ingest.formats.blocks import File, PageText
from rag.ingest.formats.legibility import is_legible
from rag.ingest.formats.ocr import DPI, MAX_PIXELS, OCR_FAILED, OcrError, Picture, Recognizer
from rag.ingest.formats.pdf import NO_TEXT

# An image of more pixels is not unpacked: it takes 300 MB in colour.
MAX_IMAGE_PIXELS = 100_000_000
MAX_FRAMES = 500
# Words on screens are half as high as those of scans, which is what tesseract has learned.
_SCREEN_DPI, _MAX_SCREEN_SIDE = 120, 2_000
# The values of Exif's orientation for a picture that lies on its side.
_TURNED = (5, 6, 7, 8)


def read_image(file: File, recognizer: Recognizer) -> tuple[int, Iterator[PageText]]:
    """Open an image; return the number of its frames, and a page for each. Raises DocumentError."""
    image = _open(file)
    frames = getattr(image, "n_frames", 1)
    if frames > MAX_FRAMES:
        raise DocumentError("too_long", f"the image has {frames} frames; at most {MAX_FRAMES} are taken")
    return frames, _pages(image, frames, recognizer)


def _open(file: File) -> Any:
    from PIL import Image

    warnings.simplefilter("ignore")  # Pillow warns of bombs, which are refused here
    try:
        # From memory: the forks that draw frames would move each other's place in an open file.
        image = Image.open(io.BytesIO(file.read_bytes()), formats=("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"))
        pixels = image.width * image.height
    except Image.DecompressionBombError:
        pixels = MAX_IMAGE_PIXELS + 1
    except (OSError, ValueError, SyntaxError):
        raise DocumentError("broken", "the image is broken: it cannot be opened") from None
    if pixels > MAX_IMAGE_PIXELS:
        raise DocumentError("too_large", f"the image has more than {MAX_IMAGE_PIXELS // 1_000_000} million pixels")
    return image


def _pages(image: Any, frames: int, recognizer: Recognizer) -> Iterator[PageText]:
    failed = 0
    before = ""
    for number in range(frames):
        if not recognizer.languages:
            yield PageText("", "", None, NO_TEXT, (), _shown_size(image, number))
            continue
        try:
            recognized = recognizer.read(partial(_draw, image, number), dpi=_dpi(image))
        except OcrError:
            failed += 1
            if failed == frames:
                raise DocumentError("broken", "the image cannot be read: it is broken, or too costly") from None
            yield PageText("", "", None, OCR_FAILED)
            continue
        # The frames of an animation show the same text again and again.
        if recognized is None or not is_legible(recognized.text) or recognized.text == before:
            warning = NO_TEXT if recognized is None or recognized.text != before else ""
            yield PageText("", "", None, warning, (), _shown_size(image, number), recognized=True)
        else:
            before = recognized.text
            words = recognized.words
            yield PageText("", recognized.text, None, "", words, _shown_size(image, number), recognized=True)


def recognize(file: File, recognizer: Recognizer, *, min_side: int, min_pixels: int) -> str | None:
    """Return the text of a picture inside a document; None for a picture that is small, or of another kind.

    "" is a picture without text. Raises OcrError, also without tesseract.
    """
    try:
        image = _open(file)
    except DocumentError:
        return None
    if min(image.size) < min_side or image.width * image.height < min_pixels:
        return None
    recognized = recognizer.read(partial(_draw, image, 0), dpi=_dpi(image))
    return recognized.text if recognized is not None and is_legible(recognized.text) else ""


def _shown_size(image: Any, number: int) -> tuple[float, float]:
    """Return the size of a frame that was drawn, as `size` does, without unpacking the frame."""
    from PIL import ExifTags

    with suppress(OSError, ValueError, SyntaxError, EOFError):
        image.seek(number)
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    return (float(height), float(width)) if turned else (float(width), float(height))


def _is_of_screen(image: Any) -> bool:
    resolution = image.info.get("dpi", (0, 0))
    return max(image.size) <= _MAX_SCREEN_SIDE and float(resolution[0] or 0) < _SCREEN_DPI


def _dpi(image: Any) -> int:
    resolution = float(image.info.get("dpi", (0, 0))[0] or 0)
    return DPI if _is_of_screen(image) or not 70 <= resolution <= 600 else round(resolution)  # noqa: PLR2004


def _draw(image: Any, number: int) -> Picture:
    """Return a frame in grey, upright, on white paper."""
    from PIL import ImageOps

    enlarged = 2 if _is_of_screen(image) else 1
    frame = _upright(image, number)
    frame = ImageOps.autocontrast(frame) if frame.mode.startswith("I") else frame
    frame = frame.convert("L")
    frame = _scaled(frame, min(enlarged, math.sqrt(MAX_PIXELS / max(frame.width * frame.height, 1))))
    return Picture(frame.width, frame.height, frame.tobytes())


def size(file: File, number: int) -> tuple[float, float]:
    """Return the width and height of a frame as it is shown, in pixels. Raises DocumentError."""
    frame = _shown(file, number)
    return float(frame.width), float(frame.height)


def picture(file: File, number: int, *, width: int) -> Any:
    """Return a frame in colour, at most `width` pixels wide. Raises DocumentError."""
    frame = _shown(file, number).convert("RGB")
    return _scaled(frame, min(width / frame.width, math.sqrt(MAX_PIXELS / (frame.width * frame.height)), 1.0))


def _shown(file: File, number: int) -> Any:
    image = _open(file)
    if number >= getattr(image, "n_frames", 1):
        raise DocumentError("no_page", f"the file has no page {number + 1}")
    try:
        return _upright(image, number)
    except (OSError, ValueError, SyntaxError):
        raise DocumentError("broken", "the image is broken") from None


def _upright(image: Any, number: int) -> Any:
    """Return a frame as it is shown: turned as the camera says, without transparency."""
    from PIL import Image, ImageOps

    image.seek(number)
    frame = ImageOps.exif_transpose(image)
    if frame.width * frame.height > MAX_IMAGE_PIXELS:
        raise MemoryError
    if not frame.has_transparency_data:
        return frame
    frame = frame.convert("RGBA")
    paper = Image.new("RGBA", frame.size, "white")
    paper.alpha_composite(frame)
    return paper


def _scaled(frame: Any, scale: float) -> Any:
    from PIL import Image

    if scale == 1:
        return frame
    new = max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)
    return frame.resize(new, Image.Resampling.LANCZOS)
