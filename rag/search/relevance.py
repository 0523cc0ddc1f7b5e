"""How well a text fits a question, on a scale of its own: what is refused must not depend on what else was found."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from rag.text.language import asking_words, content_words
from rag.text.normalize import sentence_spans

Terms = Callable[[str], frozenset[int]]
# Sentences that are read together.
WINDOW_SENTENCES = 2
# How the number of terms held counts, and how a short question does without its rarest term. See RELEVANT.
EVIDENCE_POWER = 1.5
SHORT_TERMS = 5
BESIDE_THE_RAREST = 0.5
# Below this nothing relevant was found. Chosen on 201 answerable questions (of a handbook, a speech and a report of 160
# pages) and 102 that none of them answers, each asked of its document alone and of all three together. Answered of the
# first and refused of the second: alone 93 % and 88 %, together 93 % and 83 %. The share of the whole text's terms,
# words of asking among them and unknown ones as heavy as the rarest, gave 89 % and 80 %, 96 % and 60 %. Of 64 further
# questions of the handbook, written afterwards: alone 78 % and 91 % (before 78 %, 81 %), together 78 % and 91 % (before
# 88 %, 75 %). On the first set, 0.39 gives 94 % and 84 % on the average of all, 0.5 gives 90 % and 90 %.
RELEVANT = 0.42
# The same for the mean of this and the cosine of all-MiniLM-L6-v2: alone 92 % and 90 %, together 92 % and 81 %; the
# cosine with half of the earlier relevance added gave 93 % and 75 %, 96 % and 62 %.
RELEVANT_WITH_MEANING = 0.4


def content_terms(question: str, terms: Terms) -> frozenset[int]:
    """Return the terms of a question without its words of asking; all of them when it has no others."""
    every = terms(question)
    return every - terms(" ".join(sorted(asking_words(question)))) or every


def own_terms(own: str | None, terms: Terms) -> frozenset[int]:
    """Return the terms that a user's own question has beside its words of asking: none of "And when?"."""
    return frozenset() if own is None else terms(" ".join(content_words(own)))


class QueryTerms:
    """The terms of a question, each as heavy as it is rare: its IDF in the collection, the mean of the others' when
    no document holds it. A word that stands nowhere tells little: it may be the reader's own for what is there.

    `own` are those a follow-up question had before words of earlier ones were added to it.
    """

    def __init__(
        self, wanted: frozenset[int], rarity: Mapping[int, float], *, own: frozenset[int] = frozenset()
    ) -> None:
        known = {term: rarity[term] for term in wanted if term in rarity}
        unknown = statistics.fmean(known.values()) if known else 1.0
        self.terms = wanted
        self._weights = {term: known.get(term, unknown) for term in wanted}
        self._total = sum(self._weights.values())
        self._own = QueryTerms(own & wanted, rarity) if own & wanted else None
        self._rarest = {term for term, weight in known.items() if weight >= max(known.values())}

    def share(self, held: frozenset[int]) -> float:
        """Return how much of the question a set of terms holds, 0 to 1."""
        if not self._total:
            return 0.0
        return sum(weight for term, weight in self._weights.items() if term in held) / self._total

    def relevance(self, text: str, terms: Terms) -> float:
        """Return how likely a text is to speak of what was asked, 0 to 1.

        That is the share of the question which two sentences hold, x. The share alone would do a long question
        injustice, of which no text holds all; so it grows with the number of terms held, n, as x * n ** 1.5, where
        a term that stands elsewhere in the text counts half; and is brought to the scale by e / (1 + e). A short
        question whose rarest known term is not held close to the others speaks of something else: it counts half.
        A follow-up may be answered by what holds its own terms alone, and only by what holds some of them.
        """
        if not self.is_own(terms(text)):
            return 0.0
        alone = self._own.relevance(text, terms) if self._own else 0.0
        windows = self._windows(text, terms)
        everywhere = frozenset[int]().union(*windows)
        best = 0.0
        for held in windows:
            evidence = self.share(held) * ((len(held) + len(everywhere)) / 2) ** EVIDENCE_POWER
            if len(self.terms) <= SHORT_TERMS and not held & self._rarest:
                evidence *= BESIDE_THE_RAREST
            best = max(best, evidence)
        return max(alone, best / (1 + best))

    def is_own(self, held: frozenset[int]) -> bool:
        """Tell whether a text of these terms holds one of a follow-up's own, if it has any; True of other questions."""
        return self._own is None or bool(held & self._own.terms)

    def closeness(self, text: str, terms: Terms) -> float:
        """Return how much of the question stands close together: in two sentences that follow each other."""
        return max(map(self.share, self._windows(text, terms)), default=0.0)

    def _windows(self, text: str, terms: Terms) -> list[frozenset[int]]:
        """Return which terms of the question each two sentences of a text hold."""
        held = [terms(text[start:end]) & self.terms for start, end in sentence_spans(text)]
        count = max(1, len(held) - WINDOW_SENTENCES + 1)
        return [frozenset[int]().union(*held[at : at + WINDOW_SENTENCES]) for at in range(count)]


def with_meaning(cosine: float, by_words: float) -> float:
    """Join the cosine of a model whose scale is known with the relevance by words, 0 to 1."""
    return (max(0.0, cosine) + by_words) / 2
