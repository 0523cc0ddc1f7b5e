"""From a question to the passages that its answer may cite: embed, search, fuse, rerank, join neighbours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from errors import ProviderError
from observability import tracing
from rag.ingest.chunking import indexed_text
from rag.search.fusion import CANDIDATES, SearchResults
from rag.search.neighbours import join_neighbours, page_key
from rag.search.question import SearchedQuestion, read_question
from rag.search.relevance import (
    MIN_COMBINED_RELEVANCE,
    MIN_RELEVANCE,
    QueryTerms,
    TermExtractor,
    combined_relevance,
    content_terms,
    follow_up_terms,
)
from rag.search.searches import Store, first_page, search
from schemas import Passage, Query, SearchFilter

# The number of best fused chunks that are reranked.
MAX_RERANKED = 40
# The weight of term proximity, beside the fused score, where no reranker is configured. Mean page hit@5 on five kinds
# of document, within the right one, by words and with embeddings: 77.6 and 83.2 with 0.15, 76.2 and 83.5 with 0.3.
PROXIMITY_WEIGHT = 0.3
# The relevance of a search is the highest relevance among this many of its best chunks.
MAX_JUDGED = 10
# The name of reranking by term proximity in the API (`used.reranker`).
PROXIMITY_RERANKER = "closeness"


class QueryEmbedder(Protocol):
    """Turns a question into a vector; None if the model cannot be asked, so that only words are searched.

    Raises ProviderError.
    """

    async def embed_query(self, text: str) -> list[float] | None: ...


class Reranker(Protocol):
    """Scores texts against a question, 0 to 1, higher is better. Raises ProviderError."""

    name: str

    async def rerank(self, question: str, texts: list[str]) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """The result of one search.

    `ranked` holds chunks, best first; `passages` holds the passages for the model, made of the best chunks and their
    neighbours. `relevant` is False when no chunk answers the question. `reranked_by` names the reranker. `seconds` maps
    each stage to its duration. `embedding_model` is None if the search was by words alone. `not_searched` is the number
    of documents that were not searched, since they are still being indexed.
    """

    ranked: list[Passage]
    passages: list[Passage]
    relevant: bool
    query_terms: QueryTerms
    reranked_by: str
    seconds: dict[str, float]
    embedding_model: str | None = None
    not_searched: int = 0


@dataclass(slots=True)
class StageTimer:
    """Measures how long each stage takes, in seconds, and traces it. A stage that runs twice is summed."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the duration of the `with` block to the stage."""
        started = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The fused chunks of a search, best first, and the terms of the question."""

    results: SearchResults
    fused: list[Passage]
    query_terms: QueryTerms
    question: SearchedQuestion
    search_filter: SearchFilter

    @property
    def reranked(self) -> list[Passage]:
        """The chunks that are reranked. The others follow them."""
        return self.fused[:MAX_RERANKED]


@dataclass(frozen=True, slots=True)
class _Scores:
    """A reranker's scores for the chunks to rerank, and its name. `scores` is None when term proximity decides."""

    name: str
    scores: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Retriever:
    """Finds the passages for a question.

    `embedder` is None where search is lexical only. `context_tokens` bounds all passages together. `calibrated_cosine`
    is True when the store's cosines come from the embedding model for which MIN_COMBINED_RELEVANCE was tuned.
    `embedding_model` names the model. `dimensions` is the length of the stored vectors, if known: a vector of another
    length cannot be compared with them, and only words are searched.

    Waiting for a model is done in the event loop; the store is searched and chunks are ranked in a thread.
    """

    store: Store
    terms: TermExtractor
    embedder: QueryEmbedder | None = None
    reranker: Reranker | None = None
    context_tokens: int = 3_000
    calibrated_cosine: bool = False
    embedding_model: str | None = None
    dimensions: int | None = None

    async def retrieve(
        self, query: Query, search_filter: SearchFilter | None = None, *, follow_up: str | None = None
    ) -> RetrievalResult:
        """Find the passages for a query.

        `search_filter` replaces the filter of the query. `follow_up` is a follow-up question as the user asked it,
        without the words of earlier questions that `query` contains; a relevant passage contains a term of `follow_up`.

        Raises NothingIndexed, StoreError, ProviderError.
        """
        timer = StageTimer()
        with timer.stage("embed"):
            question = read_question(query.query)
            vector = await self._embed(question.text)
        find = partial(self._find, query, question, search_filter or query.search_filter, follow_up, vector, timer)
        if self.reranker is None or query.ranker == "none":
            by_proximity = _Scores(PROXIMITY_RERANKER)
            return await asyncio.to_thread(lambda: self._rank(query, find(), by_proximity, timer))
        found = await asyncio.to_thread(find)
        with timer.stage("rerank"):
            scores = await _ask_reranker(self.reranker, query.query, found.reranked)
        return await asyncio.to_thread(self._rank, query, found, scores, timer)

    async def _embed(self, question: str) -> list[float] | None:
        vector = None if self.embedder is None else await self.embedder.embed_query(question)
        return None if vector is None or self.dimensions not in {None, len(vector)} else vector

    def _find(
        self,
        query: Query,
        question: SearchedQuestion,
        search_filter: SearchFilter,
        follow_up: str | None,
        vector: list[float] | None,
        timer: StageTimer,
    ) -> _Candidates:
        """Search by words and by `vector`, and fuse the rankings."""
        with timer.stage("search"):
            results, fused = search(self.store, self.terms, question, vector, search_filter, max(CANDIDATES, query.k))
        query_terms = QueryTerms(
            content_terms(question.text, self.terms), results.idf, follow_up=follow_up_terms(follow_up, self.terms)
        )
        return _Candidates(results, fused, query_terms, question, search_filter)

    def _rank(self, query: Query, found: _Candidates, scores: _Scores, timer: StageTimer) -> RetrievalResult:
        """Order the chunks, judge whether they answer the question, and join the neighbours of the best."""
        with timer.stage("rerank"):
            ranked, reranked_by = self._order(found, scores)
            if ranked and found.question.asks_first_page:
                ranked = self._with_first_page(found, ranked, query.k)
            confidence, relevant = self._confidence(found, ranked)
        if scores.scores is None:
            ranked = _scale(ranked, confidence)
        if query.min_score is not None:
            ranked = [passage for passage in ranked if passage.score >= query.min_score]
        with timer.stage("search"):
            passages = join_neighbours(ranked, self.store.neighbours, k=query.k, token_budget=self.context_tokens)
        return RetrievalResult(
            ranked,
            passages,
            relevant,
            found.query_terms,
            reranked_by,
            timer.seconds,
            embedding_model=None if found.results.dense is None else self.embedding_model,
            not_searched=found.results.not_searched,
        )

    def _order(self, found: _Candidates, scores: _Scores) -> tuple[list[Passage], str]:
        """Return the chunks in their final order, and the name of the reranker. The chunks not reranked follow."""
        head, tail = found.reranked, found.fused[MAX_RERANKED:]
        if not head:
            return [], "none"
        values = scores.scores
        if values is None:
            best = head[0].score or 1.0
            values = [
                (1 - PROXIMITY_WEIGHT) * passage.score / best
                + PROXIMITY_WEIGHT * found.query_terms.proximity(passage.chunk.text, self.terms)
                for passage in head
            ]
        return _sort_by(values, head) + _scale(tail, min(values)), scores.name

    def _with_first_page(self, found: _Candidates, ranked: list[Passage], k: int) -> list[Passage]:
        """Return the ranking with the first page of the best document among the `k` best pages, if only as the last.

        Titles, authors and dates stand there without the words of a question for them.
        """
        upload = ranked[0].chunk.upload_id
        best = list(dict.fromkeys(page_key(passage.chunk) for passage in ranked))[:k]
        if k == 1 or (upload, 1) in best:
            return ranked
        last = len(ranked) if len(best) < k else [page_key(passage.chunk) for passage in ranked].index(best[-1])
        first = first_page(self.store, found.question, found.search_filter, upload)
        score = ranked[last - 1].score
        return [*ranked[:last], *(Passage(passage.chunk, score) for passage in first), *ranked[last:]]

    def _confidence(self, found: _Candidates, ranked: list[Passage]) -> tuple[float, bool]:
        """Return the relevance of the best chunk, 0 to 1, and True if this relevance suffices for an answer.

        For embeddings of an unknown scale no threshold is known, so any search that found a chunk suffices.
        """
        judged = ranked[:MAX_JUDGED]
        lexical = max((found.query_terms.relevance(passage.chunk.text, self.terms) for passage in judged), default=0.0)
        dense = found.results.dense
        cosine = dense[0].score if dense else None
        if cosine is None:
            return lexical, lexical > MIN_RELEVANCE
        if self.calibrated_cosine:
            combined = combined_relevance(cosine, lexical)
            return combined, combined > MIN_COMBINED_RELEVANCE
        return max(cosine, lexical), bool(judged)


async def _ask_reranker(reranker: Reranker, question: str, passages: list[Passage]) -> _Scores:
    """Return the scores of a reranker. When the reranker fails, term proximity takes its place."""
    if not passages:
        return _Scores("none", [])
    try:
        scores = await reranker.rerank(question, [indexed_text(passage.chunk) for passage in passages])
    except ProviderError as error:
        return _Scores(f"{PROXIMITY_RERANKER} ({type(error).__name__} of {reranker.name})")
    return _Scores(reranker.name, scores)


def _sort_by(scores: list[float], passages: list[Passage]) -> list[Passage]:
    """Return the passages with these scores, best first; equal scores keep their order."""
    scored = [Passage(passage.chunk, score) for passage, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda passage: -round(passage.score, 6))


def _scale(passages: list[Passage], highest: float) -> list[Passage]:
    """Scale scores in proportion, so that the best becomes `highest`. Negative scores become 0."""
    best = max((passage.score for passage in passages), default=0.0) or 1.0
    return [Passage(passage.chunk, max(0.0, passage.score) / best * highest) for passage in passages]
