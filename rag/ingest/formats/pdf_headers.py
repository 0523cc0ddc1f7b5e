"""The headers of a table's columns, from the lines above its first row; its caption and its unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from rag.ingest.formats.blocks import one_line
from rag.ingest.formats.pdf_columns import Cell, Column, is_period
from rag.ingest.formats.pdf_words import Word, WordLine
from rag.ingest.formats.tables import MAX_HEADER_CHARS

MAX_HEADER_LINES = 6
MAX_CAPTION_LINES = 3
MAX_CAPTION_CHARS = 160
# In heights of a line of text, about four widths of a letter between baselines.
_MAX_GAP, _MAX_CAPTION_GAP = 6.0, 10.0
# Words of headers stand in different cells behind this gap; in widths of a letter.
_HEADER_GAP = 1.1
# What it costs to leave a column without a header, in widths of a letter that a header would be off its center.
_UNNAMED = 1.5
_MAX_UNIT_LINES = 2
# The name of a group of rows, which may stand above the middle of the table, has so many letters at most.
_MAX_GROUP_CHARS = 60
# A header reaches so many widths of a letter beyond its columns at most, if it is not centered on them.
_MAX_OVERHANG = 20.0
# A header may begin or end so many widths of a letter beside its columns, or more if it is centered on them.
_OVERHANG = 3.0
_UNIT = re.compile(
    r"\b(?:in|of|per|as)\b[^.]{0,30}\b(?:thousands?|millions?|billions?|lacs|lakhs?|crores?|dollars|percent\w*|euros?|units|shares|£|€|\$)"
    r"|^\W*(?:thousands?|millions?|billions?|lacs|lakhs?|crores?|percent\w*|[$€£] ?\w*)\W*$",
    re.IGNORECASE,
)
CAPTION = re.compile(
    r"(?:table|tab\.|tableau|tabelle|tabla|figure|exhibit|schedule|note|annex)(?:\s*\d|\s+(?-i:[IVXA-Z])\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Headers:
    """The name of each column, the name above the labels, the lines above all, and the starts of the headers' words.

    `groups` are the lines between headers and rows, which name the first rows.
    """

    names: tuple[str, ...]
    label: str
    context: tuple[tuple[Word, ...], ...]
    groups: tuple[tuple[Word, ...], ...]
    words: frozenset[int]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a table stands: its columns, the baseline of its first row, how far most labels reach to the right.

    `left` is where the leftmost label begins, `width` the usual width of a letter.
    """

    columns: list[Column]
    top: float
    labels_end: float
    left: float
    width: float

    def holds(self, cell: Cell) -> bool:
        """Return True for a cell that is not beside the table."""
        return cell.right > self.left - self.width and cell.left < self.columns[-1].right + _OVERHANG * self.width

    def heads_labels(self, cell: Cell) -> bool:
        """Return True for a cell that stands above the labels, and not above a column."""
        begin = self.columns[0].left
        before = begin - _OVERHANG * self.width  # such as the column of notes
        return (cell.right <= begin and (cell.left < self.labels_end or cell.right < before)) or (
            cell.center < min(begin, self.labels_end) and self.columns[0].overlap(cell) <= 0
        )


def read_headers(above: Sequence[tuple[WordLine, Sequence[Cell]]], table: Frame, width: float) -> Headers:
    """Return the headers of columns. `above` are the lines above the first row, from the top of the page."""
    columns = table.columns
    lines, context, groups = _header_lines(above, table, width)
    names: list[list[str]] = [[] for _ in columns]
    label: list[str] = []
    words: set[int] = set()
    for cells in lines:
        over = [cell for cell in cells if not table.heads_labels(cell)]
        label += [cell.text for cell in cells if table.heads_labels(cell)]
        words |= {word.start for cell in cells for word in cell.words}
        for cell, (begin, end) in zip(over, _groups(over, columns, width), strict=True):
            for number in range(begin, end):
                if cell.text not in names[number]:
                    names[number].append(cell.text)
    return Headers(
        tuple(one_line(" ".join(name))[:MAX_HEADER_CHARS] for name in names),
        one_line(" ".join(label))[:MAX_HEADER_CHARS],
        tuple(context),
        tuple(groups),
        frozenset(words),
    )


