"""Tables as lines that can be read alone: each row names the header of every value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.ingest.formats.blocks import Block, one_line

SEPARATOR = " | "
# A table with a longer cell lays out a page; its cells are text.
MAX_CELL_CHARS = 600
MAX_HEADER_CHARS = 120
_FIGURE = re.compile(r"^[^\w]*\d[\d\s.,:/%()–-]*\D{0,4}$")

Rows = Sequence[Sequence[str]]


def table_blocks(rows: Rows, *, header_rows: int | None = None, caption: str = "") -> list[Block]:
    """Return a line for each row: `header: value | header: value`, or the values where the table has no header.

    `header_rows` is the number of rows at the top that are headers; None where the table does not say so, so that its
    first row is judged by the rows below. Rows may differ in length; "" is an empty cell.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    if not rows:
        return []
    count = (1 if has_header(rows) else 0) if header_rows is None else min(header_rows, len(rows) - 1)
    headers = joined_headers(rows[:count])
    blocks = [Block(caption)] if caption else []
    lines = [row_line(row, headers if number >= count else ()) for number, row in enumerate(rows)]
    lines += filter(None, [empty_columns(headers, rows[count:])])
    return blocks + [Block(line, "row", first=number == 0) for number, line in enumerate(lines)]


def row_line(row: Sequence[str], headers: Sequence[str]) -> str:
    """Return a row as one line, without its empty cells. A value without a header stands alone."""
    named = [f"{headers[n]}: {cell}" if n < len(headers) and headers[n] else cell for n, cell in enumerate(row) if cell]
    return SEPARATOR.join(named)


def empty_columns(headers: Sequence[str], rows: Rows) -> str:
    """Return a line that names the headers of columns without a value, which no row names; "" for none."""
    used = {number for row in rows for number, cell in enumerate(row) if cell}
    named = {header for number, header in enumerate(headers) if number in used}
    empty = [header for number, header in enumerate(headers) if header and number not in used and header not in named]
    return f"Columns without values: {', '.join(dict.fromkeys(empty))}" if empty else ""


def joined_headers(rows: Rows) -> list[str]:
    """Return the header of each column, from all header rows. A header that spans columns was given to each of them."""
    headers: list[str] = []
    for column in range(max((len(row) for row in rows), default=0)):
        levels: list[str] = []
        for row in rows:
            level = row[column] if column < len(row) else ""
            if level and level not in levels:
                levels.append(level)
        headers.append(" ".join(levels)[:MAX_HEADER_CHARS])
    return headers


def has_header(rows: Rows) -> bool:
    """Return True if the first row names the columns: all of it is words, and figures stand below at least one."""
    width = max(len(row) for row in rows)
    first = rows[0]
    if len(rows) == 1 or width == 1 or len(first) < width or not all(first) or len(set(first)) < width:
        return False
    if any(is_figure(cell) or len(cell) > MAX_HEADER_CHARS for cell in first):
        return False
    columns = [[row[n] for row in rows[1:] if len(row) > n and row[n]] for n in range(width)]
    return any(column and all(is_figure(value) for value in column) for column in columns)


def is_figure(text: str) -> bool:
    """Return True for a number, perhaps with a unit, or a date."""
    return bool(_FIGURE.match(text))
