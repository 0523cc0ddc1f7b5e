"""Words that a PDF page shows as pictures: programs draw those whose font must not be embedded, and name them as text.

The text is in the structure tree of the file, as the `ActualText` of the content that a picture belongs to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import c_int, c_void_p
from dataclasses import dataclass, replace
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from rag.ingest.formats.blocks import TextLine, TextTable, clean_text, one_line
from rag.ingest.formats.pdf_calls import direct, get_bounds, get_object, numbers, object_type
from rag.ingest.formats.pdf_hidden import Bounds, drawn

# Pictures of words are so high, in points, and have so many letters for each height at most.
_MIN_HEIGHT, _MAX_HEIGHT, _MAX_LETTERS = 5.0, 80.0, 6.0
# Words on one line: their lower edges differ by less than this share of their height.
_SAME_LINE = 0.3
# A space is a wider gap than the first. Pictures with margins overlap, by more than the second without a space, and by
# more than the third with one.
_SPACE, _MARGINS, _MARGINS_AND_SPACE = 0.12, 0.33, 0.1
_MAX_TRIES = 8
_MAX_OBJECTS, _MAX_ELEMENTS, _MAX_DEPTH = 2_000, 5_000, 60

_content_id = direct(pdfium.FPDFPageObj_GetMarkedContentID, c_int)
_char_index = direct(pdfium.FPDFText_GetCharIndexFromTextIndex, c_int)
_char_box = direct(pdfium.FPDFText_GetCharBox, c_int)


@dataclass(frozen=True, slots=True)
class PicturedLine:
    """A line of words, and where it stands on the page."""

    text: str
    bounds: Bounds


class PicturedWords:
    """Finds the words that pages of one document show as pictures, until several pages have none with names."""

    def __init__(self) -> None:
        self._tries = _MAX_TRIES

    def lines(self, page: pypdfium2.PdfPage) -> list[PicturedLine]:
        """Return the lines of words that an open page shows as pictures, in the order of the page's content."""
        places = dict(_pictures(page)) if self._tries else {}
        if not places:
            return []
        texts = _actual_texts(page)
        self._tries = _MAX_TRIES if texts else self._tries - 1
        return _lines(page, [(places[number], text) for number, text in texts.items() if number in places])


def _lines(page: pypdfium2.PdfPage, named: list[tuple[tuple[c_void_p, Bounds], str]]) -> list[PicturedLine]:
    """Return the lines of pictures that are drawn, and large enough for their words."""
    named = [
        ((item, bounds), text)
        for (item, bounds), text in named
        if len(text) <= 2 + _MAX_LETTERS * (bounds[2] - bounds[0]) / (bounds[3] - bounds[1])
    ]
    texts = {bounds: text for (_, bounds), text in named}
    lines: list[PicturedLine] = []
    seen = {bounds for _, bounds, is_seen in drawn(page, [place for place, _ in named]) if is_seen}
    for bounds, text in texts.items():
        if bounds in seen:
            _add(lines, PicturedLine(text, bounds))
    return [replace(line, text=one_line(clean_text(line.text))) for line in lines if line.text.strip()]


def with_pictured(
    text: str, tables: Sequence[TextTable], lines: Sequence[PicturedLine], text_page: Any, raw_starts: Sequence[int]
) -> tuple[str, tuple[TextTable, ...]]:
    """Put each line before the line of the text that stands next below it, or before all.

    `raw_starts` are the offsets of the text's lines in the raw text of the text page.
    """
    below = list(_line_tops(text_page, raw_starts))
    begins = [0, *(number + 1 for number, char in enumerate(text) if char == "\n")]
    for line in lines:
        left, bottom, right, _ = line.bounds
        under = [
            (bottom - top, number)
            for number, (start, end, top) in enumerate(below)
            if top <= bottom + _SAME_LINE * (line.bounds[3] - bottom) and start < right and end > left
        ]
        at = begins[min(under)[1]] if under and min(under)[1] < len(begins) else 0
        at = next((table.start for table in tables if table.start < at < table.end), at)
        text = f"{text[:at]}{line.text}\n{text[at:]}"
        by = len(line.text) + 1
        tables = [_moved(table, at, by) for table in tables]
        begins = [begin + by if begin >= at else begin for begin in begins]
    return text, tuple(tables)


