"""Tables as lines that can be read alone: each row names the header of every value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Literal

from rag.ingest.formats.blocks import Block, one_line

SEPARATOR = " | "
# A table with a longer cell lays out a page; its cells are text.
MAX_CELL_CHARS = 600
MAX_HEADER_CHARS = 120
# So many rows of one cell above the others may be titles of the table.
MAX_TITLE_ROWS = 3
# The least columns of a table with labels and values.
MIN_COLUMNS = 3
# Labels beside values stand in every other column of a form of so many columns, and not below each other.
_MIN_FORM_COLUMNS = 4
_FIGURE = re.compile(r"^[^\w]*\d[\d\s.,:/%()–-]*\D{0,4}$")
_PERIOD = re.compile(r"^(?:FY ?)?(?:19|20)\d\d(?:[/–-]\d{2,4})?[AEFP]?$", re.IGNORECASE)

Rows = Sequence[Sequence[str]]


def table_blocks(rows: Rows, *, header_rows: int | None = None, caption: str = "") -> list[Block]:
    """Return a line for each row: `header: value | header: value`, or the values where the table has no header.

    `header_rows` is the number of rows at the top that are headers; None where the table does not say so, so that the
    first row is judged by the rows below. Rows may differ in length; "" is an empty cell. A row of one cell in a wider
    table spans all columns: it is a title of the table, or of the rows below it.
    """
    if header_rows:  # one that is empty names nothing
        header_rows = sum(1 for row in rows[:header_rows] if any(map(str.strip, row)))
    rows = _filled([[one_line(cell) for cell in row] for row in rows])
    if not rows:
        return []
    titles = _title_rows(rows)
    count = _header_count(rows[titles:], header_rows, titles)
    if count and _has_colons(rows[titles : titles + count]):  # fields of a form, such as "Crew:", on each of its pages
        titles, count = titles + count, 0
    columns = rows[titles:]
    headers = joined_headers(columns[:count])
    names = _names(rows, titles, count, has_name=not count and header_rows != 0 and may_name_columns(columns))
    blocks = [Block(caption, "caption")] if caption else []
    for number, row in enumerate(rows):
        if number < titles + count:
            line = row_line([cell for cell, _ in groupby(row)], ())  # a header that spans columns stands once
        else:
            line = row_line(row, headers if names[number] != "rows" else ())
        blocks.append(Block(line, "row", first=number == 0, names=names[number]))
    if line := empty_columns(headers, columns[count:]):
        blocks.append(Block(line, "row"))
    return blocks


def _filled(rows: Rows) -> list[list[str]]:
    """Return the rows that have a cell, without columns that have none. A text in all of many columns spans them."""
    used = {column for row in rows for column, cell in enumerate(row) if cell}
    filled = [[cell for column, cell in enumerate(row) if column in used] for row in rows if any(row)]
    return [
        row[:1] if len(row) >= MIN_COLUMNS and len(set(row)) == 1 and not is_figure(row[0]) else row for row in filled
    ]


def long_table_blocks(
    rows: Rows, cells: Sequence[Mapping[int, Sequence[Block]]], *, header_rows: int
) -> Iterator[Block]:
    """Yield a table with long texts: of each row its short values as a line, then the blocks of the long ones.

    `cells` has the blocks of each row by their column. Each part of a long row repeats the line of its short values.
    """
    count = min(header_rows, len(rows) - 1)
    headers = joined_headers([row for row in rows[:count] if len(row) > 1])
    for number, row in enumerate(rows):
        short = [cell if len(cell) <= MAX_HEADER_CHARS else "" for cell in row]
        yield Block(row_line(short, headers if number >= count else ()), "row", first=True, names="table")
        for column, blocks in sorted(cells[number].items()):
            name = headers[column] if column < len(headers) and number >= count else ""
            for block in blocks if column < len(row) and not short[column] else ():
                text = f"{name}: {block.text}" if name and block.text else block.text
                yield replace(block, text=text, kind="row", first=False)
                name = name if not block.text else ""


def _title_rows(rows: Rows) -> int:
    """Return the number of rows at the top that span all columns of the others."""
    count = next((number for number, row in enumerate(rows) if len(row) > 1), 0)
    return count if count <= MAX_TITLE_ROWS else 0


def _names(rows: Rows, titles: int, header_rows: int, *, has_name: bool) -> list[Literal["", "table", "rows"]]:
    """Return what each row names. `has_name`: the row below the titles may name the columns."""
    wide = max(map(len, rows)) > 1
    names: list[Literal["", "table", "rows"]] = ["rows" if wide and len(row) == 1 else "" for row in rows]
    # The last title above the rows is that of the first rows alone if others follow and no header is between.
    is_first = not header_rows and not has_name and names[titles - 1 : titles] == ["rows"] and "rows" in names[titles:]
    below = titles + (1 if has_name else -1 if is_first else 0)
    for number in range(below):
        names[number] = "table"
    return names


def _header_count(columns: Rows, header_rows: int | None, titles: int) -> int:
    """Return how many of the rows below the titles are headers. Titles may be all that a table marks as headers."""
    if header_rows is None or 0 < header_rows <= titles:
        return 1 if has_header(columns) else 0
    return max(0, min(header_rows - titles, len(columns) - 1))


def _has_colons(rows: Rows) -> bool:
    cells = {cell for row in rows for cell in row if cell}
    return 2 * sum(cell.endswith(":") for cell in cells) > len(cells)


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
        headers.append(" ".join(levels)[:MAX_HEADER_CHARS].rstrip(" :,"))
    return headers


def may_name_columns(rows: Rows) -> bool:
    """Return True if the first row of several may name the columns: words in all of them, different or in a rhythm."""
    width = max(len(row) for row in rows)
    first = rows[0]
    labels = next((n for n, cell in enumerate(first) if cell), 0)  # columns of labels without a name
    named = list(first[labels:])
    if len(rows) == 1 or len(named) == 1 or len(first) < width or not all(named) or _is_form(rows):
        return False
    names = len(set(named))
    if names < len(named) and (names == 1 or named[:names] * (len(named) // names) != named):
        return False
    columns = [[row[n] for row in rows[1:] if len(row) > n and row[n]] for n in range(width)]
    figures = [value for column in columns[:labels] for value in column if is_figure(value)]
    is_index = labels == 1 and len(set(figures)) == len(columns[0])  # as programs number the rows
    if figures and not is_index:
        return False
    return all(
        len(cell) <= MAX_HEADER_CHARS and (not is_figure(cell) or is_period_of(cell, columns[n]))
        for n, cell in enumerate(first)
    )


def has_header(rows: Rows) -> bool:
    """Return True if the first row names the columns: all of it is words, and figures stand below at least one."""
    if not may_name_columns(rows):
        return False
    named = [n for n, cell in enumerate(rows[0]) if cell]
    columns = [[row[n] for row in rows[1:] if len(row) > n and row[n]] for n in named]
    return any(column and all(is_figure(value) for value in column) for column in columns)


def _is_form(rows: Rows) -> bool:
    """Return True for labels beside their values: some cells of the first row end in a colon, or columns take turns.

    In a form of four columns the first and the third have different words, and the others mixed values.
    """
    first = rows[0]
    with_colon = sum(cell.rstrip().endswith(":") for cell in first)
    if with_colon:
        return with_colon < len(first)
    width = len(first)
    if width < _MIN_FORM_COLUMNS or width % 2:
        return False
    labels = [row[n] for row in rows for n in range(0, min(width, len(row)), 2) if row[n]]
    if len(set(labels)) < len(labels) or any(map(is_figure, labels)):
        return False
    values = [[row[n] for row in rows[1:] if n < len(row) and row[n]] for n in range(1, width, 2)]
    return any(any(map(is_figure, column)) and not all(map(is_figure, column)) for column in values)


def is_period_of(cell: str, values: Sequence[str]) -> bool:
    """Return True for a year above values that are no years."""
    return is_period(cell) and not all(map(is_period, values))


def is_period(text: str) -> bool:
    """Return True for a year, or a year of a company."""
    return bool(_PERIOD.match(text))


def is_figure(text: str) -> bool:
    """Return True for a number, perhaps with a unit, or a date."""
    return bool(_FIGURE.match(text))