def _header_lines(
    above: Sequence[tuple[WordLine, Sequence[Cell]]], table: Frame, width: float
) -> tuple[list[list[Cell]], list[tuple[Word, ...]], list[tuple[Word, ...]]]:
    """Return the cells of each header line, from top to bottom, the lines of caption and unit, and those of groups."""
    lines: list[list[Cell]] = []
    context: list[tuple[Word, ...]] = []
    groups: list[tuple[Word, ...]] = []
    units: list[tuple[Word, ...]] = []
    below, in_middle = table.top, False
    for line, line_cells in reversed(above):
        cells = [cell for cell in line_cells if table.holds(cell)]
        if not cells:
            continue
        gap = (line.base - below) / width
        below = line.base
        parts = [part for cell in cells for part in _split(cell, table.columns, width)]
        has_periods = sum(is_period(part.text) for part in parts) > 1
        most = _MAX_CAPTION_GAP if (groups or has_periods) and not lines else _MAX_GAP
        is_near = not context and len(lines) < MAX_HEADER_LINES and gap < most
        words = tuple(word for cell in cells for word in cell.words)
        if is_near and len(units) < _MAX_UNIT_LINES and _is_unit(cells, table):
            units.insert(0, words)
        elif is_near and _is_header(parts, table, width) and not (in_middle and not lines and _is_single(parts, table)):
            lines.insert(0, parts)
        elif is_near and not lines and len(groups) < MAX_CAPTION_LINES and _is_group(cells, table):
            in_middle = in_middle or not all(map(table.heads_labels, cells))
            groups.insert(0, words)  # the name of the first rows, between them and the headers
        elif gap < _MAX_CAPTION_GAP and len(context) < MAX_CAPTION_LINES and _is_caption(cells):
            context.insert(0, words)
        else:
            break
    return lines, [*context, *units], groups


def _is_unit(cells: Sequence[Cell], table: Frame) -> bool:
    """Return True for a line of nothing but the unit of all columns."""
    text = cells[0].text
    if len(cells) == 1 and text.endswith(")") and "(" not in text:
        return True  # it begins on the line above
    return (
        len(cells) == 1
        and (len(table.columns) > 1 or text[0] == "(")
        and not any(word.text.isdigit() for word in cells[0].words)
        and bool(_UNIT.search(text))
        and (text[0] == "(" or len(text) < _MAX_GROUP_CHARS)
    )


def _is_group(cells: Sequence[Cell], table: Frame) -> bool:
    """Return True for a line that may name the first rows: above the labels, or a few words above the middle."""
    if all(map(table.heads_labels, cells)):
        return True
    text = cells[0].text
    return len(cells) == 1 and len(text) < _MAX_GROUP_CHARS and not any(map(str.isdigit, text)) and _is_caption(cells)


def _is_single(cells: Sequence[Cell], table: Frame) -> bool:
    """Return True for a line with one cell above several columns."""
    return len(table.columns) > 1 and sum(not table.heads_labels(cell) for cell in cells) < len("ab")


