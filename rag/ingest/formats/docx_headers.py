"""What the formatting of a DOCX table says of its first row: a header, or labels beside their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rag.ingest.formats.package import attribute, child, is_on, local

MAX_HEADER_ROWS: Final = 4
_FIRST_ROW: Final = 0x20  # the bit of tblLook
_NO_FILL: Final = frozenset((None, "", "auto", "FFFFFF", "ffffff"))


def header_rows_of(table: Any, rows: Sequence[Any]) -> int | None:
    """Return how many rows at the top are headers: marked or emphasized, and those into which their cells go on.

    None where neither shows.
    """
    marked = next((n for n, row in enumerate(rows) if not is_on(child(row, "trPr"), "tblHeader")), len(rows))
    count = marked or _first_row_is_header(table, rows[:2])
    while (
        count and count < min(len(rows), MAX_HEADER_ROWS) and any(is_continued(cell) for cell in row_cells(rows[count]))
    ):
        count += 1
    return count


def is_continued(cell: Any) -> bool:
    """Return True for a cell that is merged with the one above."""
    properties = child(cell, "tcPr")
    merged = None if properties is None else child(properties, "vMerge")
    return merged is not None and attribute(merged, "val") in {None, "continue"}


def _first_row_is_header(table: Any, rows: Sequence[Any]) -> int | None:
    """Return 1 if the first of two rows is emphasized as a header is, 0 if its labels are; None if neither is."""
    first = [_is_emphasized(cell) for cell in row_cells(rows[0])] if rows else []
    if len(first) > 1 and True in first and first[0] and not any(first[1::2]) and all(first[::2]):
        return 0  # a form: every other cell is a label
    if not first or not all(first):
        return None
    below = [_is_emphasized(cell) for cell in row_cells(rows[1])] if len(rows) > 1 else []
    if _has_first_row_look(table) and all(_is_bold(cell) for cell in row_cells(rows[0])):
        return 1
    return 1 if below and not any(below) else None


def row_cells(row: Any) -> Iterator[Any]:
    """Yield the cells of a row, within content controls too."""
    for element in row:
        if local(element) == "tc":
            yield element
        elif local(element) in {"sdt", "sdtContent", "customXml"}:
            yield from row_cells(element)


def _is_emphasized(cell: Any) -> bool:
    fill = child(cell, "tcPr", "shd")
    return _is_bold(cell) or (fill is not None and attribute(fill, "fill") not in _NO_FILL)


def _is_bold(cell: Any) -> bool:
    """Return True if a cell has words, and all are bold."""
    runs = [run for run in cell.iter("{*}r") if child(run, "t") is not None]
    return bool(runs) and all(is_on(child(run, "rPr"), "b") for run in runs)


def _has_first_row_look(table: Any) -> bool:
    """Return True if the table has its first row formatted apart from the others. Word's default says so, too."""
    look = child(table, "tblPr", "tblLook")
    return look is not None and (attribute(look, "firstRow") == "1" or _hex(attribute(look, "val")) & _FIRST_ROW > 0)


def _hex(value: str | None) -> int:
    try:
        return int(value or "0", 16)
    except ValueError:
        return 0
