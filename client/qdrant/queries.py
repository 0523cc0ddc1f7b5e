"""The filters, the searches and the results of a question, the same for both engines."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_edge import SparseVector

from client.qdrant.base import FieldMatch, FieldRange, Hit, PointFilter, VectorQuery
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import (
    DENSE_VECTOR,
    NAME_FIELD,
    OPENING_VECTOR,
    PAGE_FIELD,
    PAGE_VECTOR,
    SPARSE_VECTOR,
    UPLOAD_FIELD,
    USER_FIELD,
)
from rag.search.fusion import SearchResults
from rag.search.names import joined_words
from schemas import Passage, SearchFilter

# The inverse document frequency is looked up for at most this many terms of a question, which seldom has more than 15.
MAX_TERMS = 32
# How many documents are searched by the words of their first pages.
MAX_DOCUMENTS = 50


def points_matching(search_filter: SearchFilter) -> PointFilter:
    """Return the filter of the points whose chunks may be found."""
    must: list[FieldMatch | FieldRange] = []
    if search_filter.user_id is not None:
        must.append(FieldMatch(USER_FIELD, [search_filter.user_id]))
    if search_filter.upload_ids is not None:
        must.append(FieldMatch(UPLOAD_FIELD, list(search_filter.upload_ids)))
    if search_filter.names is not None:
        must.append(FieldMatch(NAME_FIELD, list(search_filter.names)))
    if search_filter.first_page is not None or search_filter.last_page is not None:
        must.append(FieldRange(PAGE_FIELD, search_filter.first_page, search_filter.last_page))
    must_not = (FieldMatch(UPLOAD_FIELD, list(search_filter.hidden)),) if search_filter.hidden else ()
    return PointFilter(tuple(must), must_not)


def points_of_upload(user_id: str, upload_id: str, place: FieldMatch | FieldRange | None = None) -> PointFilter:
    """Return the filter of an upload's points, or only of its points at `place`."""
    upload = (FieldMatch(USER_FIELD, [user_id]), FieldMatch(UPLOAD_FIELD, [upload_id]))
    return PointFilter(upload if place is None else (*upload, place))


def plan(
    question: str, vector: list[float] | None, search_filter: SearchFilter, bm25: Bm25Encoder, limit: int
) -> list[VectorQuery]:
    """Return the searches for a question: by its words in chunks, pages and documents, by each term, and by meaning.

    `vector` is the embedding of the question, None where search is lexical only. A question of stop words alone
    without a vector has no searches.
    """
    where, corpus = points_matching(search_filter), corpus_of(search_filter)
    words = bm25.query_vector(question)
    queries = []
    if words.indices:
        # A name that runs words together, such as BESTBUY_2022.pdf, is found by the words of a question joined.
        named = bm25.query_vector(f"{question} {' '.join(joined_words(question))}")
        queries += [
            VectorQuery(SPARSE_VECTOR, words, limit, where, corpus),
            VectorQuery(PAGE_VECTOR, words, limit, where, corpus),
            VectorQuery(OPENING_VECTOR, named, MAX_DOCUMENTS, where, corpus),
            *(
                VectorQuery(SPARSE_VECTOR, SparseVector([term], [1.0]), 1, where, corpus, with_vector=True)
                for term in sorted(words.indices)[:MAX_TERMS]
            ),
        ]
    if vector is not None:
        queries.append(VectorQuery(DENSE_VECTOR, vector, limit, where))
    return queries


def corpus_of(search_filter: SearchFilter) -> PointFilter:
    """Return the filter of the points over which document frequencies are counted: all pages of what is searched.

    A word that is rare among all documents may be in every chunk of one, such as the name of a company in its report.
    Counting takes 0.1 to 0.4 ms of CPU a question, with 100 to 10,000 chunks.
    """
    return points_matching(search_filter.model_copy(update={"first_page": None, "last_page": None}))


def gather(queries: Sequence[VectorQuery], hits_by_query: Sequence[Sequence[Hit]]) -> SearchResults:
    """Combine the hits of all searches of a question."""
    sparse: list[Passage] = []
    pages: list[Passage] = []
    openings: list[Passage] = []
    idf: dict[int, float] = {}
    dense = None
    for query, hits in zip(queries, hits_by_query, strict=True):
        if query.with_vector:
            idf.update(_idf(query, hits))
        elif query.using == SPARSE_VECTOR:
            sparse = _passages(hits)
        elif query.using == PAGE_VECTOR:
            pages = _passages(hits)
        elif query.using == OPENING_VECTOR:
            openings = _passages(hits)
        else:
            dense = _passages(hits)
    return SearchResults(sparse=sparse, dense=dense, pages=pages, openings=openings, idf=idf)


def _passages(hits: Sequence[Hit]) -> list[Passage]:
    return [Passage(hit.chunk, hit.score) for hit in hits if hit.score > 0 and hit.chunk is not None]


def _idf(query: VectorQuery, hits: Sequence[Hit]) -> dict[int, float]:
    """Return the inverse document frequency of a query's only term; empty when no chunk holds the term.

    A chunk's score by one term is the term's weight in the chunk times its inverse document frequency.
    """
    if not hits or not isinstance(query.vector, SparseVector):
        return {}
    [term] = query.vector.indices
    weight = hits[0].weights.get(term)
    return {term: hits[0].score / weight} if weight else {}
