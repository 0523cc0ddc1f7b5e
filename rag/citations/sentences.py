"""The sentences of a passage, with the figures that each gives and of what it gives them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from rag.citations.figures import YEAR, Figure, figures, is_unit, on_one_line
from rag.citations.number_words import months_in_dates, numbers_in_words
from rag.citations.quotes import pieces
from rag.citations.wording import clauses_of
from rag.search.relevance import TermExtractor

# A line that ends like no sentence and has no more terms than this is a heading.
_HEADING_TERMS = 8
_POINTS_BACK = re.compile(
    r"\W*(?:it|they|this|these|that|those|he|she|its|their|his|her|er|sie|es|dies|diese[rs]?|il|elle|ils|elles|ce|cela|"
    r"este|esta|esto|ello|ella|questo|questa|esso|essa|ele|ela|isto|hij|zij|ze|dit|deze|het)\b",
    re.IGNORECASE,
)
# What is counted, after a number.
_COUNTED = re.compile(r"\s?[^\W\d_]+")


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage. `wider` are also the terms of the one before, where it points back to that."""

    text: str
    terms: frozenset[int]
    wider: frozenset[int]
    figures: tuple[Figure, ...]
    numbers: frozenset[str]
    months: frozenset[str]
    tell: TermExtractor

    def gives(self, figure: Figure) -> bool:
        """Tell whether this sentence says a figure, in digits or words, and of no other unit."""
        if any(figure.is_said_by(own) for own in self.figures):
            return True
        if any(figure.readings & own.readings for own in self.figures):
            return False
        dated = self.numbers if figure.units else self.numbers | self.months
        return bool(figure.readings & dated) or bool(figure.parts and figure.parts <= dated)

    def heads(self, figure: Figure) -> bool:
        """Tell whether this is a heading with a year, which is that of what stands under it."""
        short = len(self.figures) == 1 and len(self.terms) <= _HEADING_TERMS and self.text[-1] not in ".!?;:。"
        return short and bool(figure.kind & YEAR)

    def gives_of_another(self, figure: Figure, said: frozenset[int]) -> bool:
        """Tell whether the part that gives a figure has it of something else than a claim does, of the terms `said`.

        That names then what another part gives a figure of: of `Low gives 30 lumens, high gives 400`, 400 of `low`.
        """
        givers = [part for part in self._parts if any(figure.is_said_by(own) for own in part[1])]
        return bool(givers) and all(
            any(
                said & (theirs - own) and own - theirs and not said & (own - theirs) and own & theirs
                for theirs, given in self._parts
                if any(other.kind == figure.kind or other.kind & figure.kind for other in given)
                and not any(figure.is_said_by(other) for other in given)
            )
            for own, _ in givers
        )

    @cached_property
    def _parts(self) -> list[tuple[frozenset[int], list[Figure]]]:
        """The clauses that give figures, each with its terms but for the figures and what they count."""
        parts = [(clause, figures(clause)) for clause in clauses_of(self.text)]
        return [(self.tell(uncounted(clause, given)), given) for clause, given in parts if given]


def sentences_of(text: str, terms: TermExtractor) -> Iterator[Sentence]:
    """Yield the sentences of a passage, and of one too long to be quoted the parts."""
    before = frozenset[int]()
    for start, end in pieces(text):
        line = on_one_line(text[start:end])
        own, given = terms(line), tuple(figures(line))
        numbers = numbers_in_words(line).union(*(figure.readings | figure.parts for figure in given))
        wider = own | before if _POINTS_BACK.match(line) else own
        yield Sentence(line, own, wider, given, numbers, months_in_dates(line), terms)
        before = own


def without_figures(found: list[Figure], clause: str) -> str:
    """Return a text with blanks for its figures."""
    text = list(clause)
    for figure in found:
        text[figure.start : figure.end] = " " * (figure.end - figure.start)
    return "".join(text)


def uncounted(clause: str, found: list[Figure]) -> str:
    """Return a text without its figures, the words after them, which they count, and units."""
    text = list(clause)
    for figure in found:
        counted = _COUNTED.match(clause, figure.end)
        end = counted.end() if counted else figure.end
        text[figure.start : end] = " " * (end - figure.start)
    return " ".join(word for word in "".join(text).split() if not is_unit(word))
