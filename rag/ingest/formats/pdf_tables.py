"""Tables of figures on a PDF page, rebuilt from the places of words: `label | column header: value` for each row.

Rulings are not needed. Figures that stand below each other make a column; what stands to the left of the first column
is the row's label; the lines above name the columns.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rag.ingest.formats.blocks import TextLine, one_line
from rag.ingest.formats.pdf_columns import (
    Cell,
    Column,
    cells_of,
    columns_of,
    is_figure,
    is_period,
)
from rag.ingest.formats.pdf_headers import CAPTION, Frame, Headers, read_headers
from rag.ingest.formats.pdf_prose import without_prose
from rag.ingest.formats.pdf_rows import Row, row_lines, with_near_labels
from rag.ingest.formats.pdf_words import Word, WordLine, letter_width, lines_of

# A page has a table only if so many lines of its text end in a figure, near each other.
MIN_FIGURE_LINES: Final = 3
# A dash is a figure behind a figure or a dash, and a punctuation mark behind a word.
_FIGURE_END = re.compile(r"(?:^|[\s$€£¥(±])\d[\d.,]*[)%]{0,2}\s*$|(?:^|[\d)%$€£¥(—–-])\s*[—–-][)%]{0,2}\s*$")
_END_CHARS = 20
# The cheap look before at the last sign of each line.
_LAST_SIGNS = frozenset("0123456789)%—–-")
_LAST_TWO = frozenset(f"{sign} " for sign in _LAST_SIGNS)
_MIN_ROWS, _MIN_WIDE_ROWS = 3, 2
# Under a year in each header one row is a table.
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
# Lines without figures between two rows, such as the first lines of a long label.
_MAX_OTHER_LINES = 4
# Three rows with so many lines between them stand in so many lines of text.
_NEAR_LINES = MIN_FIGURE_LINES * (_MAX_OTHER_LINES + 1)
_MAX_PITCHES = 3.2
_MIN_ALIGNED = 0.6
# The first and the last row of a table have this share of the usual number of figures.
_MIN_FULL = 0.4
_MAX_LABEL_CHARS = 140
_MAX_LABEL_WORDS = 14
MAX_COLUMNS: Final = 40
_MAX_PAGE_CHARS = 200_000
_MAX_TEXT = 64 * 1024


@dataclass(frozen=True, slots=True)
class PdfTable:
    """A table. `context` is what each part of it repeats: caption and unit. `words` are the starts of its words."""

    context: tuple[TextLine, ...]
    rows: tuple[TextLine, ...]
    words: frozenset[int]


def may_have_table(text: str) -> bool:
    """Return True if enough lines of a page's text end in a figure: the look costs a hundredth of reading the page."""
    if len(text) > _MAX_PAGE_CHARS:
        return False
    lines = text.split("\r\n")
    ends = [number for number, line in enumerate(lines) if line[-1:] in _LAST_SIGNS or line[-2:] in _LAST_TWO]
    if len(ends) < MIN_FIGURE_LINES:
        return False
    figures = [number for number in ends if _FIGURE_END.search(lines[number][-_END_CHARS:])]
    return any(
        last - first < _NEAR_LINES for first, last in zip(figures, figures[MIN_FIGURE_LINES - 1 :], strict=False)
    )


def find_tables(words: Sequence[Word]) -> list[PdfTable]:
    """Return the tables that the words of a page make, from its top to its bottom."""
    width = letter_width(words)
    tables = list(_find(lines_of(words, width), width))
    return tables if sum(len(row.text) for table in tables for row in table.rows) <= _MAX_TEXT else []


def _find(page_lines: Sequence[WordLine], width: float) -> Iterator[PdfTable]:
    cells_of_lines = [(line, cells_of(line, width)) for line in page_lines]
    rows = [Row(line, cells) for line, cells in without_prose([one for one in cells_of_lines if one[1]], width)]
    at = 0
    while at < len(rows):
        end = _run_end(rows, at)
        if end == at:
            at += 1
            continue
        yield from _tables_of(rows, at, end, width)
        at = end


