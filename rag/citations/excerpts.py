"""What an answer without a model shows of a passage: a paragraph or rows of a table, and the best sentence in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

from rag.ingest.layout import Line, is_heading, is_table_row, lines
from rag.search.relevance import QueryTerms, TermExtractor
from rag.text.normalize import sentence_spans

MAX_EXCERPT_CHARS = 800
# A shorter excerpt goes on after the end of its section.
MIN_EXCERPT_CHARS = 300
MAX_HEAD_CHARS = 240
# The shares of a sentence's score: its own words, its neighbours' too, and those of the section and the document too.
OWN_SHARE, NEAR_SHARE, WIDE_SHARE = 0.5, 0.3, 0.2
# A line of a table of contents names what the document answers elsewhere; a heading and a question are no answer.
FACTORS = {"contents": 0.1, "heading": 0.3, "question": 0.6, "header": 0.5}
_MAX_CAPTION_CHARS = 120
_MAX_CAPTION_LINES = 3
_MAX_TABLE_LINES = 80
_LEADERS = re.compile(r"(?:(?:[.·_]\s?){4,}|…)\s*[\divxlc]{1,5}$", re.IGNORECASE)
_ENDS_WITH_PAGE = re.compile(r"[^\W\d_]\D*\s(\d{1,3})$")
_YEAR = re.compile(r"(?<![\d.,])(?:[1-3]?\d, )?(?:19|20)\d\d(?![\d.,]*\d)")
_FIGURE = re.compile(r"\d")
_ENDS_WITH_FIGURES = re.compile(r"(?:\s[($€£+-]*\d[\d.,]*[)%]*){2}$")

Kind = Literal["sentence", "row", "heading", "contents"]


class Excerpt(NamedTuple):
    """A part of a text, from `start` to `end`, and the sentence or row in it that fits the question best.

    `head` are the lines further above that a row is read with: the caption, unit and header of its table. `score` is
    from 0 to 1.
    """

    start: int
    end: int
    highlight: tuple[int, int]
    head: tuple[tuple[int, int], ...]
    score: float

    def moved(self, by: int) -> Excerpt:
        """Return the excerpt of a text in which this one's text begins at `by`."""
        first, last = self.highlight
        head = tuple((start + by, end + by) for start, end in self.head)
        return Excerpt(self.start + by, self.end + by, (first + by, last + by), head, self.score)


class _Unit(NamedTuple):
    start: int
    end: int
    kind: Kind