def _is_header(cells: list[Cell], table: Frame, width: float) -> bool:
    """Return True if cells of a line can name columns: each stands over the columns that it names."""
    columns = table.columns
    over = [cell for cell in cells if not table.heads_labels(cell)]
    if not over or CAPTION.match(cells[0].text):
        return False
    if 2 * sum(cell.is_figure and not is_period(cell.text) for cell in over) >= len(over):
        return False
    if len(over) == len(columns) > 1 and all(a.overlap(b) > 0 for a, b in zip(columns, over, strict=True)):
        return True
    for cell, (begin, end) in zip(over, _groups(over, columns, width), strict=True):
        first, last = columns[begin], columns[end - 1]
        apart = max(first.left - cell.right, cell.left - last.right)
        overhang = max(first.left - cell.left, cell.right - last.right)
        is_off = end - begin > 1 or _misfit(cell, first, last) > _OVERHANG * width
        is_beside = end - begin == 1 and 0 <= apart < _OVERHANG * width
        if overhang > _OVERHANG * width and is_off and not is_beside:
            return False
        off_center = abs(cell.center - (first.left + last.right) / 2)
        if overhang > _MAX_OVERHANG * width and off_center > _OVERHANG * width:
            return False
    return True


def _is_caption(cells: Sequence[Cell]) -> bool:
    text = one_line(" ".join(cell.text for cell in cells))
    if not 0 < len(text) <= MAX_CAPTION_CHARS or any(cell.is_figure for cell in cells[1:]):
        return False
    return bool(_UNIT.search(text) or CAPTION.match(text)) or (
        len(cells) == 1 and text[-1] not in ".,;" and not text[0].islower()
    )


def _split(cell: Cell, columns: list[Column], width: float) -> list[Cell]:
    """Split a cell between two columns: at a wider gap, or at any if each part then stands over a column of its own."""
    cuts = [
        number
        for number, (before, word) in enumerate(zip(cell.words, cell.words[1:], strict=False), start=1)
        if any(a.right <= word.left and before.right <= b.left for a, b in pairwise(columns))
    ]
    parts = _cut(cell, cuts)
    if len(parts) > 1 and all(min(_misfit(part, column, column) for column in columns) < width for part in parts):
        return parts
    words = cell.words
    wide = [
        at
        for at in cuts
        if words[at].left - words[at - 1].right > _HEADER_GAP * width
        or (is_period(words[at - 1].text) and is_period(words[at].text))
    ]
    return _cut(cell, wide)


def _cut(cell: Cell, cuts: list[int]) -> list[Cell]:
    return [Cell(cell.words[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(cell.words)], strict=True)]


def _groups(cells: list[Cell], columns: list[Column], width: float) -> list[tuple[int, int]]:
    """Return the columns that each cell of a header line names, as the first and the one after the last.

    Cells keep their order. Each is put over the neighbouring columns on which it is best centered, or with which it
    begins or ends; to leave a column without a name costs a little.
    """

    @cache
    def best(cell: int, column: int) -> tuple[float, tuple[tuple[int, int], ...]]:
        """Return the least cost of putting the cells from `cell` on over the columns from `column` on."""
        if cell == len(cells):
            return _UNNAMED * (len(columns) - column), ()
        found = (float("inf"), ((column, column),) * (len(cells) - cell))
        for begin in range(column, len(columns)):
            unnamed = _UNNAMED * (begin - column)
            if unnamed >= found[0]:
                break
            for end in range(begin + 1, len(columns) - (len(cells) - cell - 1) + 1):
                cost = unnamed + _misfit(cells[cell], columns[begin], columns[end - 1]) / width
                if cost >= found[0]:
                    continue
                rest, groups = best(cell + 1, end)
                if cost + rest < found[0]:
                    found = cost + rest, ((begin, end), *groups)
        return found

    if len(cells) > len(columns):
        return [_nearest(cell, columns) for cell in cells]
    return list(best(0, 0)[1])


def _misfit(cell: Cell, first: Column, last: Column) -> float:
    """Return how far a cell is from the middle or an edge of columns."""
    off = abs(cell.center - (first.left + last.right) / 2)
    if first is not last and min(first.overlap(cell), last.overlap(cell)) <= 0:
        return off
    return min(off, abs(cell.left - first.left) + 0.1, abs(cell.right - last.right) + 0.1)


def _nearest(cell: Cell, columns: list[Column]) -> tuple[int, int]:
    number = min(range(len(columns)), key=lambda n: abs(columns[n].center - cell.center))
    return number, number + 1
