"""The searches of one question: of everything, and of the documents, pages, tables and phrases that it names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from rag.search.captions import named_captions
from rag.search.fusion import SearchResults, fuse, join_results
from rag.search.names import MAX_NAMED, named_documents
from rag.search.question import SearchedQuestion
from rag.search.relevance import TermExtractor
from rag.search.titles import TitleFits, statements_of
from rag.text.page_names import printed_label
from schemas import Chunk, Passage, SearchFilter

# What the score of a chunk is multiplied with when the question names another document or page.
OTHERS = 0.25
# The chunks that are looked at for a statement in each document. With 10, 3 of 129 statements are missed.
STATEMENT_CHUNKS = 20
# The chunks that are looked at for a table or figure by its number, and how many may show it at most.
CAPTION_CHUNKS = 50
MAX_SHOWN = 6
# Of a range of pages, so many are also looked for by the numbers printed on them.
MAX_LABELS = 5
# Words of the context lines of chunks, one of which every chunk of a page has: a search by them finds the whole page.
PLACE_WORDS = "page slide sheet rows"


class Store(Protocol):
    """Searches chunks by words and by embedding. Raises NothingIndexed and other StoreErrors."""

    def search(
        self, question: str, vector: list[float] | None, filters: Sequence[SearchFilter], limit: int
    ) -> list[SearchResults]: ...
    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]: ...


def search(
    store: Store,
    terms: TermExtractor,
    question: SearchedQuestion,
    vector: list[float] | None,
    search_filter: SearchFilter,
    limit: int,
) -> tuple[SearchResults, list[Passage]]:
    """Return the results of all searches, and their chunks, fused and best first, with scores from 0 to 1.

    Chunks of documents and pages that the question names come before others.
    """
    [results] = store.search(question.text, vector, [search_filter], limit)
    named = named_documents(question.asked, results.names, terms)
    titles = _find_titles(store, question, search_filter, named or results.names, terms)
    ranked = titles.rank(fuse(question.text, results, terms), results.idf)
    if named:
        results = _search_named(store, question, vector, search_filter, limit, named, results)
        ranked = _before(titles.rank(fuse(question.text, results, terms, named=named), results.idf), ranked)
    if question.pages is not None:
        within = _within(search_filter, named)
        on_page = fuse(question.text, _search_pages(store, question, question.pages, vector, within, limit), terms)
        scores = {found.chunk.id: found.score for found in (*ranked, *on_page)}
        labelled = [Passage(chunk, scores.get(chunk.id, 0.0)) for chunk in _labelled(store, question.pages, within)]
        ranked = _before([Passage(found.chunk, (1 + found.score) / 2) for found in (*on_page, *labelled)], ranked)
    return results, _with_captions(store, question, search_filter, named, ranked)


def _find_titles(
    store: Store,
    question: SearchedQuestion,
    search_filter: SearchFilter,
    uploads: Collection[str],
    terms: TermExtractor,
) -> TitleFits:
    """Return how titles fit the question. Where few uploads are searched, the pages of statements are looked for."""
    statements = statements_of(question.asked)
    filters = [_within(search_filter, [upload]) for upload in uploads] if len(uploads) <= MAX_NAMED else []
    found = [results for titles in statements for results in store.search(titles, None, filters, STATEMENT_CHUNKS)]
    return TitleFits(question.text, statements, join_results(found), terms)


def _with_captions(
    store: Store,
    question: SearchedQuestion,
    search_filter: SearchFilter,
    named: Collection[str],
    ranked: list[Passage],
) -> list[Passage]:
    """Return the ranking with the chunks first that show what the question names, as "Table 5".

    They are those of the documents that it names, or else of the best one. A number that more than MAX_SHOWN
    chunks show is of no one table.
    """
    captions = named_captions(question.text)
    uploads = named or {passage.chunk.upload_id for passage in ranked[:1]}
    if not captions or not uploads:
        return ranked
    within = _within(search_filter, sorted(uploads))
    searched = [store.search(caption.name, None, [within], CAPTION_CHUNKS)[0].sparse for caption in captions]
    scores = {found.chunk.id: found.score for found in ranked}
    shown: dict[str, Chunk] = {}
    for caption, results in zip(captions, searched, strict=True):
        found = [passage.chunk for passage in (*ranked, *results) if passage.chunk.upload_id in uploads]
        showing = {chunk.id: chunk for chunk in found if caption.shown.search(chunk.text)}
        shown |= showing if len(showing) <= MAX_SHOWN else {}
    return _before([Passage(chunk, (1 + scores.get(id_, 0.0)) / 2) for id_, chunk in shown.items()], ranked)


def first_page(store: Store, question: SearchedQuestion, search_filter: SearchFilter, upload: str) -> list[Passage]:
    """Return the chunks of the first page of an upload, best first."""
    return _search_pages(store, question, (1, 1), None, _within(search_filter, [upload]), 1).sparse


def _search_named(
    store: Store,
    question: SearchedQuestion,
    vector: list[float] | None,
    search_filter: SearchFilter,
    limit: int,
    named: dict[str, float],
    results: SearchResults,
) -> SearchResults:
    """Search up to MAX_NAMED documents each by itself, with its own IDF; more of them together."""
    groups = [[upload] for upload in named] if len(named) <= MAX_NAMED else [list(named)]
    filters = [_within(search_filter, group) for group in groups]
    parts = store.search(question.text, vector, filters, limit)
    return replace(join_results(parts), not_searched=results.not_searched)


def _search_pages(
    store: Store,
    question: SearchedQuestion,
    pages: tuple[int, int],
    vector: list[float] | None,
    search_filter: SearchFilter,
    limit: int,
) -> SearchResults:
    """Search pages from the first to the last of `pages`; nothing where the filter excludes them."""
    first = max(pages[0], search_filter.first_page or 1)
    last = min(pages[1], search_filter.last_page or pages[1])
    if first > last:
        return SearchResults(dense=None if vector is None else [])
    on_page = search_filter.model_copy(update={"first_page": first, "last_page": last})
    [results] = store.search(f"{question.text} {PLACE_WORDS}", vector, [on_page], limit)
    return results


def _labelled(store: Store, pages: tuple[int, int], search_filter: SearchFilter) -> list[Chunk]:
    """Return the chunks of pages on which one of these numbers is printed, but which are other pages of their file."""
    numbers = [str(number) for number in range(pages[0], min(pages[1], pages[0] + MAX_LABELS - 1) + 1)]
    searched = [store.search(f"page {number}", None, [search_filter], CAPTION_CHUNKS)[0].sparse for number in numbers]
    chunks = {passage.chunk.id: passage.chunk for found in searched for passage in found}
    return [
        chunk
        for chunk in chunks.values()
        if printed_label(chunk.page_label) in numbers and not pages[0] <= chunk.page <= pages[1]
    ]


def _within(search_filter: SearchFilter, uploads: Sequence[str] | dict[str, float]) -> SearchFilter:
    """Return the filter for these uploads alone; the filter itself if there are none."""
    if not uploads:
        return search_filter
    # The uploads are results of a search with this filter, and so are in its vector stores.
    return search_filter.model_copy(update={"upload_ids": tuple(uploads), "store_ids": None, "filters": None})


def _before(first: list[Passage], others: list[Passage]) -> list[Passage]:
    """Return the chunks of both rankings, best first, the scores of the others times OTHERS."""
    found = {passage.chunk.id for passage in first}
    rest = [Passage(other.chunk, OTHERS * other.score) for other in others if other.chunk.id not in found]
    return sorted([*first, *rest], key=lambda passage: -passage.score)
