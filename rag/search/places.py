"""Where a chunk's text stands: on its page, if a table says it in other words; under which section; on which lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from rag.text.page_names import place_name
from schemas import Chunk, Place, TextMark


class PagePart(NamedTuple):
    """A part of a page's text, which begins at `start`."""

    start: int
    text: str


class FilePlace(NamedTuple):
    """Where a part of a page stands in its file. `lines` are the first and the last; None for a file without lines."""

    section: str
    label: str
    lines: tuple[int, int] | None = None


def file_place(chunk: Chunk, start: int, end: int) -> FilePlace:
    """Return the section, the lines and the page label of the page's text from `start` to `end`, within a chunk."""
    if not chunk.marks:
        return FilePlace(chunk.section, chunk.page_label)
    first = _mark_at(chunk, start)
    if not first.line:
        return FilePlace(first.section, chunk.page_label)
    last = _mark_at(chunk, max(start, end - 1))
    begin = first.line if first.last_line else first.line + _line_feeds(chunk, first.at, start)
    stop = last.last_line or last.line + _line_feeds(chunk, last.at, end - 1)
    lines = begin, max(begin, stop)
    return FilePlace(first.section, place_name(chunk.page_label, first.section, lines), lines)


def _mark_at(chunk: Chunk, at: int) -> TextMark:
    before = [mark for mark in chunk.marks if mark.at <= at]
    return before[-1] if before else chunk.marks[0]


def _line_feeds(chunk: Chunk, start: int, end: int) -> int:
    return chunk.text.count("\n", max(0, start - chunk.start), max(0, end - chunk.start))


def joined_marks(first: Chunk, last: Chunk) -> tuple[TextMark, ...]:
    """Return the marks of two chunks of a page joined, of which `first` begins first. It has those of an overlap."""
    if not first.marks and not last.marks and first.section == last.section:
        return ()
    before = first.marks or (TextMark(at=first.start, section=first.section),)
    after = last.marks or (TextMark(at=last.start, section=last.section),)
    return (*before, *(mark for mark in after if mark.at >= first.end))


def page_part(chunk: Chunk, start: int, end: int) -> PagePart:
    """Return the part of the page for a chunk's text from `start` to `end`.

    A line of a table stands for the whole line of the page. If what the text stands for is not together on the page,
    the last together part is returned, which is the rows rather than the caption above them.
    """
    if not chunk.places:
        return PagePart(chunk.start + start, chunk.text[start:end])
    found: PagePart | None = None
    for place, place_end in placed_parts(chunk):
        first, last = max(start, place.at), min(end, place_end)
        if first >= last or not chunk.text[first:last].strip():
            continue
        part = PagePart(place.start, place.original)
        if not place.original:
            text = chunk.text[first:last]
            part = PagePart(place.start + first - place.at + len(text) - len(text.lstrip()), text.strip())
        together = found is not None and place.original and found.start + len(found.text) == part.start
        found = PagePart(found.start, found.text + part.text) if found and together else part
    return PagePart(found.start, found.text.rstrip()) if found else PagePart(chunk.start, "")


def is_together(chunk: Chunk, one: int, other: int) -> bool:
    """Return True if the lines of two places of a chunk, which are lines of tables, follow each other on the page."""
    first, second = chunk.places[one], chunk.places[other]
    return first.start + len(first.original) == second.start


def placed_parts(chunk: Chunk) -> Iterator[tuple[Place, int]]:
    """Yield each place of a chunk, and the end of its part in the chunk's text."""
    for place, after in zip_longest(chunk.places, chunk.places[1:]):
        yield place, len(chunk.text) if after is None else after.at


def prose_parts(chunk: Chunk) -> Iterator[tuple[int, str]]:
    """Yield the offset and the text of each part of a chunk that is no line of a table."""
    for place, end in placed_parts(chunk):
        if not place.original:
            yield place.at, chunk.text[place.at : end]


def joined_places(first: Chunk, last: Chunk, at: int) -> tuple[Place, ...]:
    """Return the places of two chunks of which the text of the second follows at `at` of the first's text."""
    if not first.places and not last.places:
        return ()
    before = first.places or (Place(at=0, start=first.start),)
    after = last.places or (Place(at=0, start=last.start),)
    return (*before, *(place.model_copy(update={"at": place.at + at}) for place in after))
