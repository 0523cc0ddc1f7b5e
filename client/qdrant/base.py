"""What both engines make of the same searches: one ranking."""

from __future__ import annotations

from abc import ABC, abstractmethod

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import DenseModel
from rag.search.fusion import CANDIDATES, SearchResults, fuse
from schemas import Chunk, Passage, SearchFilter


class Searching(ABC):
    """The part of a store that does not depend on its engine."""

    _dense: DenseModel | None
    _lexicon: Bm25Encoder

    @abstractmethod
    def find(self, question: str, vector: list[float] | None, chosen: SearchFilter, limit: int) -> SearchResults:
        """Find up to `limit` of the chosen chunks in each way. Raises NothingIndexed."""

    @abstractmethod
    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks before and after each of these, in no order."""

    def embed(self, question: str) -> list[float] | None:
        """Return the vector of a question, or None when search is lexical only. Raises ProviderError."""
        return self._dense.embed_query(question) if self._dense else None

    def search(self, question: str, chosen: SearchFilter, k: int) -> list[Passage]:
        """Find the `k` chunks that fit the question best among the chosen, best first. Raises NothingIndexed."""
        found = self.find(question, self.embed(question), chosen, max(CANDIDATES, k))
        return fuse(question, found, self._lexicon.terms)[:k]
