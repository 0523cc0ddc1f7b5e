"""The sentences of a passage, with the figures that each states."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rag.citations.figures import YEAR, Figure, figures, is_unit, normalize_line
from rag.citations.number_words import WORD_NUMBERS, months_in_dates, numbers_in_words
from rag.citations.quotes import quotable_spans
from rag.citations.wording import clauses_of
from rag.search.relevance import TermExtractor

# A line without a full stop and with at most this many terms is a heading.
_MAX_HEADING_TERMS = 8
_REFERS_BACK = re.compile(
    r"\W*(?:it|they|this|these|that|those|he|she|its|their|his|her|er|sie|es|dies|diese[rs]?|il|elle|ils|elles|ce|cela|"
    r"este|esta|esto|ello|ella|questo|questa|esso|essa|ele|ela|isto|hij|zij|ze|dit|deze|het)\b",
    re.IGNORECASE,
)
# The word after a number, which names the things counted.
_COUNTED = re.compile(r"\s?[^\W\d_]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage.

    `context_terms` adds the terms of the previous sentence if this one starts with a pronoun. The figures are read when
    a claim with a figure first needs them.
    """

    text: str
    terms: frozenset[int]
    context_terms: frozenset[int]
    extract_terms: TermExtractor

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """The figures that the sentence states in digits, or in English words."""
        return tuple(figures(self.text))

    @cached_property
    def numbers(self) -> frozenset[str]:
        """All readings of the figures and number words."""
        return numbers_in_words(self.text).union(*(figure.readings | figure.parts for figure in self.figures))

    @cached_property
    def months(self) -> frozenset[str]:
        """The numbers, 1 to 12, of the months in the sentence's dates."""
        return months_in_dates(self.text)

    def states(self, figure: Figure) -> bool:
        """Return True if this sentence states the figure, in digits or words, without another unit."""
        if any(figure.matches(other) for other in self.figures):
            return True
        if any(figure.readings & other.readings for other in self.figures):
            return False
        if not figure.parts and figure.readings.isdisjoint(WORD_NUMBERS):
            return any(figure.readings & other.parts for other in self.figures)
        numbers = self.numbers if figure.units else self.numbers | self.months
        return bool(figure.readings & numbers) or bool(figure.parts and figure.parts <= numbers)

    def is_heading_with(self, figure: Figure) -> bool:
        """Return True if this is a heading with the figure as its year: the year counts for the text below it."""
        short = len(self.figures) == 1 and len(self.terms) <= _MAX_HEADING_TERMS and self.text[-1] not in ".!?;:。"
        return short and bool(figure.kind & YEAR)

    def states_for_another(self, figure: Figure, said: frozenset[int]) -> bool:
        """Return True if each clause that states the figure has another subject than the claim with the terms `said`.

        The claim then names the subject of another clause. Example: `Low gives 30 lumens, high gives 400`, and a claim
        of 400 lumens for `low`.
        """
        stating = [terms for terms, stated in self._clauses if any(figure.matches(other) for other in stated)]
        return bool(stating) and all(
            any(
                said & (others - terms) and terms - others and not said & (terms - others) and terms & others
                for others, stated in self._clauses
                if any(other.kind == figure.kind or other.kind & figure.kind for other in stated)
                and not any(figure.matches(other) for other in stated)
            )
            for terms in stating
        )

    @cached_property
    def _clauses(self) -> list[tuple[frozenset[int], list[Figure]]]:
        """The terms and figures of each clause with figures. The terms exclude the figures and the things counted."""
        clauses = [(clause, figures(clause)) for clause in clauses_of(self.text)]
        return [(self.extract_terms(strip_quantities(clause, stated)), stated) for clause, stated in clauses if stated]


def parse_sentences(text: str, terms: TermExtractor) -> Iterator[Sentence]:
    """Yield the sentences of a passage; a sentence too long for a quote comes in parts."""
    previous_terms = frozenset[int]()
    for start, end in quotable_spans(text):
        line = normalize_line(text[start:end])
        line_terms = terms(line)
        context_terms = line_terms | previous_terms if _REFERS_BACK.match(line) else line_terms
        yield Sentence(line, line_terms, context_terms, terms)
        previous_terms = line_terms


def blank_figures(stated: list[Figure], clause: str) -> str:
    """Return a clause with spaces in place of its figures."""
    text = list(clause)
    for figure in stated:
        text[figure.start : figure.end] = " " * (figure.end - figure.start)
    return "".join(text)


def strip_quantities(clause: str, stated: list[Figure]) -> str:
    """Return a clause without its figures, the word after each figure, and units."""
    text = list(clause)
    for figure in stated:
        counted = _COUNTED.match(clause, figure.end)
        end = counted.end() if counted else figure.end
        text[figure.start : end] = " " * (end - figure.start)
    return " ".join(word for word in "".join(text).split() if not is_unit(word))
