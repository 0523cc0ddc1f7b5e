"""Tables of HTML pages: where their cells stand, which rows are headers, and what is no table but a layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rag.ingest.formats.blocks import Block, one_line
from rag.ingest.formats.tables import (
    MAX_CELL_CHARS,
    MAX_HEADER_CHARS,
    is_figure,
    is_period,
    long_table_blocks,
    table_blocks,
)

# Larger spans count as 1: a page of small cells with large spans would take minutes.
MAX_SPAN, MAX_SPANNED_CELLS = 50, 200
MAX_HEADER_ROWS = 4
# What reports put into cells of their own, before and behind a figure.
_CURRENCIES, _BEHIND = ("$", "€", "£", "¥"), (")", "%", ")%")


class Cell:
    """A cell of a table: its blocks, and how many columns and rows it spans."""

    def __init__(self, element: Any) -> None:
        self.is_header = element.tag == "th"
        self.columns, self.rows = (number_of(element.get(name), MAX_SPAN) for name in ("colspan", "rowspan"))
        if self.columns * self.rows > MAX_SPANNED_CELLS:
            self.columns = self.rows = 1
        self.column = 0
        self.blocks: list[Block] = []


class Table:
    """A table while its elements are read."""

    def __init__(self) -> None:
        self.rows: list[list[Cell]] = []
        self.lines: list[tuple[int, int] | None] = []
        self.head_rows: set[int] = set()
        self.caption: list[Block] = []


def blocks_of_table(table: Table) -> list[Block]:
    """Return the rows of a table as blocks, or the blocks of its cells where it lays out a page."""
    cells = [cell for row in table.rows for cell in row]
    texts = {id(cell): " ".join(one_line(block.text) for block in cell.blocks) for cell in cells}
    lays_out = any(block.kind in {"heading", "row"} for cell in cells for block in cell.blocks)
    has_long = any(len(text) > MAX_CELL_CHARS for text in texts.values())
    caption = " ".join(block.text for block in table.caption)
    count = _header_rows(table) or _groups_above(table, texts)
    is_list = all(len(row) <= 1 for row in table.rows)
    if has_long and count and not lays_out and not is_list:
        return [*table.caption, *_long_rows(table, texts, count)]
    if lays_out or has_long or is_list:
        return [*table.caption, *(block for cell in cells for block in cell.blocks)]
    grid = [_joined_signs(line) for line in _grid(table.rows, texts, count)]
    # The same number of cells in each row, from the same column on: they belong together, however they are spaced.
    if len({(sum(map(bool, line)), bool(line[0])) for line in grid if any(line)}) == 1:
        grid = [[cell for cell in line if cell] for line in grid]
    blocks = table_blocks(grid, header_rows=count or None, caption=caption)
    lines = [where for row, where in zip(grid, table.lines, strict=True) if any(row)]
    if caption and lines:
        lines = [lines[0], *lines]
    lines += lines[-1:] * (len(blocks) - len(lines))  # of the columns without values
    return [replace(block, lines=where) for block, where in zip(blocks, lines, strict=True)]


def _long_rows(table: Table, texts: dict[int, str], header_rows: int) -> Iterator[Block]:
    grid = _grid(table.rows, texts, header_rows)
    by_column = [{cell.column: cell.blocks for cell in row} for row in table.rows]
    lines = iter(table.lines)
    where = None
    for block in long_table_blocks(grid, by_column, header_rows=header_rows):
        where = next(lines) if block.first else where
        yield replace(block, lines=block.lines or where)


def _header_rows(table: Table) -> int:
    """Return the number of rows at the top that the page marks as headers."""
    count = 0
    for number, row in enumerate(table.rows):
        is_title = len(row) == 1 and all(len(above) == 1 for above in table.rows[:number])
        is_header = (len(row) > 1 or is_title) and all(cell.is_header for cell in row)
        if number not in table.head_rows and not is_header:
            break
        count += 1
    return count


def _groups_above(table: Table, texts: dict[int, str]) -> int:
    """Return the number of rows at the top with names that span columns, beside nothing above the labels.

    Financial reports have these, with a column for the sign of the currency beside each figure.
    """
    count = 0
    for row in table.rows[:MAX_HEADER_ROWS]:
        said = [texts[id(cell)] for cell in row]
        spans = any(cell.columns > 1 and texts[id(cell)] for cell in row)
        named = [text for text in said if text]
        years = len(named) > 1 and spans and all(map(is_period, named[1:]))  # perhaps beside the name of the labels
        groups = spans and not said[0] and not any(is_figure(text) and not is_period(text) for text in named)
        if named and not groups and not years:
            break
        count += 1
    rows = table.rows[count:]
    has_names = any(texts[id(cell)] for row in table.rows[:count] for cell in row)
    return count if has_names and any(is_figure(texts[id(cell)]) for row in rows for cell in row[1:]) else 0


def _joined_signs(line: list[str]) -> list[str]:
    """Return a row with signs of currencies and brackets in cells of their own joined to the figures beside them."""
    joined = list(line)
    before: int | None = None
    for column, cell in enumerate(line):
        if before is not None and cell and joined[before] in _CURRENCIES:
            joined[column], joined[before] = f"{joined[before]} {cell}", ""
        elif before is not None and cell in _BEHIND:
            joined[before], joined[column] = joined[before] + cell, ""
            continue
        before = column if joined[column] else before
    return joined


def _grid(rows: list[list[Cell]], texts: dict[int, str], header_rows: int) -> list[list[str]]:
    """Put the cells at their columns. A short cell stands in each row that it spans, a header in each column, too.

    A cell that is a row of its own spans all columns, and stands alone.
    """
    grid: list[list[str]] = []
    taken: dict[tuple[int, int], str] = {}
    for number, row in enumerate(rows):
        line: list[str] = []
        for cell in row:
            while (number, len(line)) in taken:
                line.append(taken.pop((number, len(line))))
            text, column = texts[id(cell)], len(line)
            cell.column = column
            alone = len(row) == 1 and not column and cell.rows == 1
            again = text if number < header_rows and not alone else ""
            line += [text, *[again] * (0 if alone else cell.columns - 1)]
            below = text if number < header_rows or len(text) <= MAX_HEADER_CHARS else ""
            for down in range(1, min(cell.rows, len(rows) - number)):
                taken[number + down, column] = below
                for offset in range(1, cell.columns):
                    taken[number + down, column + offset] = again
        while row and (number, len(line)) in taken:
            line.append(taken.pop((number, len(line))))
        grid.append(line)
    return grid


def number_of(value: str | None, most: int) -> int:
    """Return an attribute's number between 1 and `most`; 1 without a number."""
    return max(1, min(most, int(value[:9]))) if value and value.isascii() and value.isdigit() else 1
