"""The rows of a table on a PDF page: what labels each row, and its line of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rag.ingest.formats.blocks import TextLine, one_line
from rag.ingest.formats.pdf_columns import Cell, Column, is_figure
from rag.ingest.formats.pdf_headers import Frame, Headers
from rag.ingest.formats.pdf_words import Word, WordLine
from rag.ingest.formats.tables import MAX_CELL_CHARS, row_line

# A label without figures belongs to figures without a label if their baselines are no further apart, in letters.
_NEAR = 3.2
_MAX_WRAPPED = 4
# Labels that begin within so many points begin at the same place.
_SAME_LEFT = 1.0
# A group in the middle of the table counts as if it began so many points left of all labels.
_OUTER = 10.0
_OPEN_ENDS = (",", "-", "–", "(", " and", " of", " the", " in", " at", " to", " for", " from")


@dataclass(slots=True)
class Row:
    """A line of a table that is being read: its cells, which are divided into a label and the values of columns."""

    line: WordLine
    cells: list[Cell]
    label: list[Cell] = field(default_factory=list)
    values: dict[int, list[Cell]] = field(default_factory=dict)

    @property
    def has_figures(self) -> bool:
        """True if there is a figure behind the first cell."""
        return any(cell.is_figure for cell in self.cells[1:])

    @property
    def label_text(self) -> str:
        """The label on one line."""
        return one_line(" ".join(cell.text for cell in self.label))

    def all_cells(self) -> list[Cell]:
        """Return the cells of the label and of the values."""
        return [*self.label, *(cell for cells in self.values.values() for cell in cells)]

    def place(self, columns: Sequence[Column]) -> None:
        """Divide the cells into the label and the values of the columns."""
        self.label, self.values = [], {}
        for cell in self.cells:
            for part in cell.split_at(columns):
                number = max(range(len(columns)), key=lambda n: columns[n].overlap(part))
                if columns[number].overlap(part) > 0 and part.left >= columns[0].left - (part.right - part.left):
                    self.values.setdefault(number, []).append(part)
                elif part.right <= columns[0].left or not self.values:
                    self.label.append(part)
                else:
                    nearest = min(range(len(columns)), key=lambda n: abs(columns[n].center - part.center))
                    self.values.setdefault(nearest, []).append(part)


def with_near_labels(body: Sequence[Row], width: float) -> list[Row]:
    """Give rows without a label the words above and below: a label of two lines may stand around its figures."""
    taken: set[int] = set()
    for number, row in enumerate(body):
        if row.label or not row.values:
            continue
        near = [
            n
            for n in (number - 2, number - 1, number + 1, number + 2)
            if 0 <= n < len(body)
            and not body[n].values
            and n not in taken
            and abs(body[n].line.base - row.line.base) < _NEAR * width
        ]
        taken |= set(near)
        row.label = [cell for n in sorted(near) for cell in body[n].label]
    return [row for number, row in enumerate(body) if number not in taken]


@dataclass(slots=True)
class _Labelled:
    """A row with values, with the lines over which its label goes, and the names of the groups that it is in."""

    rows: list[Row]
    groups: tuple[str, ...]

    def line(self, columns: Sequence[Column], headers: Headers) -> TextLine:
        values: dict[int, list[Cell]] = {}
        for row in self.rows:
            for number, cells in row.values.items():
                values.setdefault(number, []).extend(cells)
        texts = [one_line(" ".join(cell.text for cell in values.get(n, ()))) for n in range(len(columns))]
        label = one_line(" ".join(row.label_text for row in self.rows))
        label = " – ".join(one for one in (*self.groups, label) if one)
        text = row_line([label, *texts], [headers.label if is_figure(label) else "", *headers.names])
        words = [word for row in self.rows for cell in row.all_cells() for word in cell.words]
        return TextLine(text[: 2 * MAX_CELL_CHARS], min(w.start for w in words), max(w.end for w in words))


def row_lines(body: Sequence[Row], frame: Frame, headers: Headers) -> tuple[list[TextLine], list[tuple[Word, ...]]]:
    """Return a line for each row with values, and the groups among the headers that the first row is not in."""
    labelled = list(_labelled(body, frame, headers))
    first = labelled[0].groups if labelled else ()
    unnamed = [line for line in headers.groups if _name(line) not in first]
    return [one.line(frame.columns, headers) for one in labelled], unnamed


def _name(words: Sequence[Word]) -> str:
    return one_line(" ".join(word.text for word in words)).rstrip(":")


def _labelled(body: Sequence[Row], frame: Frame, headers: Headers) -> Iterator[_Labelled]:
    """Yield the rows with values. Rows of words alone go on in the next label, end the last one, or name a group."""

    def begin(left: float) -> float:
        """Return where a group begins: one in the middle of the table holds all that begin further left."""
        return left if left <= frame.labels_end else frame.left - _OUTER

    waiting: list[Row] = []
    groups = [_Group(begin(line[0].left), one_line(" ".join(word.text for word in line))) for line in headers.groups]
    last: _Labelled | None = None
    label: list[Cell] = []
    for row in body:
        if not row.values:
            if last and not waiting and row.label_text[:1].islower():
                last.rows.append(row)
            elif row.label:
                waiting.append(row)
            continue
        label = _with_spanning_label(row, label)
        rows = [row]
        while waiting and len(rows) < _MAX_WRAPPED and _continues(waiting[-1], rows[0]):
            rows.insert(0, waiting.pop())
        groups += [_Group(begin(one.label[0].left), one.label_text) for one in waiting]
        groups = _groups(groups, rows[0], frame.columns)
        waiting = []
        if last:
            yield last
        last = _Labelled(rows, tuple(group.name.rstrip(":") for group in groups))
    if last:
        yield last


def _with_spanning_label(row: Row, last: list[Cell]) -> list[Cell]:
    """Give a row the first labels of the row before if its own begin at the second: those labels stand for both."""
    if row.label:
        beside = [cell for cell in last if cell.right < row.label[0].left]
        if beside and any(abs(cell.left - row.label[0].left) < _SAME_LEFT for cell in last[len(beside) :]):
            row.label = [*beside, *row.label]
    return row.label or last


def _continues(before: Row, row: Row) -> bool:
    """Return True if the label of a row of words goes on in the next row."""
    text, after = before.label_text, row.label_text
    if text.endswith(":") or not after:
        return False
    same_left = abs(before.label[0].left - row.label[0].left) < _SAME_LEFT
    return after[0].islower() or text.endswith(_OPEN_ENDS) or (same_left and not text.isupper())


@dataclass(slots=True)
class _Group:
    """Rows below a name. `indented`: a row began further right than the name, so the next one that does not ends it."""

    left: float
    name: str
    indented: bool = False

    def holds(self, left: float, *, is_total: bool) -> bool:
        """Return True for a row that begins at `left`: indented below the name, or below a colon or capitals."""
        if self.left < left - _SAME_LEFT:
            self.indented = True
            return True
        named = self.name.endswith(":") or self.name.isupper()
        return abs(self.left - left) <= _SAME_LEFT and not is_total and named and not self.indented


def _groups(groups: list[_Group], row: Row, columns: Sequence[Column]) -> list[_Group]:
    """Return the groups that a row is in. A group ends those before it that do not begin further left."""
    left = row.label[0].left if row.label else columns[0].left
    is_total = row.label_text.lower().startswith("total")
    kept: list[_Group] = []
    for group in groups:
        kept = [outer for outer in kept if outer.left < group.left - _SAME_LEFT]
        kept.append(group)
    return [group for group in kept if group.holds(left, is_total=is_total)]
