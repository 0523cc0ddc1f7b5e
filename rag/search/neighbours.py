"""Chunks joined with their neighbours, so that the model sees whole passages instead of fragments."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from rag.search.places import joined_marks, joined_places
from rag.text.normalize import estimate_tokens
from schemas import Chunk, Passage

# Returns the chunks before and after each chunk of a list, in no order.
FetchNeighbours = Callable[[list[Chunk]], list[Chunk]]
# The same chunks, and the same ends of chunks, return in other questions. 2,048 take about 2 MB.
_tokens = lru_cache(maxsize=2_048)(estimate_tokens)
# How often neighbours are fetched: of the best chunks, then of the parts of tables that were found beside them.
MAX_FETCHES = 3
# Upload id and page number.
PageKey = tuple[str, int]


def page_key(chunk: Chunk) -> PageKey:
    """Return the key of the page of a chunk."""
    return chunk.upload_id, chunk.page


def join_neighbours(
    ranked: list[Passage], fetch_neighbours: FetchNeighbours, *, k: int, token_budget: int
) -> list[Passage]:
    """Return one passage for each of the `k` best pages: the page's best chunk, joined with adjacent chunks.

    With one passage a page, a long page cannot take every place. Chunks of `ranked` are joined first, then fetched
    neighbours, each time from the best passage on. A chunk with which all passages together would exceed `token_budget`
    is not joined. The best chunk of the best page is returned even when it alone exceeds the budget.
    """
    best, others = _best_by_page(ranked, k)
    passages: dict[PageKey, Passage] = {}
    sizes: dict[PageKey, int] = {}
    for page, passage in best.items():
        size = _tokens(passage.chunk.text)
        if passages and size > token_budget:
            break
        passages[page], sizes[page] = passage, size
        token_budget -= size
    candidates = others
    edges = [passage.chunk for passage in passages.values()]
    asked: set[str] = set()
    for fetches_left in range(MAX_FETCHES, -1, -1):
        for page, passage in passages.items():
            size = sizes[page]
            chunk, sizes[page] = _extend(passage.chunk, size, candidates.get(page, []), size + token_budget)
            passages[page] = Passage(chunk, passage.score)
            token_budget -= sizes[page] - size
        if token_budget <= 0 or not edges or not fetches_left:
            break
        fetched = fetch_neighbours(edges)
        asked |= {chunk.id for chunk in edges}
        # A neighbour may be what lies between two ranked chunks.
        candidates = {page: list(chunks) for page, chunks in others.items()}
        for chunk in fetched:
            candidates.setdefault(page_key(chunk), []).append(chunk)
        tables = [chunk for chunk in fetched if chunk.places and page_key(chunk) in passages]
        edges = [chunk for chunk in tables if chunk.id not in asked]  # a table goes on
    return list(passages.values())


def join_chunks(chunk: Chunk, other: Chunk) -> Chunk | None:
    """Return two chunks of a page joined, with the id of `chunk`; None when there is a gap between the two."""
    first, last = (chunk, other) if chunk.start <= other.start else (other, chunk)
    if page_key(chunk) != page_key(other) or last.start > first.end:
        return None
    if first.places or last.places:
        return _join_tables(chunk, first, last)
    if last.end <= first.end:
        return first.model_copy(update={"id": chunk.id, "index": chunk.index, "section": chunk.section})
    text = first.text + last.text[first.end - last.start :]
    marks = joined_marks(first, last)
    return chunk.model_copy(update={"start": first.start, "end": last.end, "text": text, "marks": marks})


def _join_tables(chunk: Chunk, first: Chunk, last: Chunk) -> Chunk:
    """Join two chunks of which one has rows of a table: their texts follow each other, each only once."""
    # A chunk that was joined before may be offered again, and the space at its end is gone.
    if last.text.rstrip() in first.text or first.text.rstrip() in last.text:
        whole = first if len(first.text) >= len(last.text) else last
        return whole.model_copy(update={"id": chunk.id, "index": chunk.index, "section": chunk.section})
    text = f"{first.text.rstrip()}\n\n"
    joined = {"places": joined_places(first, last, len(text)), "marks": joined_marks(first, last)}
    end = max(first.end, last.end)
    return chunk.model_copy(update={"start": first.start, "end": end, "text": text + last.text, **joined})


def _best_by_page(ranked: list[Passage], k: int) -> tuple[dict[PageKey, Passage], dict[PageKey, list[Chunk]]]:
    """Return the best passage of each of the `k` best pages, and the other ranked chunks of these pages."""
    best: dict[PageKey, Passage] = {}
    others: dict[PageKey, list[Chunk]] = {}
    for passage in ranked:
        page = page_key(passage.chunk)
        if page in best:
            others[page].append(passage.chunk)
        elif len(best) < k:
            best[page], others[page] = passage, []
    return best, others


def _extend(chunk: Chunk, size: int, candidates: list[Chunk], max_size: int) -> tuple[Chunk, int]:
    """Join a chunk of `size` tokens with the adjacent candidates, up to `max_size`; return the chunk and its size."""
    waiting = list(candidates)
    grown = True
    while grown:  # a chunk that has grown may touch a candidate that it did not touch before
        grown = False
        for candidate in list(waiting):
            joined = join_chunks(chunk, candidate)
            if joined is None:
                continue
            waiting.remove(candidate)
            joined_size = size + _added_tokens(chunk, joined)
            if joined_size <= max_size:
                chunk, size, grown = joined, joined_size, True
    return chunk, size


def _added_tokens(chunk: Chunk, joined: Chunk) -> int:
    """Return the number of tokens in the text that a join added before and after a chunk."""
    if joined.places:
        return _tokens(joined.text) - _tokens(chunk.text)
    before, after = chunk.start - joined.start, joined.end - chunk.end
    return _tokens(joined.text[:before]) + _tokens(joined.text[len(joined.text) - after :])