class Excerpts:
    """The excerpts of a text that fit a question.

    `secondary` terms, such as the stop words of the question, decide between sentences that fit equally well.
    """

    def __init__(
        self, text: str, query_terms: QueryTerms, terms: TermExtractor, *, secondary: frozenset[int] = frozenset()
    ) -> None:
        self._text = text
        self._query_terms = query_terms
        self._terms = terms
        self._units = list(_units(text))
        terms_of = [terms(text[unit.start : unit.end]) for unit in self._units]
        self._found = [of & query_terms.terms for of in terms_of]
        self._also = [len(of & secondary) for of in terms_of]
        self._near = list(self._with_neighbours())

    def best(self, place: str, start: int = 0, end: int | None = None) -> Excerpt | None:
        """Return the excerpt around the best sentence between two offsets; None if none has a word of the question.

        `place` has the words of the section and the document, which a sentence need not repeat. The excerpt begins
        before `start` or goes on after `end` only if there is room left.
        """
        stop = len(self._text) if end is None else end
        wide = self._terms(place) & self._query_terms.terms
        inside = [at for at, unit in enumerate(self._units) if unit.start < stop and unit.end > start]
        keys = {at: (round(self._score(at, wide), 3), self._also[at]) for at in inside if self._found[at]}
        if not keys:
            return None
        best = max(keys, key=lambda at: (keys[at], -at))
        return self._around(best, keys[best][0], (inside[0], inside[-1]))

    def _with_neighbours(self) -> Iterator[frozenset[int]]:
        """Yield the terms that each unit, those beside it and the header of its table have of the question."""
        head: frozenset[int] = frozenset()
        for at, unit in enumerate(self._units):
            if unit.kind != "row":
                head = self._found[at]
            elif _is_header(self._text, unit):
                head |= self._found[at]
            yield head.union(*self._found[max(0, at - 1) : at + 2])

    def _score(self, at: int, wide: frozenset[int]) -> float:
        """Return how well a unit fits the question, 0 to 1."""
        coverage, near = self._query_terms.coverage, self._near[at]
        shares = (
            OWN_SHARE * coverage(self._found[at]) + NEAR_SHARE * coverage(near) + WIDE_SHARE * coverage(near | wide)
        )
        return _factor(self._text, self._units[at]) * shares

    def _around(self, best: int, score: float, bounds: tuple[int, int]) -> Excerpt:
        text, units = self._text, self._units
        unit = units[best]
        above = _table_head(text, units, best) if unit.kind == "row" else ()
        room = MAX_EXCERPT_CHARS - sum(span[1] - span[0] for span in above)
        grow = partial(_grown, units, self._found, self._query_terms, room)
        first, last = grow(*grow(best, best, bounds), (0, len(units) - 1))
        start, end = units[first].start, units[last].end
        if end - start > room:  # one sentence or row is longer
            end = start + max(text.rfind(" ", start, start + room) - start, room // 2)
        outside = tuple(span for span in above if span[0] < start)
        return Excerpt(start, end, (unit.start, min(unit.end, end)), outside, score)


def _factor(text: str, unit: _Unit) -> float:
    if unit.kind in FACTORS:
        return FACTORS[unit.kind]
    if unit.kind == "row":
        return FACTORS["header"] if _is_header(text, unit) else 1.0
    return FACTORS["question"] if text[unit.end - 1] in "?？" else 1.0


def _is_header(text: str, unit: _Unit) -> bool:
    """Return True if a row has years and no other figures, or no figures at all."""
    return not _FIGURE.search(_YEAR.sub("", text[unit.start : unit.end]))


def _grown(
    units: list[_Unit],
    found: list[frozenset[int]],
    query_terms: QueryTerms,
    room: int,
    first: int,
    last: int,
    bounds: tuple[int, int],
) -> tuple[int, int]:
    """Return the first and the last unit around some that fit into `room`, within `bounds` and one section.

    Of the units before and after, the one with more new words of the question is taken, else the one after.
    """
    have = frozenset[int]().union(*found[first : last + 1])
    while True:
        before = first > bounds[0] and units[first].kind != "heading" and units[first - 1].kind != "contents"
        after = last < bounds[1] and not _ends_excerpt(units[last + 1].kind, units[last].end - units[first].start)
        before = before and units[last].end - units[first - 1].start <= room
        after = after and units[last + 1].end - units[first].start <= room
        if not before and not after:
            return first, last
        gains_before = query_terms.coverage(have | found[first - 1]) if before else -1.0
        gains_after = query_terms.coverage(have | found[last + 1]) if after else -1.0
        if gains_before > gains_after:
            first -= 1
            have |= found[first]
        else:
            last += 1
            have |= found[last]


def _ends_excerpt(kind: Kind, size: int) -> bool:
    """Return True if an excerpt of this size ends before a unit of this kind."""
    return kind == "contents" or (kind == "heading" and size >= MIN_EXCERPT_CHARS)


def _table_head(text: str, units: list[_Unit], row: int) -> tuple[tuple[int, int], ...]:
    """Return the caption, unit and header of the table of a row: the lines above the first row with a label."""
    top = row
    while top > max(0, row - _MAX_TABLE_LINES) and _is_of_table(text, units[top - 1]):
        top -= 1
    head: list[tuple[int, int]] = []
    size = 0
    for unit in units[top:row]:
        size += unit.end - unit.start
        if (unit.kind == "row" and not _is_header(text, unit)) or size > MAX_HEAD_CHARS:
            break
        head.append((unit.start, unit.end))
    return tuple(head)


def _is_of_table(text: str, unit: _Unit) -> bool:
    """Return True for a row, and for a short line that is no sentence: a caption, a unit, a label on its own line."""
    if unit.kind == "row":
        return True
    return unit.kind != "contents" and unit.end - unit.start <= _MAX_CAPTION_CHARS and text[unit.end - 1] not in ".!?"


def _units(text: str) -> Iterator[_Unit]:
    """Yield the sentences, rows, headings and lines of contents of a text, in order."""
    page_lines = list(lines(text))
    width = max((line.end - line.start for line in page_lines), default=0)
    run: list[Line] = []
    for at, line in enumerate(page_lines):
        kind = _kind(page_lines, at, width)
        if kind == "sentence":
            run.append(line)
            continue
        yield from _sentences(text, run)
        run = []
        yield _Unit(line.start, line.end, kind)
    yield from _sentences(text, run)


def _sentences(text: str, run: list[Line]) -> Iterator[_Unit]:
    if run:
        for start, end in sentence_spans(text, run[0].start, run[-1].end):
            yield _Unit(start, end, "sentence")


def _kind(page_lines: list[Line], at: int, width: int) -> Kind:
    line = page_lines[at]
    before = page_lines[at - 1] if at else None
    after = page_lines[at + 1] if at + 1 < len(page_lines) else None
    if _LEADERS.search(line.text) or _is_in_list_of_pages(before, line, after):
        return "contents"
    if is_table_row(line) or _ENDS_WITH_FIGURES.search(line.text):
        return "row"
    return "heading" if is_heading(line, before, after, width=width) else "sentence"


def _is_in_list_of_pages(*three: Line | None) -> bool:
    """Return True for a line between two others that all end with a page number, in order."""
    if any(line is None or not line.text[-1:].isdigit() for line in three):
        return False
    ends = [_ENDS_WITH_PAGE.search(line.text) for line in three if line is not None]
    pages = [int(end[1]) for end in ends if end is not None]
    return len(pages) == len(three) and pages == sorted(pages)