def _line_tops(text_page: Any, starts: Sequence[int]) -> Iterator[tuple[float, float, float]]:
    """Yield the left edge of the first letter of each line, a guess of its right edge, and its upper edge."""
    box, edges = numbers("d", 4)
    for start in starts:
        found = _char_box(text_page.raw, _char_index(text_page.raw, start), *edges)
        yield (box[0], box[0] + _MAX_HEIGHT, box[3]) if found else (0.0, -1.0, 0.0)


def _moved(table: TextTable, at: int, by: int) -> TextTable:
    def moved(line: TextLine) -> TextLine:
        return TextLine(line.text, line.start + by, line.end + by) if line.start >= at else line

    if table.start < at:
        return table
    return TextTable(table.start + by, table.end + by, tuple(map(moved, table.context)), tuple(map(moved, table.rows)))


def _pictures(page: pypdfium2.PdfPage) -> Iterator[tuple[int, tuple[c_void_p, Bounds]]]:
    """Yield the number of the marked content of each picture that may be one of words, the picture and its place."""
    edges, places = numbers("f", 4)
    for number in range(min(_MAX_OBJECTS, pdfium.FPDFPage_CountObjects(page.raw))):
        item = c_void_p(get_object(page.raw, number))
        if object_type(item) != pdfium.FPDF_PAGEOBJ_IMAGE or not get_bounds(item, *places):
            continue
        content = _content_id(item)
        if content >= 0 and _MIN_HEIGHT <= edges[3] - edges[1] <= _MAX_HEIGHT and edges[2] > edges[0]:
            yield content, (item, (edges[0], edges[1], edges[2], edges[3]))


def _actual_texts(page: pypdfium2.PdfPage) -> dict[int, str]:
    """Return the texts of the page's structure tree by the number of the marked content that each stands for."""
    tree = pdfium.FPDF_StructTree_GetForPage(page.raw)
    texts: dict[int, str] = {}
    left = [_MAX_ELEMENTS]

    def walk(element: Any, depth: int) -> None:
        left[0] -= 1
        if not element or left[0] < 0 or depth > _MAX_DEPTH:
            return
        text = _text(element)
        for number in range(pdfium.FPDF_StructElement_GetMarkedContentIdCount(element) if text else 0):
            texts.setdefault(pdfium.FPDF_StructElement_GetMarkedContentIdAtIndex(element, number), text)
            text = ""  # the first part of the content stands for all
        for number in range(pdfium.FPDF_StructElement_CountChildren(element)):
            walk(pdfium.FPDF_StructElement_GetChildAtIndex(element, number), depth + 1)

    if tree:
        for number in range(pdfium.FPDF_StructTree_CountChildren(tree)):
            walk(pdfium.FPDF_StructTree_GetChildAtIndex(tree, number), 0)
        pdfium.FPDF_StructTree_Close(tree)
    return {number: text for number, text in texts.items() if text}


def _text(element: Any) -> str:
    size = pdfium.FPDF_StructElement_GetActualText(element, None, 0)
    if size <= len("\0") * 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDF_StructElement_GetActualText(element, buffer, size)
    return buffer.raw[: size - 2].decode("utf-16-le", "ignore")


def _add(lines: list[PicturedLine], word: PicturedLine) -> None:
    """Add a word to the line before it if both stand beside each other, or begin a line."""
    left, bottom, right, top = word.bounds
    height = top - bottom
    if lines:
        begin, low, end, high = lines[-1].bounds
        if abs(low - bottom) < _SAME_LINE * height and left >= begin:
            gap = (left - end) / height
            apart = gap > _SPACE or -_MARGINS < gap < -_MARGINS_AND_SPACE
            space = " " if apart and not lines[-1].text.endswith((" ", "-")) else ""
            bounds = begin, min(low, bottom), max(end, right), max(high, top)
            lines[-1] = PicturedLine(lines[-1].text + space + word.text, bounds)
            return
    lines.append(word)
