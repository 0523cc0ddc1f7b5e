"""From a question to the passages an answer may stand on: embed, search, fuse, rerank, join neighbours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from errors import ProviderError
from rag.ingest.chunking import indexed_text
from rag.search.fusion import CANDIDATES, SearchResults, fuse
from rag.search.neighbours import join_neighbours
from rag.search.relevance import (
    RELEVANT,
    RELEVANT_WITH_MEANING,
    QueryTerms,
    Terms,
    content_terms,
    own_terms,
    with_meaning,
)
from schemas import Chunk, Passage, Query, SearchFilter

# How many of the fused go to the second stage.
RERANKED = 40
# Weight of the offline second stage, the closeness of the question's words, beside the fused score. Hit@1 and MRR on
# a speech by words alone: 87 %, 0.920 without; 88 %, 0.931 at 0.5; 87 %, 0.924 at 0.8. With meaning: 91 %, 0.943;
# 92 %, 0.951; 88 %, 0.931.
CLOSENESS = 0.5
# Of how many passages the relevance of a search is the best.
JUDGED = 10


class Store(Protocol):
    """Searches chunks in every way at once. Raises NothingIndexed and other StoreErrors."""

    def embed(self, question: str) -> list[float] | None: ...
    def find(self, question: str, vector: list[float] | None, chosen: SearchFilter, limit: int) -> SearchResults: ...
    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]: ...


class Reranker(Protocol):
    """Scores texts against a question, 0 to 1, higher is better. Raises ProviderError."""

    name: str

    def rerank(self, question: str, texts: list[str]) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """What a search gave. `ranked` are chunks, best first; `passages` what the model is to see of them.

    `relevant` is False when nothing found has to do with the question. `wanted` are the question's terms.
    """

    ranked: list[Passage]
    passages: list[Passage]
    relevant: bool
    wanted: QueryTerms
    reranked_by: str
    seconds: dict[str, float]


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Retriever:
    """Finds passages. `known_scale` tells that the store's cosines are of a model that RELEVANT_WITH_MEANING knows."""

    store: Store
    terms: Terms
    reranker: Reranker | None = None
    context_tokens: int = 3_000
    known_scale: bool = False

    def retrieve(self, query: Query, chosen: SearchFilter | None = None, *, own: str | None = None) -> RetrievalResult:
        """Find the passages for a question, among the `chosen` where the query's own filter is not all.

        `own` is the part of the question that a passage has to speak of to be relevant, None for all of it. Raises
        NothingIndexed, StoreError, ProviderError.
        """
        terms = lru_cache(maxsize=None)(self.terms)
        watch = Stopwatch()
        with watch.stage("embed"):
            vector = self.store.embed(query.query)
        with watch.stage("search"):
            found = self.store.find(query.query, vector, chosen or query.chosen, max(CANDIDATES, query.k))
            fused = fuse(query.query, found, terms)
        wanted = QueryTerms(content_terms(query.query, terms), found.rarity, own=own_terms(own, terms))
        with watch.stage("rerank"):
            ranked, reranked_by = self._reranked(query.query, fused, wanted, terms)
        confidence, relevant = self._confidence(found, ranked, wanted, terms)
        if reranked_by in {"closeness", "none"}:
            ranked = _scaled(ranked, confidence)
        if query.min_score is not None:
            ranked = [passage for passage in ranked if passage.score >= query.min_score]
        with watch.stage("search"):
            passages = join_neighbours(ranked, self.store.neighbours, k=query.k, tokens=self.context_tokens)
        return RetrievalResult(ranked, passages, relevant, wanted, reranked_by, watch.seconds)

    def _reranked(
        self, question: str, fused: list[Passage], wanted: QueryTerms, terms: Terms
    ) -> tuple[list[Passage], str]:
        """Order the best candidates anew. A reranker that fails costs its stage, not the answer."""
        head, tail = fused[:RERANKED], fused[RERANKED:]
        if not head:
            return [], "none"
        if self.reranker is not None:
            try:
                scores = self.reranker.rerank(question, [indexed_text(passage.chunk) for passage in head])
                return _by_score(head, scores) + _scaled(tail, min(scores)), self.reranker.name
            except ProviderError as error:
                reason = f"closeness ({type(error).__name__} of {self.reranker.name})"
        else:
            reason = "closeness"
        top = head[0].score or 1.0
        blend = [
            (1 - CLOSENESS) * passage.score / top + CLOSENESS * wanted.closeness(passage.chunk.text, terms)
            for passage in head
        ]
        return _by_score(head, blend) + _scaled(tail, min(blend)), reason

    def _confidence(
        self, found: SearchResults, ranked: list[Passage], wanted: QueryTerms, terms: Terms
    ) -> tuple[float, bool]:
        """Return how relevant the best passage is, and whether that is enough for an answer."""
        judged = ranked[:JUDGED]
        by_words = max((wanted.relevance(passage.chunk.text, terms) for passage in judged), default=0.0)
        cosine = found.meaning[0].score if found.meaning else None
        if cosine is None:
            return by_words, by_words > RELEVANT
        if self.known_scale:
            joined = with_meaning(cosine, by_words)
            return joined, joined > RELEVANT_WITH_MEANING
        return max(cosine, by_words), bool(judged)


def _by_score(passages: list[Passage], scores: list[float]) -> list[Passage]:
    scored = [Passage(chunk=passage.chunk, score=score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: -round(passage.score, 6))


def _scaled(passages: list[Passage], highest: float) -> list[Passage]:
    """Bring scores to a scale on which the best has the score `highest`."""
    top = max((passage.score for passage in passages), default=0.0) or 1.0
    return [Passage(chunk=passage.chunk, score=max(0.0, passage.score) / top * highest) for passage in passages]
