"""The cells of a line of words, and the columns that cells below each other make."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rag.ingest.formats.pdf_words import Word, WordLine

# Words with a wider gap between them stand in different cells; in widths of a letter, of which a space takes half.
CELL_GAP: Final = 1.6
# A figure is a cell of its own behind this gap.
_FIGURE_GAP = 0.9
_FIGURE = re.compile(
    r"[($€£¥+−–—~<>≤≥*-]*(?:US\$|\$|€|£|¥)?[(−–-]?(?:\d[\d.,:/’'−–-]*|\.\d+)(?:[)%¢°*†‡]|bn|[kmKMxX]|\(?[a-z0-9]{1,2}\)|(?:±|\+/-)\d[\d.]*|\(±?\d[\d.]*%?\)|[↑↓]\d[\d.]*)*$"
    r"|(?:US\$|[$€£¥])?[—–−-]{1,3}$|n/?a\.?$|N/?A$|[nN][mM]$|\.{2,3}$|\*$"
)
# The letters with which a figure, or the sign before it, may begin: to look takes a tenth of the time.
_FIGURE_LETTERS = frozenset("UnN")
_JOINED_LETTERS = _FIGURE_LETTERS | set("ACH")
_CURRENCY = frozenset(("$", "€", "£", "¥", "US$", "C$", "A$", "HK$"))
_DASHES = frozenset("-–—−")
_SIGN = re.compile(r"[$€£¥(<>±+−–-]+$|(?:US|A|C|HK)\$$")
# A space may separate thousands.
_THOUSANDS = re.compile(r"[^\w,.]*\d{1,3}(?: ?\d{3})* \d{3}[%)]*$")
_TAIL = re.compile(r"[)%*†‡]+$|\([a-z0-9]{1,2}\)$")
_PERIOD = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-](?:\d\d)?\d\d$|"
    r"(?:(?:FY|CY|Q[1-4]|H[12]|[1-4]Q|Year|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\S*[ ’'-]*)*"
    r"(?:FY|CY)?(?:1[89]|20)\d\d(?:[-–/]\d{2,4})?(?:[EFAPe*]|\(\S{1,3}\))?$|[1-4]?Q[1-4]?$|FY ?’?\d\d$"
)
# A percent sign or bracket that so many widths of a letter separate from its figure belongs to the figure.
_TAIL_GAP = 4.0
_MIN_SHARE = 0.3


class Cell:
    """Words of a line that stand close together: their edges and middle, in points, and their text."""

    __slots__ = ("center", "is_figure", "left", "right", "text", "words")

    def __init__(self, words: tuple[Word, ...]) -> None:
        self.words = words
        self.left, self.right = words[0].left, words[-1].right
        self.center = (self.left + self.right) / 2
        self.text = " ".join(word.text for word in words) if len(words) > 1 else words[0].text
        self.is_figure = is_figure(self.text)

    def split_at(self, columns: Sequence[Column]) -> Iterator[Cell]:
        """Yield the parts of a label and its figures where the gap between them is that of a space."""
        if self.is_figure or len(self.words) == 1:
            yield self
            return
        at = len(self.words)
        while (
            at > 1
            and any(column.overlap(Cell(self.words[at - 1 : at])) > 0 for column in columns)
            and is_figure(self.words[at - 1].text)
        ):
            at -= 1
        yield Cell(self.words[:at])
        for word in self.words[at:]:
            yield Cell((word,))


@dataclass(slots=True)
class Column:
    """The place of a column: its edges, those of its cells, and whether most of them are figures."""

    left: float
    right: float
    cells: list[Cell]

    @property
    def center(self) -> float:
        return (self.left + self.right) / 2

    @property
    def is_figures(self) -> bool:
        return 2 * sum(cell.is_figure for cell in self.cells) >= len(self.cells)

    def overlap(self, cell: Cell) -> float:
        """Return the width that a cell shares with the column, in points."""
        return min(self.right, cell.right) - max(self.left, cell.left)

    def aligns(self, cell: Cell, width: float) -> bool:
        """Return True if a cell ends, begins or is centered where most cells of the column do."""
        edges = zip(*((one.left, one.right, one.center) for one in self.cells), strict=True)
        usual = map(statistics.median, edges)
        return any(abs(a - b) < width for a, b in zip((cell.left, cell.right, cell.center), usual, strict=True))


def is_figure(text: str) -> bool:
    """Return True for a number as tables have it, with signs and marks, or for what stands where there is none."""
    return (text[:1] in _FIGURE_LETTERS or not text[:1].isalpha()) and _is_figure(text)


@lru_cache(maxsize=4_096)
def _is_figure(text: str) -> bool:
    return bool(_FIGURE.match(text.replace(" ", "")))


def is_period(text: str) -> bool:
    """Return True for a year, quarter or month, which may head a column."""
    return bool(_PERIOD.match(text))


def cells_of(line: WordLine, width: float) -> list[Cell]:
    """Return the cells of a line. `width` is the usual width of a letter."""
    cells: list[list[Word]] = [[]]
    for word in line.words:
        last = cells[-1]
        if word.leader:
            cells.append([])
        elif not last or _joins(last, word, word.left - last[-1].right, width):
            last.append(word)
        else:
            cells.append([word])
    return [Cell(tuple(cell)) for cell in cells if cell]


def _joins(cell: list[Word], word: Word, gap: float, width: float) -> bool:
    """Return True if a word belongs to the cell before it."""
    first = cell[0].text[0]
    if first.isalpha() and first not in _JOINED_LETTERS:
        return gap < CELL_GAP * width
    text = "".join(one.text for one in cell)
    if _SIGN.fullmatch(text) and is_figure(word.text):
        return text not in _DASHES or gap < CELL_GAP * width
    if is_figure(text) and not _SIGN.fullmatch(text):
        if word.text in _CURRENCY:
            return False
        if _TAIL.match(word.text) and gap < (_TAIL_GAP if word.text[0] in ")%" else CELL_GAP) * width:
            return True
        if is_figure(word.text) and not is_period(text):
            return gap < _FIGURE_GAP * width and bool(_THOUSANDS.match(f"{text} {word.text}"))
    return gap < CELL_GAP * width


def columns_of(rows: Sequence[Sequence[Cell]]) -> list[Column]:
    """Return the columns of a run of rows, from left to right. The leftmost words are labels, and no column.

    The rows with the most cells come first: they say where columns are that other rows leave empty. Where nothing
    stands to the left of the first column, such as a column of years, that column holds the labels.
    """
    columns: list[Column] = []
    for cells in sorted(map(_without_label, rows), key=len, reverse=True):
        for cell in cells:
            over = [column for column in columns if column.overlap(cell) > 0]
            if not over:
                columns.append(Column(cell.left, cell.right, [cell]))
            elif len(over) == 1:
                over[0].cells.append(cell)
                if cell.is_figure:
                    over[0].left, over[0].right = min(over[0].left, cell.left), max(over[0].right, cell.right)
    columns.sort(key=lambda one: one.left)
    most = max((len(column.cells) for column in columns), default=0)
    columns = [column for column in columns if len(column.cells) >= max(1, _MIN_SHARE * most) or column.is_figures]
    while columns and not columns[0].is_figures:
        columns = columns[1:]
    labelled = columns and any(cells and cells[0].right <= columns[0].left for cells in rows)
    return columns if labelled else columns[1:]


def _without_label(row: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a row from its first figure on. A figure with words behind it is the number of the row."""
    figures = [n for n, cell in enumerate(row) if cell.is_figure]
    if figures and figures[0] == 0 and len(row) > 1 and not is_figure(row[1].text):
        figures = figures[1:]
    return list(row[figures[0] :]) if figures else []