def _run_end(rows: list[Row], at: int) -> int:
    """Return the number of the row after the run of rows that starts at row `at`; `at` if no run starts there."""
    if not rows[at].has_figures:
        return at
    end, other = at + 1, 0
    pitches: list[float] = []
    for number in range(at + 1, len(rows)):
        pitch = rows[number - 1].line.base - rows[number].line.base
        usual = statistics.median(pitches) if pitches else pitch
        if pitch > _MAX_PITCHES * usual or other > _MAX_OTHER_LINES or _is_text(rows[number], rows[at]):
            break
        if not rows[number - 1].has_figures and end - at > _MIN_WIDE_ROWS and _begins_table(rows[number]):
            break
        pitches.append(pitch)
        if rows[number].has_figures:
            end, other = number + 1, 0
        else:
            other += 1
    return end


def _begins_table(row: Row) -> bool:
    """Return True for years and the like above columns, with nothing beside them but a unit."""
    return _heads_columns(row) and (row.cells[0].is_figure or row.cells[0].text[0] == "(")


def _is_text(row: Row, first: Row) -> bool:
    """Return True for a line that is in no table: the caption of the next one, or words over the columns."""
    if CAPTION.match(row.cells[0].text):
        return True
    begin = next(cell.left for cell in first.cells[1:] if cell.is_figure)
    return len(row.cells) == 1 and len(row.cells[0].words) > _MAX_LABEL_WORDS and row.cells[0].right > begin


def _tables_of(rows: list[Row], at: int, end: int, width: float) -> Iterator[PdfTable]:
    """Yield the tables of a run of rows: one, or two that stand side by side, or none."""
    body = rows[at:end]
    columns = columns_of([row.cells for row in body if not _heads_columns(row)] or [row.cells for row in body])
    if not 0 < len(columns) <= MAX_COLUMNS:
        return
    cut = _side_by_side(columns)
    if cut is None:
        table = _table(rows, at, end, columns, width)
        if table is not None:
            yield table
        return
    for keep in (lambda cell: cell.right <= cut, lambda cell: cell.left >= cut):
        half = _half(rows, keep)
        inside = [n for n, row in enumerate(half) if row.line in {one.line for one in body}]
        if inside:
            half_columns = columns_of([row.cells for row in half[inside[0] : inside[-1] + 1]])
            table = _table(half, inside[0], inside[-1] + 1, half_columns, width) if half_columns else None
            if table is not None:
                yield table


def _heads_columns(row: Row) -> bool:
    """Return True for a row whose figures are years and the like, several of them."""
    figures = [cell for cell in row.cells if cell.is_figure]
    return len(figures) > 1 and all(is_period(cell.text) for cell in figures)


def _half(rows: list[Row], keep: Callable[[Cell], bool]) -> list[Row]:
    halves = []
    for row in rows:
        cells = [cell for cell in row.cells if keep(cell)]
        if cells:
            halves.append(Row(row.line, cells))
    return halves


def _side_by_side(columns: list[Column]) -> float | None:
    """Return where the labels of a second table begin, to the right of the first; None for one table."""
    for number, column in enumerate(columns[1:-1], start=1):
        left = sum(one.is_figures for one in columns[:number])
        right = sum(one.is_figures for one in columns[number + 1 :])
        if not column.is_figures and left and left == right and columns[number - 1].is_figures:
            return column.left - 1
    return None


