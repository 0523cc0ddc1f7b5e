"""Where sections begin in a chunk, and on which lines of a text file it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest
from operator import itemgetter

from schemas import Page, Place, TextMark


def text_marks(page: Page, sections: list[tuple[int, str]], end: int) -> tuple[TextMark, ...]:
    """Return the marks of a chunk that ends at `end`; empty if the chunk has one section, and the file no lines.

    `sections` are the offsets of the chunk's pieces in order, each with its section.
    """
    begins = dict([sections[0], *(after for before, after in pairwise(sections) if before[1] != after[1])])
    if len(begins) == 1 and not page.lines:
        return ()
    start = sections[0][0]
    marks: list[TextMark] = []
    section = ""
    offsets = sorted({*begins, *(offset for offset, _, _ in page.lines if start < offset < end)})
    for at, after in zip_longest(offsets, offsets[1:], fillvalue=end):
        section = begins.get(at, section)
        line, last_line = _lines_at(page, at)
        if page.tables and line and not last_line:  # joined with parts of tables, line feeds could not be counted
            marks += _each_line(page, at, after, line, section)
        else:
            marks.append(TextMark(at=at, section=section, line=line, last_line=last_line))
    return tuple(marks)


def _each_line(page: Page, start: int, end: int, line: int, section: str) -> Iterator[TextMark]:
    for number, text in enumerate(page.text[start:end].split("\n"), start=line):
        yield TextMark(at=start, section=section, line=number, last_line=number)
        start += len(text) + 1


def row_marks(page: Page, places: Sequence[Place], section: str) -> tuple[TextMark, ...]:
    """Return the marks of a chunk with lines of tables: the lines of the file for each place."""
    starts = sorted({place.start for place in places})
    found = [
        TextMark(at=at, section=section, line=line, last_line=last)
        for at in starts
        for line, last in [_lines_at(page, at)]
    ]
    return tuple(found)


def _lines_at(page: Page, at: int) -> tuple[int, int]:
    """Return the first and the last line of the text at an offset; the last is 0 where line feeds are counted."""
    number = bisect_right(page.lines, at, key=itemgetter(0)) - 1
    if number < 0:
        return 0, 0
    begin, line, last = page.lines[number]
    return (line, last) if last else (line + page.text.count("\n", begin, at), 0)
