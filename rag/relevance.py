"""How well a text fits a question, on a scale of its own: what is refused must not depend on what else was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rag.text import sentence_spans

Terms = Callable[[str], frozenset[int]]
# Sentences that are read together.
WINDOW_SENTENCES = 2
# Below this nothing relevant was found. Chosen on 104 answerable questions (76 of a speech, 28 of a handbook), each
# asked of its document, and 258 unanswerable ones (asked of the wrong one, or of none): 97 % of the first are
# answered and 90 % of the second refused. 0.26 gives 100 % and 86 %, 0.41 gives 91 % and 92 %.
RELEVANT = 1 / 3
# The same for all-MiniLM-L6-v2 with half the words' relevance added, on the same questions: 99 % and 94 %.
RELEVANT_WITH_MEANING = 0.5


class Wanted:
    """The terms of a question, each as heavy as it is rare: its IDF in the collection, the highest when unknown."""

    def __init__(self, wanted: frozenset[int], rarity: Mapping[int, float]) -> None:
        unknown = max(rarity.values(), default=1.0)
        self.terms = wanted
        self._weights = {term: rarity.get(term, unknown) for term in wanted}
        self._total = sum(self._weights.values())

    def share(self, held: frozenset[int]) -> float:
        """Return how much of the question a set of terms holds, 0 to 1."""
        if not self._total:
            return 0.0
        return sum(weight for term, weight in self._weights.items() if term in held) / self._total

    def relevance(self, held: frozenset[int]) -> float:
        """Return how likely a text of these terms is to speak of what was asked, 0 to 1.

        The share alone would do a long question injustice, of which no text holds all; so it is multiplied by the
        number of terms held, x, and brought to the scale by x / (1 + x).
        """
        evidence = self.share(held) * len(held & self.terms)
        return evidence / (1 + evidence)

    def closeness(self, text: str, terms: Terms) -> float:
        """Return how much of the question stands close together: in two sentences that follow each other."""
        held = [terms(text[start:end]) for start, end in sentence_spans(text)]
        windows = [held[at : at + WINDOW_SENTENCES] for at in range(max(1, len(held) - WINDOW_SENTENCES + 1))]
        return max((self.share(frozenset().union(*window)) for window in windows), default=0.0)


def with_meaning(cosine: float, by_words: float) -> float:
    """Join the cosine of a model whose scale is known with the relevance by words, 0 to 1."""
    return min(1.0, max(0.0, cosine) + by_words / 2)
