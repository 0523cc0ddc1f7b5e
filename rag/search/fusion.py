"""Several rankings of the same chunks fused into one ranking."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean
from typing import TypeVar

from rag.search.names import name_fits
from rag.search.neighbours import page_key
from rag.search.relevance import TermExtractor
from schemas import Chunk, Passage

# The least number of candidates that each search hands to the fusion. MRR on a speech among four documents, with 20,
# 30, 50, 100 and 200 candidates: 0.940, 0.942, 0.943, 0.946, 0.937.
CANDIDATES = 50
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SearchResults:
    """The results of all searches for one question. Each list is ordered best first, with the engine's own scores.

    `sparse` holds the chunks found by words (BM25), `dense` the chunks found by embedding; `dense` is None when search
    is lexical only. `pages` holds the first chunk of each page that was found by the words of the whole page.
    `openings` holds the first chunk of each document that was found by the words of its first pages. `idf` maps each
    term of the question that some chunk contains to its inverse document frequency among the chunks that were searched.
    `not_searched` is the number of documents that are still being indexed, and so were not searched.
    """

    sparse: list[Passage] = field(default_factory=list)
    dense: list[Passage] | None = None
    pages: list[Passage] = field(default_factory=list)
    openings: list[Passage] = field(default_factory=list)
    idf: Mapping[int, float] = field(default_factory=dict)
    not_searched: int = 0

    @property
    def names(self) -> dict[str, str]:
        """The name of each document with a result, by upload id."""
        found = (passage for ranking in (*_rankings(self), self.openings) for passage in ranking)
        return {passage.chunk.upload_id: passage.chunk.name for passage in found}

    @property
    def uploads(self) -> set[str]:
        """The ids of all uploads with a result."""
        return set(self.names)

    def of_uploads(self, uploads: Collection[str]) -> SearchResults:
        """Return the results that belong to these uploads."""
        return SearchResults(
            sparse=_from_uploads(self.sparse, uploads),
            dense=None if self.dense is None else _from_uploads(self.dense, uploads),
            pages=_from_uploads(self.pages, uploads),
            openings=_from_uploads(self.openings, uploads),
            idf=self.idf,
            not_searched=self.not_searched,
        )


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """The weight of each ranking. Each ranking's scores are first normalized to 0 to 1.

    `document` weighs how well a document fits, `name` how well its name does where a question names documents.
    Chosen on five kinds of document: a speech, a manual, filings, papers, annual reports; with 250 questions, and as
    many held out. `make bench-retrieval` compares the rankings.
    """

    dense: float = 1.0
    sparse: float = 1.0
    pages: float = 0.25
    document: float = 0.4
    name: float = 1.0


def fuse(
    question: str,
    results: SearchResults,
    terms: TermExtractor,
    weights: FusionWeights = FusionWeights(),
    *,
    named: Mapping[str, float] | None = None,
) -> list[Passage]:
    """Return all chunks of the results, best first, with scores from 0 to 1.

    A fused score is the weighted mean of the normalized scores; a chunk that a search did not return scores 0 there.
    Unlike ranks (RRF), scores keep by how much the best chunk leads. `named` holds how well the names of documents fit
    the question, where all the results are of documents that it names.
    """
    chunks = {passage.chunk.id: passage.chunk for ranking in _rankings(results) for passage in ranking}
    sparse = _normalize_scores({p.chunk.id: p.score for p in results.sparse})
    dense = _normalize_scores({p.chunk.id: p.score for p in results.dense or ()})
    pages = _normalize_scores({page_key(p.chunk): p.score for p in results.pages})
    total = weights.sparse + weights.pages + (weights.dense if results.dense is not None else 0.0)
    scores = {
        id_: (
            weights.sparse * sparse.get(id_, 0.0)
            + weights.pages * pages.get(page_key(chunk), 0.0)
            + weights.dense * dense.get(id_, 0.0)
        )
        / total
        for id_, chunk in chunks.items()
    }
    if named is not None:
        priors, weight = named, weights.name
    else:
        priors, weight = _document_priors(question, results, chunks, scores, terms), weights.document
    if len(priors) > 1:
        scores = {id_: (score + weight * priors[chunks[id_].upload_id]) / (1 + weight) for id_, score in scores.items()}
    fused = [Passage(chunks[id_], score) for id_, score in scores.items()]
    # Chunks with equal scores are ordered by upload and index, so that both engines return the same ranking.
    return sorted(fused, key=lambda p: (-round(p.score, 6), p.chunk.upload_id, p.chunk.index))


def _document_priors(
    question: str,
    results: SearchResults,
    chunks: Mapping[str, Chunk],
    scores: Mapping[str, float],
    terms: TermExtractor,
) -> dict[str, float]:
    """Return how well each document fits the question, by upload id, normalized to 0 to 1.

    The mean of three scores from 0 to 1: how well its name fits, the score of its first pages, and the fused score of
    its best chunk.
    """
    names = {chunk.upload_id: chunk.name for chunk in chunks.values()}
    fits = name_fits(question, names, terms)
    found = {passage.chunk.upload_id: passage.score for passage in results.openings}
    openings = _normalize_scores({upload: found.get(upload, 0.0) for upload in names})
    best_scores = dict.fromkeys(names, 0.0)
    for id_, score in scores.items():
        upload = chunks[id_].upload_id
        best_scores[upload] = max(best_scores[upload], score)
    return _normalize_scores(
        {upload: (fits.get(upload, 0.0) + openings[upload] + best_scores[upload]) / 3 for upload in names}
    )


def join_results(parts: Sequence[SearchResults]) -> SearchResults:
    """Return the results of separate searches as one; the IDF of a term is the mean of its IDFs."""
    idf: dict[int, list[float]] = {}
    for part in parts:
        for term, value in part.idf.items():
            idf.setdefault(term, []).append(value)
    return SearchResults(
        sparse=_best_first(part.sparse for part in parts),
        dense=None if not parts or parts[0].dense is None else _best_first(part.dense or () for part in parts),
        pages=_best_first(part.pages for part in parts),
        openings=_best_first(part.openings for part in parts),
        idf={term: fmean(values) for term, values in idf.items()},
        not_searched=max((part.not_searched for part in parts), default=0),
    )


def _best_first(rankings: Iterable[Iterable[Passage]]) -> list[Passage]:
    return sorted(chain.from_iterable(rankings), key=lambda passage: -passage.score)


def _from_uploads(passages: list[Passage], uploads: Collection[str]) -> list[Passage]:
    return [passage for passage in passages if passage.chunk.upload_id in uploads]


def _rankings(results: SearchResults) -> Iterable[list[Passage]]:
    return (results.sparse, results.dense or [], results.pages)


def _normalize_scores(scores: Mapping[Key, float]) -> dict[Key, float]:
    """Scale scores linearly so that the lowest is 0 and the highest is 1; equal positive scores all become 1."""
    if not scores:
        return {}
    high, low = max(scores.values()), min(scores.values())
    if high <= low:
        return dict.fromkeys(scores, 1.0 if high > 0 else 0.0)
    return {key: (score - low) / (high - low) for key, score in scores.items()}
