"""Whether a passage supports a claim, as far as words and figures tell: a rule against wrong sources."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property, lru_cache

from rag.citations.quotes import quotable_spans
from rag.search.relevance import TermExtractor
from rag.text.language import stop_words
from rag.text.normalize import normalize

# A passage supports a claim if it holds at least this share of the claim's terms, and all its numbers.
MIN_SHARE = 0.5
# A paraphrase is supported if the passage holds at least this share of the beginnings of its content words, and all its
# numbers. Of 24 heavy paraphrases 15 reach it, of 53 claims cited to another document 5 (bench/answers/claims.txt).
MIN_PARAPHRASE_SHARE = 0.2
# The inflections of a word, and the compounds with it, mostly have this many letters in common.
BEGINNING_CHARS = 4
# A claim that only says what the question says, such as "Yes, the lamp is waterproof", answers it at this share.
ANSWER_SHARE = 2 / 3
# The share for a sentence that cites nothing, and for a quotation that the passage does not hold exactly.
NEAR_SHARE = 0.8
MIN_TERMS_FOR_NEARNESS = 3
# Numbers up to this one are often written as words.
_LAST_SMALL_NUMBER = 12
_NUMBER = re.compile(r"\d{1,3}(?: \d{3})+(?![\d.,'’]*\d)|\d+(?:[.,'’]\d+)*")
_SEPARATED_NUMBER = re.compile(r"\d+(?:[.,'’ ]\d{3})*(?:[.,]\d+)?")
_IN_NUMBERS = frozenset("0123456789.,' ")
_SEPARATOR = re.compile(r"[.,'’ ]")
_WORD = re.compile(r"[^\W_]+")
_QUOTATION_MARK = re.compile(r"[\"“”„«»「『]")
_LIST_NUMBER = re.compile(r"\A\s*\d{1,3}[.)]\s")


class Evidence:
    """The terms and numbers of a passage."""

    def __init__(self, text: str, terms: TermExtractor, *, place: str = "", question: str = "") -> None:
        """`place`, such as name and page, holds numbers that a claim may state too, and so does `question`."""
        self._text = text
        self._place = place
        self._question = question
        self._extract_terms = terms

    def share(self, claim: str) -> float:
        """Return the share of the claim's terms that the passage holds; 0 if it lacks a number of the claim."""
        terms = self._extract_terms(claim)
        if not terms or not self.states_numbers(claim):
            return 0.0
        if missing := terms - self._terms:  # a number may be written in another way
            missing = self._extract_terms(_NUMBER.sub(" ", claim)) - self._terms
        return 1 - len(missing) / len(terms)

    def paraphrase_share(self, claim: str) -> float:
        """Return the share of the claim's content words whose beginnings the passage holds.

        It is 0 if the passage lacks a number of the claim, and for a claim with quotation marks: no reader takes that
        for a paraphrase.
        """
        words = word_beginnings(claim)
        if not words or _QUOTATION_MARK.search(claim) or not self.states_numbers(claim):
            return 0.0
        return sum(map(self._has_beginning, words)) / len(words)

    def adds(self, claim: str) -> bool:
        """Return True if the passage holds a content word or a number of a claim that the question does not hold.

        A refusal repeats the question, and what it says of the sources does not stand in them.
        """
        return any(map(self._has_beginning, word_beginnings(claim) - word_beginnings(self._question)))

    def resembles(self, words: str) -> bool:
        """Return True if the passage holds nearly all of these words."""
        return len(self._extract_terms(words)) >= MIN_TERMS_FOR_NEARNESS and self.share(words) >= NEAR_SHARE

    def states_numbers(self, claim: str, *, near: tuple[int, int] | None = None) -> bool:
        """Return True if the passage states all numbers of a claim. `near` is where they stand, most likely.

        A number of the question may be missing, as in `not 999 but 142`, if the passage states another one. So may a
        small number, if the passage has small numbers in words alone.
        """
        stated = read_numbers(_LIST_NUMBER.sub("", claim))
        if near is not None and stated <= read_numbers(_with_whole_numbers(self._text, *near)):
            return True
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

    def _has_beginning(self, beginning: str) -> bool:
        return f" {beginning}" in self._words or (len(beginning) == BEGINNING_CHARS and beginning in self._words)

    @cached_property
    def _words(self) -> str:
        """The words of the passage in lower case, each between two spaces."""
        return f" {' '.join(_WORD.findall(normalize(self._text).lower()))} "

    @cached_property
    def _terms(self) -> frozenset[int]:
        return frozenset[int]().union(*(self._extract_terms(self._text[a:b]) for a, b in quotable_spans(self._text)))

    @cached_property
    def _numbers_of_text(self) -> frozenset[str]:
        return read_numbers(self._text)

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return self._numbers_of_text | read_numbers(self._place)

    @cached_property
    def _digits(self) -> frozenset[str]:
        return frozenset(map(significant_digits, self._numbers))

    @cached_property
    def _scaled(self) -> frozenset[str]:
        """The significant digits of the numbers with a separator, which 1.5 million and 1,500,000 share."""
        return frozenset(significant_digits(number) for number in self._numbers if "." in number)

    @cached_property
    def _has_small_numbers(self) -> bool:
        return any(map(_is_small, self._numbers_of_text))


@lru_cache(maxsize=256)
def word_beginnings(text: str) -> frozenset[str]:
    """Return the beginnings of a text's content words, in lower case; a word of fewer letters ends with a space."""
    stops = stop_words(text)
    words = [word for word in _WORD.findall(text.lower()) if word not in stops]
    return frozenset(word[:BEGINNING_CHARS] if len(word) >= BEGINNING_CHARS else f"{word} " for word in words)


def read_numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text; a separator of decimals or thousands is a point, each part of a date a number."""
    numbers: list[str] = []
    for found in _NUMBER.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)):
        parts = _SEPARATOR.split(found)
        is_separated = len(parts) > 1 and _SEPARATED_NUMBER.fullmatch(found)
        numbers += [".".join(parts)] if is_separated else [part.lstrip("0") or "0" for part in parts]
    return frozenset(numbers)


def _with_whole_numbers(text: str, start: int, end: int) -> str:
    """Return a part of a text, with the numbers that it cuts."""
    while start > 0 and _may_be_in_number(text[start - 1]):
        start -= 1
    while end < len(text) and _may_be_in_number(text[end]):
        end += 1
    return text[start:end]


def _may_be_in_number(char: str) -> bool:
    return char in _IN_NUMBERS if char.isascii() else not char.isalpha()  # such as ², ½ and spaces of many kinds


def significant_digits(number: str) -> str:
    return number.replace(".", "").strip("0")


def _is_small(number: str) -> bool:
    return len(number) <= len(str(_LAST_SMALL_NUMBER)) and "." not in number and int(number) <= _LAST_SMALL_NUMBER
