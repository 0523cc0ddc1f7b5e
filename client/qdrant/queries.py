"""The searches that answer one question, the same for both engines, sent to each in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import DENSE_VECTOR, OPENING_VECTOR, PAGE_VECTOR, SPARSE_VECTOR, passage_of
from rag.ingest.chunking import indexed_text, title_from_name
from rag.search.fusion import SearchResults
from schemas import Chunk, Passage

if TYPE_CHECKING:
    from qdrant_edge import SparseVector

# Terms of a question, of those looked up for their rarity. A question seldom has more than 15.
MAX_TERMS = 32
DOCUMENTS = 50

Sparse = tuple[list[int], list[float]]


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """One search: the nearest `limit` points to a vector, dense or (indices, values), by the vector named `using`."""

    using: str
    vector: list[float] | Sparse
    limit: int
    with_vector: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A point found. `weights` is its sparse vector where that was asked for."""

    id: str
    score: float
    payload: Mapping[str, Any]
    weights: Mapping[int, float]


def sparse_vectors(chunk: Chunk, lexicon: Bm25Encoder) -> dict[str, SparseVector]:
    """Return the sparse vectors to store with a chunk, by name."""
    vectors = {SPARSE_VECTOR: lexicon.document_vector(indexed_text(chunk))}
    if chunk.page_text:
        vectors[PAGE_VECTOR] = lexicon.page_vector(chunk.page_text)
    if chunk.opening:
        vectors[OPENING_VECTOR] = lexicon.opening_vector(f"{title_from_name(chunk.name)}\n{chunk.opening}")
    return vectors


def plan(question: str, vector: list[float] | None, lexicon: Bm25Encoder, limit: int) -> list[VectorQuery]:
    """Return the searches for a question: by words in chunks, pages and documents, by each term, and by meaning."""
    query = lexicon.query_vector(question)
    probes = []
    if query.indices:
        words = (list(query.indices), list(query.values))
        probes += [
            VectorQuery(SPARSE_VECTOR, words, limit),
            VectorQuery(PAGE_VECTOR, words, limit),
            VectorQuery(OPENING_VECTOR, words, DOCUMENTS),
            *(
                VectorQuery(SPARSE_VECTOR, ([term], [1.0]), 1, with_vector=True)
                for term in sorted(query.indices)[:MAX_TERMS]
            ),
        ]
    if vector is not None:
        probes.append(VectorQuery(DENSE_VECTOR, vector, limit))
    return probes


def gather(probes: Sequence[VectorQuery], answers: Sequence[Sequence[Hit]]) -> SearchResults:
    """Put the answers of the searches together."""
    words: list[Passage] = []
    pages: list[Passage] = []
    documents: dict[str, float] = {}
    rarity: dict[int, float] = {}
    meaning = None
    for probe, hits in zip(probes, answers, strict=True):
        if probe.with_vector:
            rarity.update(_rarity(probe, hits))
        elif probe.using == SPARSE_VECTOR:
            words = _passages(hits)
        elif probe.using == PAGE_VECTOR:
            pages = _passages(hits)
        elif probe.using == OPENING_VECTOR:
            documents = {passage.chunk.upload_id: passage.score for passage in _passages(hits)}
        else:
            meaning = _passages(hits)
    return SearchResults(sparse=words, dense=meaning, pages=pages, documents=documents, idf=rarity)


def weights_of(vector: SparseVector) -> dict[int, float]:
    """Return a sparse vector as a mapping."""
    return dict(zip(vector.indices, vector.values, strict=True))


def _passages(hits: Sequence[Hit]) -> list[Passage]:
    return [passage_of(hit.id, hit.payload, hit.score) for hit in hits if hit.score > 0]


def _rarity(probe: VectorQuery, hits: Sequence[Hit]) -> dict[int, float]:
    """Return the term's weight in the collection (IDF): the score of a chunk by it alone, over its weight there."""
    if not hits or not isinstance(probe.vector, tuple):
        return {}
    [term], _ = probe.vector
    weight = hits[0].weights.get(term)
    return {term: hits[0].score / weight} if weight else {}
