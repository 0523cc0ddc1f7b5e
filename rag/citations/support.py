"""Whether a passage supports a claim, as far as words and figures tell: a rule against wrong sources."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property

from rag.citations.quotes import quotable_spans
from rag.search.relevance import TermExtractor

# A passage supports a claim if it holds at least this share of the claim's terms, and all its numbers.
MIN_SHARE = 0.5
# The share for a sentence that cites nothing, and for a quotation that the passage does not hold exactly.
HIGH_SHARE = 0.8
MIN_TERMS_FOR_HIGH_SHARE = 3
# Numbers up to this one are often written as words.
_LAST_SMALL_NUMBER = 12
_NUMBER = re.compile(r"\d+(?:[.,'’]\d+)*")
_SEPARATED_NUMBER = re.compile(r"\d+(?:[.,'’]\d{3})*(?:[.,]\d+)?")
_SEPARATOR = re.compile(r"[.,'’]")
_LIST_NUMBER = re.compile(r"\A\s*\d{1,3}[.)]\s")


class Evidence:
    """The terms and numbers of a passage."""

    def __init__(self, text: str, terms: TermExtractor, *, place: str = "", question: str = "") -> None:
        """`place`, such as name and page, holds numbers that a claim may state too, and so does `question`."""
        self._text = text
        self._place = place
        self._question = question
        self._extract_terms = terms

    def supports(self, claim: str, *, share: float = MIN_SHARE) -> bool:
        """Return True if the passage holds this share of the claim's terms, and all its numbers."""
        terms = self._extract_terms(claim)
        words = self._extract_terms(_NUMBER.sub(" ", claim))
        return bool(terms) and len(words - self._terms) <= (1 - share) * len(terms) and self.states_numbers(claim)

    def resembles(self, words: str) -> bool:
        """Return True if the passage holds nearly all of these words."""
        enough = len(self._extract_terms(words)) >= MIN_TERMS_FOR_HIGH_SHARE
        return enough and self.supports(words, share=HIGH_SHARE)

    def states_numbers(self, claim: str) -> bool:
        """Return True if the passage states all numbers of a claim.

        A number of the question may be missing, as in `not 999 but 142`, if the passage states another one. So may a
        small number, if the passage has small numbers in words alone.
        """
        stated = read_numbers(_LIST_NUMBER.sub("", claim))
        missing = {number for number in stated if not self._states(number)}
        if not missing:
            return True
        return missing < stated and missing <= read_numbers(self._question)

    def _states(self, number: str) -> bool:
        if number in self._numbers or significant_digits(number) in self._scaled:
            return True
        if "." in number:
            return significant_digits(number) in self._digits
        return not self._has_small_numbers and _is_small(number)

    @cached_property
    def _terms(self) -> frozenset[int]:
        return frozenset[int]().union(*(self._extract_terms(self._text[a:b]) for a, b in quotable_spans(self._text)))

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return read_numbers(f"{self._text} {self._place}")

    @cached_property
    def _digits(self) -> frozenset[str]:
        return frozenset(map(significant_digits, self._numbers))

    @cached_property
    def _scaled(self) -> frozenset[str]:
        """The significant digits of the numbers with a separator, which 1.5 million and 1,500,000 share."""
        return frozenset(significant_digits(number) for number in self._numbers if "." in number)

    @cached_property
    def _has_small_numbers(self) -> bool:
        return any(map(_is_small, read_numbers(self._text)))


def read_numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text; a separator of decimals or thousands is a point, each part of a date a number."""
    numbers: list[str] = []
    for found in _NUMBER.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)):
        parts = _SEPARATOR.split(found)
        is_separated = len(parts) > 1 and _SEPARATED_NUMBER.fullmatch(found)
        numbers += [".".join(parts)] if is_separated else [part.lstrip("0") or "0" for part in parts]
    return frozenset(numbers)


def significant_digits(number: str) -> str:
    return number.replace(".", "").strip("0")


def _is_small(number: str) -> bool:
    return len(number) <= len(str(_LAST_SMALL_NUMBER)) and "." not in number and int(number) <= _LAST_SMALL_NUMBER
