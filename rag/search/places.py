"""Where the text of a chunk stands on its page, also where a table's lines say it in other words."""

from __future__ import annotations

from typing import NamedTuple

from schemas import Chunk, Place


class PagePart(NamedTuple):
    """A part of a page's text, which begins at `start`."""

    start: int
    text: str


def page_part(chunk: Chunk, start: int, end: int) -> PagePart:
    """Return the part of the page for a chunk's text from `start` to `end`.

    A line of a table stands for the whole line of the page. If what the text stands for is not together on the page,
    the last together part is returned, which is the row rather than the caption above it.
    """
    if not chunk.places:
        return PagePart(chunk.start + start, chunk.text[start:end])
    ends = [*(place.at for place in chunk.places[1:]), len(chunk.text)]
    found: list[PagePart] = []
    for place, place_end in zip(chunk.places, ends, strict=True):
        first, last = max(start, place.at), min(end, place_end)
        if first >= last or not chunk.text[first:last].strip():
            continue
        part = PagePart(place.start, place.original)
        if not place.original:
            text = chunk.text[first:last]
            part = PagePart(place.start + first - place.at + len(text) - len(text.lstrip()), text.strip())
        found.append(part)
    return found[-1] if found else PagePart(chunk.start, "")


def joined_places(first: Chunk, last: Chunk, at: int) -> tuple[Place, ...]:
    """Return the places of two chunks of which the text of the second follows at `at` of the first's text."""
    if not first.places and not last.places:
        return ()
    before = first.places or (Place(at=0, start=first.start),)
    after = last.places or (Place(at=0, start=last.start),)
    return (*before, *(place.model_copy(update={"at": place.at + at}) for place in after))
