"""Which rows of a sheet name its columns, with headers of several rows and merged cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Final

from rag.ingest.formats.tables import MAX_HEADER_CHARS, MIN_COLUMNS, is_figure, is_period_of, joined_headers

# From the first to the last row and column of a merged cell, counted from 0.
Merged = tuple[tuple[int, int], tuple[int, int]]
Rows = Sequence[Sequence[str]]

# So many rows may stand above the header, and so many may be the header.
MAX_TOP_ROWS: Final = 8
MAX_HEADER_ROWS: Final = 3
_SAMPLE_ROWS: Final = 20
_MAX_LOOKED_AT: Final = 200
_MIN_FIGURES: Final = 0.9
_MAX_TITLE_ROWS: Final = 3
_COLONS: Final = (":", "：")
# Cells that are filled with the text of the merged cell which they are a part of, in a sheet.
MAX_FILLED_CELLS: Final = 200_000


def fill_merged(rows: list[list[str]], merged: Sequence[Merged]) -> None:
    """Give the text of a merged cell to each row that it spans, if the text is short."""
    left = MAX_FILLED_CELLS
    for (top, column), (bottom, _) in merged:
        text = rows[top][column] if top < len(rows) and column < len(rows[top]) else ""
        for row in islice(rows, top + 1, min(bottom + 1, top + 1 + left)) if 0 < len(text) <= MAX_HEADER_CHARS else ():
            left -= 1
            if column < len(row) and not row[column] and any(row):  # a title over several rows stands once
                row[column] = text


def is_bare(rows: Rows) -> bool:
    """Return True for rows of which nearly all cells are figures."""
    cells = [cell for row in rows[:_MAX_LOOKED_AT] for cell in row if cell]
    return _MIN_FIGURES * len(cells) < sum(map(is_figure, cells))


def letters(column: int) -> str:
    """Return the name of a column, counted from 0, as a workbook shows it: A to Z, AA, AB and so on."""
    name = ""
    while column >= 0:
        column, place = column // 26 - 1, column % 26
        name = chr(ord("A") + place) + name
    return name


def find_head(rows: Rows, merged: Sequence[Merged] = ()) -> tuple[range, list[str]]:
    """Return the numbers of the rows that name the columns, and the names; an empty range where none does.

    The rows above have at most half as many cells. Headers of several rows have groups above columns, such as years.
    """
    narrow = 0
    for number, row in enumerate(rows[:MAX_TOP_ROWS]):
        below = rows[number + 1 : number + _SAMPLE_ROWS]
        cells = sum(map(bool, row))
        width = max((sum(map(bool, other)) for other in below), default=0)
        if cells > max(1, 2 * narrow) and width:
            if cells + _has_empty_corner(row, below) >= width and _may_name(row, below):
                return range(number, number + 1), [cell[:MAX_HEADER_CHARS] for cell in row]
            shifted = [moved(one, number) for one in merged]
            for count in range(2, MAX_HEADER_ROWS + 1):
                if headers := _grouped(rows[number : number + _SAMPLE_ROWS], count, shifted):
                    return range(number, number + count), headers
        if cells >= width:
            break
        narrow = max(narrow, cells if cells > 1 and not _is_field(row) else 0)
    return range(0), []


def _is_field(row: Sequence[str]) -> bool:
    """Return True for a row such as "Date: | 2 May"."""
    return any(cell.endswith(_COLONS) for cell in row)


def _has_empty_corner(row: Sequence[str], below: Rows) -> bool:
    """Return True if the first column that has values is the only one without a name, and has words alone."""
    first = min((column for other in below for column, cell in enumerate(other) if cell), default=0)
    values = [other[first] for other in below if first < len(other) and other[first]]
    return (first >= len(row) or not row[first]) and not any(map(is_figure, values))


def _may_name(row: Sequence[str], below: Rows) -> bool:
    cells = [cell for cell in row if cell]
    if 0 < sum(cell.endswith(_COLONS) for cell in cells) < len(cells):  # labels of a form
        return False
    distinct = 2 * len(set(cells)) > len(cells)  # a name may come again, such as "Charge 1, Fee, Charge 2, Fee"
    return distinct and all(
        len(cell) <= MAX_HEADER_CHARS and (not is_figure(cell) or _is_period_of(column, cell, below))
        for column, cell in enumerate(row)
        if cell
    )


def _is_period_of(column: int, cell: str, below: Rows) -> bool:
    return is_period_of(cell, [row[column] for row in below if column < len(row) and row[column]])


def _grouped(rows: Rows, count: int, merged: Sequence[Merged]) -> list[str]:
    """Return the names that `count` rows give to the columns, as groups and columns; none where they are no headers."""
    if len(rows) <= count:
        return []
    last, below = rows[count - 1], rows[count:]
    groups = [_spread(rows, number, count, merged) for number in range(count - 1)]
    if not any(groups) or any(colon in cell for row in rows[: count - 1] for cell in row for colon in _COLONS):
        return []
    upper = [group or list(rows[number]) for number, group in enumerate(groups)]
    headers = joined_headers([*upper, list(last)])
    used = {column for row in below for column, cell in enumerate(row) if cell}
    named = {column for column, header in enumerate(headers) if header}
    cells = [(column, cell) for row in (*upper, last) for column, cell in enumerate(row) if cell]
    names = [headers[column] for column in sorted(named)]
    if not used <= named | {0} or len(set(names)) < len(names) or len(named) < MIN_COLUMNS:
        return []
    if any(is_figure(cell) and not _is_period_of(column, cell, below) for column, cell in cells):
        return []
    has_figures = any(is_figure(cell) for row in below for cell in row if cell)
    return headers if has_figures and all(len(cell) <= MAX_HEADER_CHARS for _, cell in cells) else []


def _spread(rows: Rows, number: int, count: int, merged: Sequence[Merged]) -> list[str]:
    """Return a row of groups with each group in all of its columns; none if the row has no group.

    A group is a cell that is merged across columns, or a cell with empty ones behind it above names that come again.
    """
    row, last = rows[number], rows[count - 1]
    spread = list(row)
    found = False
    for (top, left), (bottom, right) in merged:
        is_group = top == number and bottom < count - 1 and right > left and left < len(row)
        if is_group and row[left]:
            spread[left : right + 1] = [row[left]] * (min(right + 1, len(row)) - left)
            found = True
    names = [cell for cell in last if cell]
    if not found and len(set(names)) < len(names):
        group = ""
        for column, cell in enumerate(row):
            below = last[column] if column < len(last) else ""
            group = (cell or group) if below and not cell.endswith(_COLONS) else ""
            spread[column] = cell or group
            found = found or bool(group and not cell)
    return spread if found else []


def moved(merged: Merged, rows: int) -> Merged:
    """Return a merged cell as it is counted from a row further down."""
    (top, left), (bottom, right) = merged
    return (top - rows, left), (bottom - rows, right)


def tables_of(rows: Rows, merged: Sequence[Merged]) -> Iterator[range]:
    """Yield the rows of each table of a sheet: behind a blank row, another header above figures begins a table."""
    by_top: dict[int, list[Merged]] = {}
    for one in merged:
        by_top.setdefault(one[0][0], []).append(one)
    begin = above = 0
    for number, row in enumerate(rows):
        if above > 1 and any(row) and not any(rows[number - 1]):
            near = [one for top in range(number, number + _SAMPLE_ROWS) for one in by_top.get(top, ())]
            if _begins_table(rows[number : number + _SAMPLE_ROWS], [moved(one, number) for one in near]):
                yield range(begin, number)
                begin, above = number, 0
        above += sum(map(bool, row)) > 1 and not _is_field(row)
    yield range(begin, len(rows))


def _begins_table(rows: Rows, merged: Sequence[Merged]) -> bool:
    """Return True if the lines up to a blank row have a header, and one of its columns nothing but figures."""
    block = list(takewhile(any, rows))
    head, headers = find_head(block, merged)
    if not head or head.start > _MAX_TITLE_ROWS:
        return False
    names = [column for column, header in enumerate(headers) if header]
    below = [[row[column] for row in block[head.stop :] if column < len(row) and row[column]] for column in names]
    return any(values and all(map(is_figure, values)) for values in below)


def has_title(rows: Rows) -> bool:
    """Return True if a sheet begins with a line above a blank row, which is the title of all of its tables."""
    return len(rows) > 1 and sum(map(bool, rows[0])) == 1 and not any(rows[1])
