"""The relevance of a text to a question, on an absolute scale: a refusal must not depend on the other results."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache

from rag.text.language import content_words, stop_words
from rag.text.normalize import sentence_spans

# Returns the terms of a text: stems without stop words, each hashed to the index it has in the sparse vectors.
TermExtractor = Callable[[str], frozenset[int]]
# How many consecutive sentences are scored together.
WINDOW_SENTENCES = 2
# The number of matched terms enters the evidence with this power. MIN_RELEVANCE was tuned together with this constant
# and the next two constants.
EVIDENCE_POWER = 1.5
# The evidence for a question of at most SHORT_QUESTION_TERMS terms is multiplied by MISSING_RAREST_FACTOR when the
# window lacks the question's rarest term.
SHORT_QUESTION_TERMS = 5
MISSING_RAREST_FACTOR = 0.5
# At or below this relevance a passage does not answer. Tuned on 201 answerable questions (about a handbook, a speech
# and a report of 160 pages) and 102 questions that none of them answers, each asked of its document alone and of all
# three together. Answerable questions answered and unanswerable questions refused: alone 93 % and 88 %, together 93 %
# and 83 %. An earlier formula (the share of the terms in the whole text, question words included, unknown terms as
# heavy as the rarest) gave 89 % and 80 %, 96 % and 60 %. On 64 further questions about the handbook, written
# afterwards: alone 78 % and 91 % (earlier formula 78 %, 81 %), together 78 % and 91 % (earlier 88 %, 75 %).
# On the first set 0.39 gives 94 % and 84 % on average, 0.5 gives 90 % and 90 %.
MIN_RELEVANCE = 0.42
# The same threshold for `combined_relevance`, with the cosines of all-MiniLM-L6-v2: alone 92 % and 90 %, together 92 %
# and 81 %. The cosine plus half of the earlier formula's relevance gave 93 % and 75 %, 96 % and 62 %.
MIN_COMBINED_RELEVANCE = 0.4


def content_terms(question: str, terms: TermExtractor) -> frozenset[int]:
    """Return the terms of a question without its stop words; all its terms when it has only stop words."""
    all_terms = terms(question)
    return all_terms - terms(" ".join(sorted(stop_words(question)))) or all_terms


def follow_up_terms(follow_up: str | None, terms: TermExtractor) -> frozenset[int]:
    """Return the terms of a follow-up question without its stop words: empty for None and for "And when?"."""
    return frozenset() if follow_up is None else terms(" ".join(content_words(follow_up)))


class QueryTerms:
    """The terms of a question, each weighted by its IDF in the collection.

    A term that no document contains weighs as much as the mean of the others: the user may only have chosen another
    word than the documents.
    """

    def __init__(
        self, terms: frozenset[int], idf: Mapping[int, float], *, follow_up: frozenset[int] = frozenset()
    ) -> None:
        """`follow_up` holds the terms that a follow-up question had before words of earlier questions were added."""
        known = {term: idf[term] for term in terms if term in idf}
        unknown_weight = statistics.fmean(known.values()) if known else 1.0
        self.terms = terms
        self._weights = {term: known.get(term, unknown_weight) for term in terms}
        self._total = sum(self._weights.values())
        self._follow_up = QueryTerms(follow_up & terms, idf) if follow_up & terms else None
        self._rarest = {term for term, weight in known.items() if weight >= max(known.values())}

    def coverage(self, terms: frozenset[int]) -> float:
        """Return the weighted share of the question's terms that are among `terms`, 0 to 1."""
        if not self._total or terms.isdisjoint(self.terms):
            return 0.0
        return sum(weight for term, weight in self._weights.items() if term in terms) / self._total

    def relevance(self, text: str, terms: TermExtractor) -> float:
        """Return an estimate of how likely a text is to answer the question, 0 to 1.

        Each window of two sentences gives the evidence e = x * n ** 1.5. x is the coverage of the question by the
        window. n is the mean of the number of question terms in the window and in the whole text: coverage alone would
        punish long questions, since no text contains all their terms. The relevance is e / (1 + e) of the best window.

        For a short question, e is halved in a window without the question's rarest known term: such a window is about
        something else. For a follow-up question, a text without any of its terms has relevance 0, and the relevance to
        the follow-up's terms alone counts if it is higher.
        """
        if self._follow_up is not None and not self.matches_follow_up(terms(text)):
            return 0.0
        follow_up_relevance = self._follow_up.relevance(text, terms) if self._follow_up else 0.0
        windows = self._terms_by_window(text, terms)
        in_text = frozenset[int]().union(*windows)
        best = 0.0
        for in_window in windows:
            evidence = self.coverage(in_window) * ((len(in_window) + len(in_text)) / 2) ** EVIDENCE_POWER
            if len(self.terms) <= SHORT_QUESTION_TERMS and not in_window & self._rarest:
                evidence *= MISSING_RAREST_FACTOR
            best = max(best, evidence)
        return max(follow_up_relevance, best / (1 + best))

    def matches_follow_up(self, terms: frozenset[int]) -> bool:
        """Return True if `terms` contain a term of the follow-up question, or if the question is not a follow-up."""
        return self._follow_up is None or bool(terms & self._follow_up.terms)

    def proximity(self, text: str, terms: TermExtractor) -> float:
        """Return the highest coverage of the question by two consecutive sentences of a text, 0 to 1."""
        return max(map(self.coverage, set(self._terms_by_window(text, terms))))

    def _terms_by_window(self, text: str, terms: TermExtractor) -> list[frozenset[int]]:
        """Return the question's terms in each window of WINDOW_SENTENCES sentences; at least one window."""
        by_sentence = [self.terms.intersection(in_sentence) for in_sentence in _sentence_terms(text, terms)]
        count = max(1, len(by_sentence) - WINDOW_SENTENCES + 1)
        return [frozenset().union(*by_sentence[at : at + WINDOW_SENTENCES]) for at in range(count)]


def combined_relevance(cosine: float, lexical: float) -> float:
    """Return the mean of a cosine, -1 to 1, and a relevance by words, 0 to 1. Negative cosines count as 0."""
    return (max(0.0, cosine) + lexical) / 2


# Questions find the same chunks again. 2,048 chunks take about 2 MB: 4 bytes a term, which is 70 in a set.
@lru_cache(maxsize=2048)
def _sentence_terms(text: str, terms: TermExtractor) -> tuple[array[int], ...]:
    return tuple(array("I", terms(text[start:end])) for start, end in sentence_spans(text))
