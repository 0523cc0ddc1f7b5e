"""The check whether a passage supports a claim, by words, names and figures alone.

The check detects: a claim about another subject; a figure or unit that the passage does not state; a figure that the
passage states for another subject; a replaced subject or name; a negation added or left out.

The check does not detect: figures swapped between parts of a sentence that are not built alike; names swapped in a
rephrased sentence; a reversed comparison or order; an invented cause; a word of the question in place of a word of the
passage; any other false claim made of the passage's own words. A sum or conversion that the passage does not state
counts as unsupported.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cached_property

from rag.citations.figures import YEAR, Figure, figures, normalize_line
from rag.citations.quotes import best_quote
from rag.citations.sentences import Sentence, blank_figures, parse_sentences, strip_quantities
from rag.citations.wording import (
    NO,
    REPLIES,
    bare_reply,
    clauses_of,
    first_name,
    full_names,
    is_negated,
    may_be_negated,
    names,
    negates_or_forbids,
    strip_negation,
)
from rag.search.relevance import TermExtractor, content_terms
from rag.text.language import are_in_different_languages, function_words
from rag.text.normalize import normalize

# The share of a claim's terms that the best quote must contain. With 0.25, of 95 passages quoted from a speech, 100 %
# are supported by their own page and 0.6 % by another page. The 76 questions about the speech, which say the same in
# other words: 80 % and 0.8 %; with 0.2 92 % and 5 %; with 0.3 68 % and 0.3 %.
SUPPORTED_SHARE = 0.25
# A claim with more terms than this needs two of them in the quote, not one.
MAX_SHORT_CLAIM_TERMS = 3
# A claim negates a sentence of the passage if that sentence contains this share of the claim's terms, at least two.
NEGATED_SHARE = 0.8
_MIN_NEGATED_TERMS = 2
# A claim repeats a sentence with another word in it if this share of both sentences' words and this many terms agree.
REPEATED_SHARE = 0.6
_MIN_REPEATED_TERMS = 3
# A sentence can confirm a yes or no if it contains this share of the question's terms.
REPLY_SHARE = 0.5
# Longer claims are compared by terms only: the time of a comparison in order grows with the square of the length.
_MAX_REPEATED_WORDS = 60
_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


class Evidence:
    """A passage with which claims are compared. `place` names its document, section and page."""

    def __init__(self, text: str, terms: TermExtractor, *, place: str = "", question: str = "") -> None:
        self._text = text
        self._terms = terms
        self._place = place
        self._question = question
        self._stating_by_figure: dict[tuple[frozenset[str], ...], list[int]] = {}

    def supports(self, claim: str) -> bool:
        """Return True if the passage contains enough of the claim's words close together, and states its figures."""
        if reply := bare_reply(claim):
            return self._confirms_reply(reply)
        wanted = self._content_terms(claim)
        if not wanted:
            return False
        same_language = not (
            are_in_different_languages(claim, self._text)
            or are_in_different_languages(f"{self._question} {claim}", self._text)
        )
        # An answer in another language shares only names, figures and loan words with the passage.
        quote = best_quote(self._text, wanted, self._terms)
        needed = 1 if len(wanted) <= MAX_SHORT_CLAIM_TERMS or not same_language else 2
        matched = quote.matched + self._count_reformatted_figures(claim)
        if matched < needed or (same_language and matched < SUPPORTED_SHARE * len(wanted)):
            return False
        clauses = clauses_of(claim)
        return self._states_figures_of(clauses, same_language=same_language) and (
            not same_language
            or not (
                self._misses_new_content(claim, wanted)
                or self._contradicts_negation(claim, clauses)
                or self._replaces_subject(claim)
                or (len(_WORD.findall(claim)) <= _MAX_REPEATED_WORDS and any(map(self._swaps_names, clauses)))
            )
        )

    def _confirms_reply(self, reply: str) -> bool:
        """Return True if the sentence nearest to the question affirms it, for a `yes`, or negates it, for a `no`.

        A `no` to a question with figures is accepted: the passage may state other figures.
        """
        asked = content_terms(self._question, self._terms)
        nearest = self._nearest_sentence(asked)
        if nearest is None or len(asked & nearest.context_terms) < max(1, REPLY_SHARE * len(asked)):
            return False
        if reply in NO:
            return negates_or_forbids(nearest.text) or bool(self._question_numbers)
        return not negates_or_forbids(nearest.text) and self._states_figures_of(
            clauses_of(self._question), same_language=True
        )

    def _nearest_sentence(self, wanted: frozenset[int]) -> Sentence | None:
        return max(self._sentences, key=lambda sentence: len(wanted & sentence.context_terms), default=None)

    def _content_terms(self, text: str) -> frozenset[int]:
        """Return the terms of a text without the function words of its language."""
        empty = function_words(text)
        return self._terms(" ".join(word for word in _WORD.findall(normalize(text)) if word.lower() not in empty))

    @cached_property
    def _sentences(self) -> list[Sentence]:
        return list(parse_sentences(self._text, self._terms))

    @cached_property
    def _known_terms(self) -> frozenset[int]:
        """The terms of the passage and of the names of its place."""
        return self._terms(self._place).union(*(sentence.terms for sentence in self._sentences))

    @cached_property
    def _question_terms(self) -> frozenset[int]:
        return self._terms(self._question)

    @cached_property
    def _place_numbers(self) -> frozenset[str]:
        return _numbers(self._place)

    @cached_property
    def _question_numbers(self) -> frozenset[str]:
        return _numbers(self._question)

    def _count_reformatted_figures(self, claim: str) -> int:
        """Return how many figures of a claim the passage states in other characters, such as `doce` or `1.200,00`."""
        line = normalize_line(claim)
        written = {line[figure.start : figure.end]: figure for figure in figures(line)}
        return sum(
            not self._terms(digits) <= self._known_terms
            and any(sentence.states(figure) for sentence in self._sentences)
            for digits, figure in written.items()
            if digits[0].isdigit()
        )

    def _states_figures_of(self, clauses: list[str], *, same_language: bool) -> bool:
        """Return True if the passage states every figure of the clauses for the same subject.

        A figure of the question may be repeated beside a stated one: `not 100 but 142 grams`.
        """
        stated, repeated = False, False
        for clause in dict.fromkeys(clauses):
            if not (found := figures(clause)):
                continue
            without = blank_figures(found, clause)
            said = self._content_terms(without)
            first = next(
                (term for word in _WORD.findall(without) if (term := self._content_terms(word) & said)),
                frozenset[int](),
            )
            named = self._terms(strip_quantities(clause, found))
            for figure in {(one.readings, one.units, one.scales): one for one in found}.values():
                giving = self._sentences_stating(figure)
                if (
                    giving
                    and same_language
                    and all(self._sentences[n].states_for_another(figure, named) for n in giving)
                ):
                    return False
                if giving and (not same_language or not said or self._has_same_subject(figure, giving, said, first)):
                    stated = True
                elif figure.readings & self._place_numbers:
                    continue
                elif figure.readings & self._question_numbers and not giving:
                    repeated = True
                else:
                    return False
        return stated or not repeated

    def _sentences_stating(self, figure: Figure) -> list[int]:
        """Return the indexes of the sentences that state a figure; searched once for each figure."""
        key = (figure.readings, figure.parts, figure.units, figure.scales)
        if key not in self._stating_by_figure:
            self._stating_by_figure[key] = [n for n, sentence in enumerate(self._sentences) if sentence.states(figure)]
        return self._stating_by_figure[key]

    def _has_same_subject(self, figure: Figure, giving: list[int], said: frozenset[int], first: frozenset[int]) -> bool:
        """Return True if the sentences `giving` state the figure for the subject that the clause gives it.

        `said` holds the terms of the clause, `first` those of its first content word, taken as its subject. The figure
        has another subject if a rival sentence, which states another figure of the same kind, shares more terms with
        the clause than the best sentence does, or as many and the subject.
        """
        if any(self._sentences[n].is_heading_with(figure) for n in giving):
            return True
        best = max(giving, key=lambda n: len(said & self._sentences[n].context_terms))
        mine = said & self._sentences[best].context_terms
        for n, rival in enumerate(self._sentences):
            if n in giving or not any(figure.kind & other.kind for other in rival.figures):
                continue
            theirs = said & rival.terms
            # A text names its main subject once, beside one of its years; the subject does not belong to that year.
            is_rival = len(theirs) > len(mine) or not figure.kind & YEAR
            if mine < theirs or (is_rival and first <= theirs and not first & mine and len(mine - theirs) <= 1):
                return False
        return True

    def _misses_new_content(self, claim: str, wanted: frozenset[int]) -> bool:
        """Return True if the passage contains nothing of what the claim adds to the question.

        This counts for an added name and for a short claim. A full name must always stand in the passage. A short
        claim that agrees with a negation may use another word, such as `forbidden`.
        """
        if any(map(self._is_unknown, full_names(claim))):
            return True
        new = wanted - self._question_terms - self._terms(" ".join(REPLIES))
        if not new or new & self._known_terms or self._count_reformatted_figures(claim):
            return False
        if any(self._terms(name) & new for name in names(claim)):
            return True
        nearest = self._nearest_sentence(wanted)
        agrees = negates_or_forbids(claim) and nearest is not None and negates_or_forbids(nearest.text)
        return len(wanted) <= MAX_SHORT_CLAIM_TERMS and not agrees

    def _is_unknown(self, name: str) -> bool:
        """Return True if neither a word of the full name nor its initials stand in the passage or the question."""
        words = name.split()
        known = self._known_terms | self._question_terms
        initials = self._terms("".join(word[0] for word in words))
        return not initials & known and all((terms := self._terms(word)) and not terms & known for word in words)

    def _contradicts_negation(self, claim: str, clauses: list[str]) -> bool:
        """Return True if the claim negates a sentence of the passage, or repeats a negated one without the negation."""
        denied = is_negated(claim)
        for clause in dict.fromkeys(clauses):
            negates = is_negated(clause)
            if not negates and (denied or not self._negated_clauses):
                continue
            said = self._content_terms(strip_negation(clause))
            if len(said) < _MIN_NEGATED_TERMS:
                continue
            if negates:
                best = max(self._sentences, key=lambda sentence: len(said & sentence.context_terms))
                if len(said & best.context_terms) >= NEGATED_SHARE * len(said) and not is_negated(best.text):
                    return True
            elif said in self._negated_clauses and not any(said <= affirmed for affirmed in self._affirmed_clauses):
                return True
        return False

    @cached_property
    def _negated_clauses(self) -> frozenset[frozenset[int]]:
        """The content terms of each clause of the passage that is negated."""
        clauses = [part for one in self._sentences if may_be_negated(one.text) for part in clauses_of(one.text)]
        return frozenset(self._content_terms(strip_negation(part)) for part in clauses if is_negated(part))

    @cached_property
    def _affirmed_clauses(self) -> frozenset[frozenset[int]]:
        """The content terms of each other clause of the passage."""
        clauses = [part for one in self._sentences for part in clauses_of(one.text)]
        return frozenset(self._content_terms(strip_negation(part)) for part in clauses if not is_negated(part))

    def _replaces_subject(self, claim: str) -> bool:
        """Return True if the claim repeats a sentence with a subject or name that the passage does not contain."""
        words = _WORD.findall(normalize_line(claim))
        if len(words) > _MAX_REPEATED_WORDS:
            return False
        first = next((n for n, word in enumerate(words) if self._terms(word)), None)
        written = set(names(claim))
        suspects = {
            n
            for n, word in enumerate(words)
            if (n == first or word in written)
            and (term := self._terms(word))
            and not term & self._known_terms
            and (word in written or not term & self._question_terms)
        }
        if not suspects:
            return False
        mine = [self._terms(word) for word in words]
        said = frozenset[int]().union(*mine)
        for sentence in self._sentences:
            if len(said & sentence.terms) >= _MIN_REPEATED_TERMS and self._substitutes(mine, suspects, sentence.text):
                return True
        return False

    def _swaps_names(self, clause: str) -> bool:
        """Return True if the clause repeats each nearest sentence with a name from another sentence."""
        words = _WORD.findall(clause)
        named = {n for n, word in enumerate(words) if word in self._passage_names}
        if not named:
            return False
        mine = [self._terms(word) for word in words]
        said = frozenset[int]().union(*mine)
        shared = [len(said & sentence.context_terms) for sentence in self._sentences]
        return max(shared) >= _MIN_REPEATED_TERMS and all(
            self._substitutes(
                mine,
                {n for n in named if not mine[n] & sentence.context_terms},
                sentence.text,
                only=self._passage_names,
            )
            for sentence, count in zip(self._sentences, shared, strict=True)
            if count == max(shared)
        )

    @cached_property
    def _passage_names(self) -> frozenset[str]:
        """The words that the passage writes as names."""
        return frozenset(
            word for sentence in self._sentences for word in [*names(sentence.text), *first_name(sentence.text)]
        )

    def _substitutes(
        self, mine: list[frozenset[int]], suspects: set[int], sentence: str, *, only: frozenset[str] | None = None
    ) -> bool:
        """Return True if the claim repeats a sentence with a suspect word in place of a word, or of one in `only`.

        `mine` holds the terms of each word of the claim, `suspects` indexes of its words.
        """
        if not suspects:
            return False
        words = _WORD.findall(sentence)[:_MAX_REPEATED_WORDS]
        theirs = [self._terms(word) for word in words]
        matcher = SequenceMatcher(None, mine, theirs, autojunk=False)
        if matcher.ratio() < REPEATED_SHARE:
            return False
        return any(
            kind == "replace"
            and b - a == d - c
            and n in suspects
            and bool(theirs[c + n - a])
            and (only is None or words[c + n - a] in only)
            for kind, a, b, c, d in matcher.get_opcodes()
            for n in range(a, b)
        )


def _numbers(text: str) -> frozenset[str]:
    """Return all readings of all figures of a text."""
    return frozenset(number for figure in figures(normalize_line(text)) for number in figure.readings)
