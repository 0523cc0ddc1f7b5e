"""The cells of an ODS workbook that are shown in percent, by the type of their value."""

from __future__ import annotations

import io
from typing import Any

from rag.ingest.formats.package import attribute, local
from rag.ingest.formats.percent_xlsx import Cells

CONTENT = "content.xml"
# A row, or a cell, may stand for so many that follow it. Empty ones stand for a million, but have no value.
MAX_REPEATED = 1_000
_TAGS = ("{*}table", "{*}table-row", "{*}table-cell", "{*}covered-table-cell")


def percent_of_ods(content: bytes) -> dict[str, Cells]:
    """Return the cells that are shown in percent, by sheet, of the part `content.xml`."""
    if b'"percentage"' not in content and b"'percentage'" not in content:
        return {}
    from lxml import etree

    found: dict[str, set[tuple[int, int]]] = {}
    events = etree.iterparse(
        io.BytesIO(content), events=("start", "end"), tag=_TAGS, resolve_entities=False, no_network=True, load_dtd=False
    )
    sheet: set[tuple[int, int]] = set()
    row = column = 0
    try:
        for event, element in events:
            kind = local(element)
            if event == "start" and kind == "table":
                sheet, row = found.setdefault(attribute(element, "name") or "", set()), 0
            elif event == "start":
                column = 0 if kind == "table-row" else column
            elif kind == "table-row":
                row += _repeated(element, "number-rows-repeated")
                _forget(element)
            elif kind.endswith("cell"):
                width = _repeated(element, "number-columns-repeated")
                if attribute(element, "value-type") == "percentage":
                    height = _repeated(element.getparent(), "number-rows-repeated")
                    sheet |= {
                        (row + y, column + x)
                        for y in range(min(height, MAX_REPEATED))
                        for x in range(min(width, MAX_REPEATED))
                    }
                column += width
    except etree.LxmlError:
        return {}
    return {name: frozenset(cells) for name, cells in found.items()}


def _repeated(element: Any, name: str) -> int:
    number = attribute(element, name) or ""
    return int(number) if number.isascii() and number.isdigit() and len(number) <= len("1048576") else 1


def _forget(element: Any) -> None:
    """Free a row and those before it."""
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]
