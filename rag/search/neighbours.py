"""Chunks joined with their neighbours, so that the model sees whole passages and not pieces."""

from __future__ import annotations

from collections.abc import Callable

from rag.text.normalize import estimate_tokens
from schemas import Chunk, Passage

Neighbours = Callable[[list[Chunk]], list[Chunk]]
Place = tuple[str, int]


def join_neighbours(ranked: list[Passage], neighbours: Neighbours, *, k: int, tokens: int) -> list[Passage]:
    """Return one passage for each of the `k` best pages: its best chunk, joined with those it touches.

    A page counts once, so that one long page does not take every place. Chunks that were found come first, then
    unfound neighbours, the best passage's first, while all passages together stay within `tokens`. The best
    chunk of the best page is given in any case.
    """
    best: dict[Place, Passage] = {}
    also: dict[Place, list[Chunk]] = {}
    for passage in ranked:
        place = _place(passage.chunk)
        if place in best:
            also[place].append(passage.chunk)
        elif len(best) < k:
            best[place], also[place] = passage, []
    chosen: dict[Place, Passage] = {}
    for place, passage in best.items():
        size = estimate_tokens(passage.chunk.text)
        if chosen and size > tokens:
            break
        chosen[place] = passage
        tokens -= size
    if tokens <= 0:
        return list(chosen.values())
    beside: dict[Place, list[Chunk]] = {}
    for chunk in neighbours([passage.chunk for passage in chosen.values()]):
        beside.setdefault(_place(chunk), []).append(chunk)
    for more in (also, beside):
        for place, passage in chosen.items():
            joined, tokens = _joined(passage.chunk, more.get(place, []), tokens)
            chosen[place] = Passage(chunk=joined, score=passage.score)
    return list(chosen.values())


def joined(one: Chunk, other: Chunk) -> Chunk | None:
    """Return two chunks of a page as one, or None when they do not touch."""
    first, last = (one, other) if one.start <= other.start else (other, one)
    if _place(one) != _place(other) or last.start > first.end:
        return None
    if last.end <= first.end:
        return first.model_copy(update={"id": one.id, "index": one.index, "section": one.section})
    text = first.text + last.text[first.end - last.start :]
    return one.model_copy(update={"start": first.start, "end": last.end, "text": text})


def _joined(chunk: Chunk, others: list[Chunk], tokens: int) -> tuple[Chunk, int]:
    """Join a chunk with those of the others that touch it and fit; return it and the tokens left."""
    waiting = list(others)
    grown = True
    while grown:
        grown = False
        for other in list(waiting):
            whole = joined(chunk, other)
            if whole is None:
                continue
            waiting.remove(other)
            cost = estimate_tokens(whole.text) - estimate_tokens(chunk.text)
            if cost <= tokens:
                chunk, tokens, grown = whole, tokens - cost, True
    return chunk, tokens


def _place(chunk: Chunk) -> Place:
    return chunk.upload_id, chunk.page
