"""The cells of an ODS workbook that are shown in percent, by the type of their value."""

from __future__ import annotations

import io
from typing import Any

from rag.ingest.formats.percent_xlsx import MAX_CELLS, Cells

CONTENT = "content.xml"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"


def percent_of_ods(content: bytes) -> dict[str, Cells]:
    """Return the cells that are shown in percent, by sheet, of the part `content.xml`; none if there are too many.

    Raises what lxml raises for XML that is broken.
    """
    if b"percentage" not in content:
        return {}
    from lxml import etree

    found: dict[str, set[tuple[int, int]]] = {}
    tags = (f"{_TABLE}table", f"{_TABLE}table-row")
    events = etree.iterparse(
        io.BytesIO(content), events=("start", "end"), tag=tags, resolve_entities=False, no_network=True, load_dtd=False
    )
    sheet: set[tuple[int, int]] = set()
    row, left = 0, MAX_CELLS
    for event, element in events:
        if element.tag == tags[0]:
            if event == "start":
                sheet, row = found.setdefault(element.get(f"{_TABLE}name", ""), set()), 0
        elif event == "end":
            height = _repeated(element, "number-rows-repeated")
            columns = _columns(element, left // height)
            left -= len(columns) * height
            if left <= 0:
                return {}
            sheet.update((row + y, column) for column in columns for y in range(height))
            row += height
            _forget(element)
    return {name: frozenset(cells) for name, cells in found.items()}


def _columns(row: Any, most: int) -> list[int]:
    """Return the columns of a row that are shown in percent; one more than `most` where there are more."""
    columns: list[int] = []
    at = 0
    for cell in row:
        width = _repeated(cell, "number-columns-repeated")
        if cell.get(f"{_OFFICE}value-type") == "percentage" and cell.get(f"{_OFFICE}value"):
            columns += range(at, at + min(width, most + 1 - len(columns)))
        at += width
    return columns


def _repeated(element: Any, name: str) -> int:
    """Return for how many rows or columns an element stands; the empty rest of a sheet is one row, repeated."""
    number = element.get(f"{_TABLE}{name}") or ""
    return max(1, int(number[:7])) if number.isascii() and number.isdigit() else 1


def _forget(element: Any) -> None:
    """Free a row and those before it."""
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]