def _table(rows: list[Row], at: int, end: int, columns: list[Column], width: float) -> PdfTable | None:
    """Return the table of the rows from `at` to `end`; None where they are none."""
    for row in rows[at:end]:
        row.place(columns)
    at, end = _body(rows, at, end)
    if at == end:
        return None
    body = rows[at:end]
    figure_rows = [row for row in body if row.values]
    ends = [cell.right for row in body if row.values for cell in row.label[:1]]
    left = min((cell.left for row in figure_rows for cell in row.label[:1]), default=columns[0].left)
    frame = Frame(columns, body[0].line.base, statistics.median(ends) if ends else columns[0].left, left, width)
    headers = read_headers([(row.line, row.cells) for row in rows[:at]], frame, width)
    if not _is_table(figure_rows, columns, headers, width):
        return None
    lines, unnamed = row_lines(with_near_labels(body, width), frame, headers)
    used = [cell for row in body for cell in row.all_cells()]
    starts = {word.start for cell in used for word in cell.words} | headers.words
    context = tuple(
        TextLine(one_line(" ".join(w.text for w in line)), line[0].start, max(w.end for w in line))
        for line in (*headers.context, *unnamed)
    )
    return PdfTable(context, tuple(lines), frozenset(starts))


def _body(rows: list[Row], at: int, end: int) -> tuple[int, int]:
    """Return the rows between headers and notes: the first and the last row with about as many figures as is usual.

    Years and the like are no figures here, because they head columns, unless there are no other figures.
    """
    counts = [sum(_is_value(cells[0].text) for cells in row.values.values()) for row in rows[at:end]]
    if not any(counts):
        counts = [len(row.values) for row in rows[at:end]]
    usual = statistics.median([count for count in counts if count] or [1])
    full = [
        number
        for number, count in enumerate(counts)
        if count >= max(1, _MIN_FULL * usual) and 2 * _words_in(rows[at + number]) <= count
    ]
    return (at + full[0], at + full[-1] + 1) if full else (at, at)


def _words_in(row: Row) -> int:
    return sum(not cell.is_figure for cells in row.values.values() for cell in cells[:1])


def _is_value(text: str) -> bool:
    return is_figure(text) and not is_period(text)


def _is_table(rows: list[Row], columns: list[Column], headers: Headers, width: float) -> bool:
    """Return True if rows are a table, and not prose, a list of contents, or an index."""
    by_year = len(columns) > 1 and all(map(_YEAR.search, headers.names))
    if len(rows) < (1 if by_year else _MIN_WIDE_ROWS if len(columns) > 1 else _MIN_ROWS):
        return False
    values = [(n, cell) for row in rows for n, cells in row.values.items() for cell in cells]
    figures = [(n, cell) for n, cell in values if cell.is_figure]
    if len(figures) < max(_MIN_WIDE_ROWS if by_year else _MIN_ROWS, len(values) // 3):
        return False
    aligned = sum(columns[n].aligns(cell, width) for n, cell in figures)
    if aligned < _MIN_ALIGNED * len(figures):
        return False
    labels = [len(row.label_text) for row in rows if row.label]
    if (labels and statistics.median(labels) > _MAX_LABEL_CHARS) or not _has_names(rows, headers):
        return False
    if sum(column.is_figures for column in columns) > 1:
        return True
    return not _is_contents([cell.text for _, cell in figures], [row.line for row in rows])


def _has_names(rows: list[Row], headers: Headers) -> bool:
    """Return True if rows or columns have names: the numbers along the axes of a chart have none."""
    named_rows = sum(any(char.isalpha() for char in row.label_text) for row in rows)
    named_columns = sum(map(bool, headers.names))
    return 2 * named_rows >= len(rows) or 2 * named_columns >= len(headers.names)


def _is_contents(figures: list[str], row_lines: list[WordLine]) -> bool:
    """Return True for a column of page numbers, numbers of equations or of lines: small and never falling."""
    numbers = [text.strip("().") for text in figures]
    if not all(number.isdigit() and len(number) < len("10000") for number in numbers):
        return False
    values = [int(number) for number in numbers]
    rising = sum(before <= after for before, after in pairwise(values))
    leaders = sum(any(word.leader for word in line.words) for line in row_lines)
    return rising >= 0.8 * (len(values) - 1) or leaders > len(row_lines) // 2
