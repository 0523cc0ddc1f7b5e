"""A page of a PDF as people see it: its picture, and where each character of its text stands."""

from __future__ import annotations

import io
import sys
from ctypes import c_int, c_uint, pointer
from typing import Any, Final

import PIL.Image
import PIL.PngImagePlugin
import PIL.WebPImagePlugin
import pypdfium2
import pypdfium2.raw as pdfium

from errors import DocumentError
from rag.ingest.boxes import Box, PlacedChar
from rag.ingest.formats.pdf_calls import direct, picture_matrix

# Pictures have at most so many pixels. A page of a hundred metres is drawn smaller, not refused.
MAX_PIXELS, MAX_SIDE = 8_000_000, 16_000  # WebP takes 16,383 in a row
# Small type frays below this quality.
_QUALITY = 80
# Effort of the encoder: 40 ms for a printed page of 918 x 1188 pixels; at the default of 4 it takes 85 ms, and the
# files are 2 % smaller.
_EFFORT = 2
_SURROGATES: Final = (0xD800, 0xDC00, 0xE000)

_unicode = direct(pdfium.FPDFText_GetUnicode, c_uint)
_loose_box = direct(pdfium.FPDFText_GetLooseCharBox, c_int)


def page_size(document: Any, index: int) -> tuple[float, float]:
    """Return the width and height of a page in points, as the page is shown. Raises DocumentError."""
    try:
        width, height = document.get_page_size(index)
    except (pypdfium2.PdfiumError, IndexError, ValueError):
        raise _broken(index) from None
    return max(float(width), 1.0), max(float(height), 1.0)


def picture(document: Any, index: int, *, width: int, kind: str) -> bytes:
    """Return the picture of a page, `width` pixels wide or less, as `webp` or `png`. Raises DocumentError."""
    page_width, page_height = page_size(document, index)
    scale = min(width / page_width, (MAX_PIXELS / (page_width * page_height)) ** 0.5, MAX_SIDE / page_height)
    if pdfium.FPDF_GetFormType(document.raw) != pdfium.FORMTYPE_NONE:
        document.init_forms()  # fields are shown with what is filled in
    try:
        page = document[index]
        image = page.render(scale=scale, rev_byteorder=True).to_pil()
    except (pypdfium2.PdfiumError, ValueError):
        raise _broken(index) from None
    return encoded(image, kind)


def encoded(image: PIL.Image.Image, kind: str) -> bytes:
    """Return a picture as `webp` or `png`."""
    output = io.BytesIO()
    options = {"quality": _QUALITY, "method": _EFFORT} if kind == "webp" else {"compress_level": 6}
    image.save(output, format=kind.upper(), **options)
    return output.getvalue()


def placed_chars(page: pypdfium2.PdfPage) -> list[PlacedChar]:
    """Return the characters of an open page in the order of its text, each with its box on the page's picture.

    The box is as high as the line and as wide as the step to the next character.
    """
    text_page = page.get_textpage()
    to_picture = picture_matrix(page)
    rect = pdfium.FS_RECTF()
    into = pointer(rect)
    chars: list[PlacedChar] = []
    before = 0
    for index in range(text_page.count_chars()):
        code = _unicode(text_page.raw, index)
        box = None
        if _loose_box(text_page.raw, index, into):
            left, top, right, bottom = to_picture(rect.left, rect.bottom, rect.right, rect.top)
            box = Box(left, top, right, bottom) if right > left and bottom > top else None
        low = _SURROGATES[1] <= code < _SURROGATES[2]
        if low and _SURROGATES[0] <= before < _SURROGATES[1]:
            whole = 0x10000 + ((before - _SURROGATES[0]) << 10) + (code - _SURROGATES[1])
            chars[-1] = PlacedChar(chr(whole), chars[-1].box)
        else:
            chars.append(PlacedChar(chr(code) if code <= sys.maxunicode else "", box))
        before = code
    text_page.close()
    return chars


def _broken(index: int) -> DocumentError:
    return DocumentError("broken", f"the PDF is broken: page {index + 1} cannot be drawn")
