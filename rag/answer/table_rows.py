"""The row of a table that answers a question, with the caption and the unit that go with it."""

from __future__ import annotations

from rag.citations.excerpts import Excerpt
from rag.search.relevance import TermExtractor
from schemas import Chunk

_SEPARATOR = " | "
# The weight of the terms in the row itself, beside those that its caption has, too.
_IN_ROW = 0.3


def best_row(chunk: Chunk, target: frozenset[int], terms: TermExtractor) -> Excerpt | None:
    """Return the row of a chunk's tables that has the most target terms; None if no row has one.

    The terms of its caption and unit, which become the head, count too.
    """
    best: Excerpt | None = None
    head: list[tuple[int, int]] = []
    after_row = False
    ends = (*(place.at for place in chunk.places[1:]), len(chunk.text))
    for place, end in zip(chunk.places, ends if chunk.places else (), strict=True):
        line = chunk.text[place.at : end].rstrip()
        span = (place.at, place.at + len(line))
        if not place.original or _SEPARATOR not in line:
            head = [*([] if after_row else head), span] if place.original else []
            after_row = False
            continue
        after_row = True
        in_row = target & terms(line)
        matched = in_row | (target & terms(" ".join(chunk.text[begin:stop] for begin, stop in head)))
        score = ((1 - _IN_ROW) * len(matched) + _IN_ROW * len(in_row)) / max(1, len(target))
        if in_row and (best is None or score > best.score):
            best = Excerpt(*span, span, tuple(head), score)
    return best
