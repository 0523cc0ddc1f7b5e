"""What an answer without a model shows of a passage: a paragraph or rows of a table, and the best sentence in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


class _Unit(NamedTuple):
    start: int
    end: int
    kind: Kind


def best_excerpt(
    text: str, place: str, query_terms: QueryTerms, terms: TermExtractor, *, secondary: frozenset[int] = frozenset()
) -> Excerpt | None:
    """Return the excerpt of a text that fits a question best; None if no sentence has a word of the question.

    `place` has the words of the section and the document, which a sentence need not repeat. `secondary` terms, such as
    the stop words of the question, decide between sentences that fit equally well.
    """
    units = list(_units(text))
    terms_of = [terms(text[unit.start : unit.end]) for unit in units]
    found = [of & query_terms.terms for of in terms_of]
    wide = terms(place) & query_terms.terms
    best, best_key = -1, (0.0, 0)
    head: frozenset[int] = frozenset()
    for at, unit in enumerate(units):
        if unit.kind != "row":
            head = found[at]
        elif _is_header(text, unit):
            head |= found[at]
        if not found[at]:
            continue
        near = found[at].union(*(found[max(0, at - 1) : at + 2]), head)
        score = _factor(text, unit) * (
            OWN_SHARE * query_terms.coverage(found[at])
            + NEAR_SHARE * query_terms.coverage(near)
            + WIDE_SHARE * query_terms.coverage(near | wide)
        )
        key = (round(score, 3), len(terms_of[at] & secondary))
        if key > best_key:
            best, best_key = at, key
    if best < 0:
        return None
    unit = units[best]
    above = _table_head(text, units, best) if unit.kind == "row" else ()
    room = MAX_EXCERPT_CHARS - sum(span[1] - span[0] for span in above)
    first, last = _grown(units, best, found, query_terms, room)
    start, end = units[first].start, units[last].end
    if end - start > room:  # one sentence or row is longer
        end = start + max(text.rfind(" ", start, start + room) - start, room // 2)
    outside = tuple(span for span in above if span[0] < start)
    return Excerpt(start, end, (unit.start, min(unit.end, end)), outside, best_key[0])


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
    units: list[_Unit], best: int, found: list[frozenset[int]], query_terms: QueryTerms, room: int
) -> tuple[int, int]:
    """Return the first and the last unit around the best one that fit into `room`, within one section.

    Of the units before and after, the one with more new words of the question is taken, else the one after.
    """
    first = last = best
    have = found[best]
    while True:
        before = first > 0 and units[first].kind != "heading" and units[first - 1].kind != "contents"
        after = last + 1 < len(units) and not _ends_excerpt(units[last + 1].kind, units[last].end - units[first].start)
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
    ends = [_ENDS_WITH_PAGE.search(line.text) if line is not None else None for line in three]
    pages = [int(end[1]) for end in ends if end is not None]
    return len(pages) == len(three) and pages == sorted(pages)
