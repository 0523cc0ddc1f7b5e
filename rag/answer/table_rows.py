"""The rows of a table that answer a question, with the caption and the unit that go with them.

Of 35 questions about filings whose figure stands in the filing, a single row shows it for 11, rows around it for 18.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from rag.citations.excerpts import MAX_EXCERPT_CHARS, MAX_HEAD_CHARS, Excerpt
from rag.search.places import is_together, placed_parts
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans
from schemas import Chunk

_SEPARATOR = " | "
# The weight of the terms in the row itself, beside those that its caption has, too.
_IN_ROW = 0.3


@dataclass(frozen=True, slots=True)
class _Row:
    """A row and the places of its caption, unit and header. `number` is that of its place."""

    number: int
    span: tuple[int, int]
    label: frozenset[int]
    terms: frozenset[int]
    head: tuple[tuple[int, int], ...]


def best_rows(chunk: Chunk, target: frozenset[int], named: frozenset[int], terms: TermExtractor) -> Excerpt | None:
    """Return the rows around that one of a chunk's tables which fits a question best; None if no row fits.

    `target` has the terms of the question, and `named` those by which tables name what it asks for. A term counts the
    more, the fewer rows have it, and a label the more, the less else it says: "Total assets" fits a question for total
    assets better than "Total liabilities and assets". The terms of the caption, which becomes the head, count for the
    score only: all rows below it have them.
    """
    rows = _rows(chunk, terms)
    asked = target | named
    seen = Counter(term for row in rows for term in row.terms)
    fits = {row.number: _fit(row, asked, seen, len(rows)) for row in rows}
    best = max(rows, key=lambda row: fits[row.number], default=None)
    if best is None or not fits[best.number]:
        return None
    in_row = target & best.terms
    matched = in_row | (target & terms(" ".join(chunk.text[start:end] for start, end in best.head)))
    score = ((1 - _IN_ROW) * len(matched) + _IN_ROW * len(in_row)) / max(1, len(target))
    start, end = _grown(chunk, rows, best, fits)
    return Excerpt(start, end, best.span, best.head, score)


def _rows(chunk: Chunk, terms: TermExtractor) -> list[_Row]:
    """Return the rows of a chunk's tables. A single line between rows of the same columns is the title of a group."""
    rows: list[_Row] = []
    table: list[tuple[int, int]] = []
    group: list[tuple[int, int]] = []
    above: list[tuple[int, int]] = []  # the lines since the last row
    columns = frozenset[str]()
    for number, (place, end) in enumerate(placed_parts(chunk)):
        line = chunk.text[place.at : end].rstrip()
        span = (place.at, place.at + len(line))
        if place.original and _SEPARATOR in line:
            label, *cells = line.split(_SEPARATOR)
            before, columns = columns, frozenset(cell.split(": ")[0] for cell in cells)
            if len(above) == 1 and before & columns:
                group = above
            elif above:
                table, group = above, []
            above = []
            rows.append(_Row(number, span, terms(label), terms(line), (*table, *group)))
        elif place.original:
            above.append(span)
        else:
            above, columns = _introduction(chunk.text, place.at, end), frozenset()
    return rows


def _introduction(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the last sentence of the prose above a table, which says what the table has; nothing if it is long."""
    last = list(sentence_spans(text, start, end))[-1:]
    return [(first, stop) for first, stop in last if stop - first <= MAX_HEAD_CHARS]


def _fit(row: _Row, asked: frozenset[int], seen: Counter[int], count: int) -> float:
    """Return how well a row fits what is asked: 0 if it has none of its words."""
    weight = sum(log(1 + count / seen[term]) for term in asked & row.terms)
    return weight * (1 + len(asked & row.label) / max(1, len(row.label)))


def _grown(chunk: Chunk, rows: Sequence[_Row], best: _Row, fits: dict[int, float]) -> tuple[int, int]:
    """Return the span of a row with the rows before and after it that stand together on the page, better ones first."""
    by_number = {row.number: row for row in rows}
    first = last = best
    while True:
        before, after = by_number.get(first.number - 1), by_number.get(last.number + 1)
        room = MAX_EXCERPT_CHARS
        if before and (last.span[1] - before.span[0] > room or not is_together(chunk, before.number, first.number)):
            before = None
        if after and (after.span[1] - first.span[0] > room or not is_together(chunk, last.number, after.number)):
            after = None
        if before and (not after or fits[before.number] > fits[after.number]):
            first = before
        elif after:
            last = after
        else:
            return first.span[0], last.span[1]
