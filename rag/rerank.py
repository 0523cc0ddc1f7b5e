"""A second look at the best candidates: how well does each, by itself, fit the question?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from rag.text import sentence_spans

Terms = Callable[[str], frozenset[int]]
# Sentences that are read together.
WINDOW_SENTENCES = 2
# Weight of a term of the question that stands in no document, beside the rarest that does.
UNKNOWN = 1.0


class Reranker(Protocol):
    """Scores texts against a question, higher is better. Raises ProviderError."""

    name: str

    def rerank(self, question: str, texts: list[str]) -> list[float]: ...


class Rarity:
    """How much each term of a question says: its IDF in the collection, the highest for a term found nowhere."""

    def __init__(self, wanted: frozenset[int], known: Mapping[int, float]) -> None:
        highest = max(known.values(), default=1.0)
        self._weights = {term: known.get(term, highest * UNKNOWN) for term in wanted}
        self._total = sum(self._weights.values())

    def share(self, held: frozenset[int]) -> float:
        """Return how much of the question a set of terms holds, 0 to 1."""
        if not self._total:
            return 0.0
        return sum(weight for term, weight in self._weights.items() if term in held) / self._total


def proximity(text: str, rarity: Rarity, terms: Terms) -> float:
    """Return how much of the question stands close together in `text`: in two sentences that follow each other."""
    held = [terms(text[start:end]) for start, end in sentence_spans(text)]
    windows = [held[at : at + WINDOW_SENTENCES] for at in range(max(1, len(held) - WINDOW_SENTENCES + 1))]
    return max((rarity.share(frozenset().union(*window)) for window in windows), default=0.0)
