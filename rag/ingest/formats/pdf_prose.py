"""Running text beside the tables of a PDF page, such as in the other column, whose lines are no rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rag.ingest.formats.pdf_columns import Cell
from rag.ingest.formats.pdf_words import WordLine

# A line of running text has so many words at least, a paragraph so many lines, and the text of a column so many.
_MIN_WORDS, _MIN_PARAGRAPH, _MIN_LINES = 4, 3, 4
# This share of the lines of running text begin with a small letter at least.
_MIN_LOWER_SHARE = 0.3
# Lines begin and end within so many points of the edges of the text, and full ones fill it up to this share.
_SAME_LEFT, _SAME_EDGE, _MAX_MARGIN = 1.5, 4.0, 0.35
# Lines of a paragraph stand so many widths of a letter below each other at most.
_MAX_PITCH = 4.5
# Words of a justified line have gaps of so many widths of a letter at most.
_JUSTIFIED_GAP = 2.5
# Paragraphs have gaps between them of so many times the height of a line; of one column they are about as wide.
_PARAGRAPH_GAP, _SAME_WIDTH = 1.4, 0.2
# A column of text beside a table takes this share of the page's width at most.
_MAX_COLUMN = 0.6

_Rows = list[tuple[WordLine, list[Cell]]]


@dataclass(frozen=True, slots=True)
class _Column:
    """Running text: its edges, the ids of its lines of several words, and their heights."""

    left: float
    right: float
    lines: frozenset[int]
    bases: tuple[float, ...]

    def holds(self, cell: Cell) -> bool:
        """Return True for a cell within the edges."""
        return cell.left > self.left - _SAME_EDGE and cell.right < self.right + _SAME_EDGE

    def is_line(self, cells: Sequence[Cell], width: float) -> bool:
        """Return True for cells that are one line of the text."""
        return any(id(cell) in self.lines for cell in cells) or self.is_full(cells, width)

    def is_full(self, cells: Sequence[Cell], width: float) -> bool:
        """Return True for cells no further apart than words of a justified line, from one edge to the other."""
        return (
            all(after.left - before.right < _JUSTIFIED_GAP * width for before, after in pairwise(cells))
            and sum(len(cell.words) for cell in cells) > 1
            and cells[0].left < self.left + 0.2 * (self.right - self.left)
            and cells[-1].right > self.right - _MAX_MARGIN * (self.right - self.left)
        )

    def is_near(self, base: float, width: float) -> bool:
        """Return True for a height next to a line of the text."""
        return any(abs(base - one) < _MAX_PITCH * width for one in self.bases)


def without_prose(rows: _Rows, width: float) -> Iterator[tuple[WordLine, list[Cell]]]:
    """Yield rows without the cells that are lines of running text beside a table, full ones and those next to them.

    Without full lines of running text, too, that have figures.
    """
    columns = [column for column in _columns(rows) if not _holds_labels(column, rows)]
    begin = min((cells[0].left for _, cells in rows), default=0.0)
    end = max((cells[-1].right for _, cells in rows), default=0.0)
    for line, cells in rows:
        kept = cells
        for column in columns:
            inside = [cell for cell in kept if column.holds(cell)]
            if any(cell.is_figure for cell in inside):
                kept = [] if len(inside) == len(kept) and column.is_full(inside, width) else kept
                continue
            if not inside:
                continue
            is_beside = len(kept) > len(inside)
            is_narrow = column.right - column.left < _MAX_COLUMN * (end - begin)
            if (column.is_line(inside, width) and (is_beside or is_narrow)) or (
                is_beside and len(inside) == 1 and column.is_near(line.base, width)
            ):
                kept = [cell for cell in kept if cell not in inside]
        if kept:
            yield line, kept


def _holds_labels(column: _Column, rows: _Rows) -> bool:
    """Return True if most lines stand beside figures, and most of these have no other label."""
    alone = beside = 0
    for _, cells in rows:
        others = [cell for cell in cells if not column.holds(cell)]
        if len(others) < len(cells) and any(cell.is_figure for cell in others):
            beside += 1
            alone += all(cell.is_figure for cell in others)
    return 2 * alone > beside > len(column.lines) / 2


def _columns(rows: _Rows) -> Iterator[_Column]:
    """Yield the columns of running text: paragraphs that begin at the same place and are about as wide."""
    by_left: list[list[Cell]] = [[]]
    for cell in sorted((cell for _, cells in rows for cell in cells if len(cell.words) >= _MIN_WORDS), key=_left_edge):
        if by_left[-1] and cell.left - by_left[-1][-1].left > _SAME_LEFT:
            by_left.append([])
        by_left[-1].append(cell)
    for cells in by_left:
        parts: list[list[Cell]] = []
        below = sorted(cells, key=lambda cell: -cell.words[0].base)
        for paragraph in sorted(_paragraphs(below), key=_right_edge):
            left, right = paragraph[0].left, _right_edge(paragraph)
            if parts and right - _right_edge(parts[-1]) < _SAME_WIDTH * (right - left):
                parts[-1] += paragraph
            else:
                parts.append(paragraph)
        for part in parts:
            if len(part) >= _MIN_LINES:
                left = min(cell.left for cell in part)
                bases = tuple(cell.words[0].base for cell in part)
                yield _Column(left, _right_edge(part), frozenset(map(id, part)), bases)


def _paragraphs(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Yield cells that stand close below each other and are sentences rather than labels."""
    if len(cells) < _MIN_PARAGRAPH:
        return
    pitch = statistics.median(a.words[0].base - b.words[0].base for a, b in pairwise(cells))
    paragraphs = [cells[:1]]
    for before, cell in pairwise(cells):
        if before.words[0].base - cell.words[0].base > _PARAGRAPH_GAP * pitch:
            paragraphs.append([])
        paragraphs[-1].append(cell)
    for paragraph in paragraphs:
        lower = sum(cell.text[0].islower() for cell in paragraph)
        if len(paragraph) >= _MIN_PARAGRAPH and lower >= _MIN_LOWER_SHARE * len(paragraph):
            yield paragraph


def _left_edge(cell: Cell) -> float:
    return cell.left


def _right_edge(cells: list[Cell]) -> float:
    return max(cell.right for cell in cells)
