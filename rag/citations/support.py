"""Whether a passage supports a claim, as far as letters and figures tell: a rule against wrong sources."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

from rag.citations.quotes import quotable_spans
from rag.search.relevance import TermExtractor
from rag.text.language import stop_words
from rag.text.normalize import split_unspaced

# A claim is compared with a passage by its runs of four characters, so that inflections and compounds count in part.
RUN_CHARS = 4
# The passage of a claim is at least this close to it, compared with the closest other passage,
LEAST_OF_BEST = 0.65
# and closer than by chance: this times the root of the claim's length, less where other passages show what chance is.
CHANCE = 0.022
QUESTION_WEIGHT = 0.15  # of a passage's closeness to the question, beside that to the claim
# The inflections of a word, and the compounds with it, mostly have this many letters in common.
BEGINNING_CHARS = 4
# A claim that repeats this share of the words of a question, its first word too, leaves it open: "how heavy it is".
REPEATED_SHARE = 0.7
# A claim that only says what the question says, such as "Yes, the lamp is waterproof", answers it at this share.
ANSWER_SHARE = 2 / 3
QUOTED_SHARE = 0.5  # of the terms of a claim with quotation marks, at least
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
        """Return the share of the claim's terms that the passage holds."""
        terms = self._extract_terms(claim)
        if missing := terms - self._terms:  # a number may be written in another way
            missing = self._extract_terms(_NUMBER.sub(" ", claim)) - self._terms
        return 1 - len(missing) / len(terms) if terms else 0.0

    def supports(self, claim: str, others: Sequence[Evidence] = ()) -> bool:
        """Return True if the passage states all numbers of a claim and, compared with the others, is close to it."""
        is_quoted = _QUOTATION_MARK.search(claim) is not None  # no reader takes that for a paraphrase
        if not self.states_numbers(claim) or (is_quoted and self.share(claim) < QUOTED_SHARE):
            return False
        if _has_short_words_alone(claim) and self.share(claim) == 1:
            return True
        chance = CHANCE * math.sqrt(len(claim)) / (1 + len(others) / 2)
        above_chance = self._overlap(claim) - chance
        if above_chance <= 0 or not (others or self._has_content_word(claim)):  # function words alone prove nothing
            return False
        closeness = above_chance + QUESTION_WEIGHT * self._relevance
        return all(closeness >= LEAST_OF_BEST * other.closeness(claim) for other in others)

    def closeness(self, claim: str) -> float:
        """Return how close the passage is to a claim, and a little to the question: 0 to 1 + QUESTION_WEIGHT."""
        return self._overlap(claim) + QUESTION_WEIGHT * self._relevance

    @cached_property
    def _relevance(self) -> float:
        return self._overlap(self._question)

    def _overlap(self, text: str) -> float:
        """Return the share of a text's runs of characters that the passage holds."""
        runs = runs_of(text)
        return len(runs & self._runs) / len(runs) if runs else 0.0

    def adds(self, claim: str) -> bool:
        """Return False if a claim leaves the question open, as a refusal does.

        A claim that repeats most of the question must add a number. A claim that repeats some of it must have another
        content word, which the passage holds. A claim that shares no word with the question always adds something.
        """
        asked, claimed = _words(self._question).split(), frozenset(_words(claim).split())
        repeated = claimed.intersection(asked)
        if repeated and asked[0] in repeated and len(repeated) >= REPEATED_SHARE * len(set(asked)):
            return bool(read_numbers(claim) - read_numbers(self._question))
        return not repeated or self._has_content_word(claim, beside=asked)

    def _has_content_word(self, claim: str, *, beside: Iterable[str] = ()) -> bool:
        words = frozenset(_words(claim).split()) - stop_words(claim)
        return any(beginning in self._words for beginning in _beginnings(words) - _beginnings(beside))

    def resembles(self, words: str) -> bool:
        """Return True if the passage holds nearly all of these words, and all their numbers."""
        enough = len(self._extract_terms(words)) >= MIN_TERMS_FOR_NEARNESS
        return enough and self.share(words) >= NEAR_SHARE and self.states_numbers(words)

    def states_numbers(self, claim: str, *, near: tuple[int, int] | None = None) -> bool:
        """Return True if the passage states all numbers of a claim. `near` is where they stand, most likely.

        A number of the question may be missing, as in `not 999 but 142`, if the passage states another one. So may a
        small number, if the passage has small numbers in words alone.
        """
        stated = read_numbers(_LIST_NUMBER.sub("", claim))
        if near is not None and stated <= read_numbers(_with_whole_numbers(self._text, *near)):
            return True
        missing = {number for number in stated if not self._states(number)}
        return not missing or (missing < stated and missing <= read_numbers(self._question))

    def _states(self, number: str) -> bool:
        if number in self._numbers or significant_digits(number) in self._scaled:
            return True
        if "." in number:
            return significant_digits(number) in self._digits
        return not self._has_small_numbers and _is_small(number)

    @cached_property
    def _words(self) -> str:
        return _words(self._text)

    @cached_property
    def _runs(self) -> frozenset[str]:
        return _split_runs(self._words)

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
def runs_of(text: str) -> frozenset[str]:
    """Return the runs of RUN_CHARS characters of a text's words."""
    return _split_runs(_words(text))


def _split_runs(words: str) -> frozenset[str]:
    return frozenset(words[at : at + RUN_CHARS] for at in range(len(words) - RUN_CHARS + 1))


@lru_cache(maxsize=256)
def _words(text: str) -> str:
    """Return the words of a text in lower case, each between two spaces; of unspaced scripts pairs of characters."""
    return f" {' '.join(_WORD.findall(split_unspaced(unicodedata.normalize('NFKC', text)).lower()))} "


def _has_short_words_alone(text: str) -> bool:
    """Return True for "B" or "1,250": letters and numbers by themselves, whose runs say little."""
    return all(len(word) == 1 or word.isdecimal() for word in _words(text).split())


def _beginnings(words: Iterable[str]) -> set[str]:
    return {word[:BEGINNING_CHARS] if len(word) >= BEGINNING_CHARS else f" {word} " for word in words}


def read_numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text; a separator of decimals or thousands is a point, each part of a date a number."""
    numbers: list[str] = []
    for found in _NUMBER.findall(unicodedata.normalize("NFKC", text)):
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
