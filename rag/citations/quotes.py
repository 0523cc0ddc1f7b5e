"""Quotes: the sentences of a text that say what is wanted, exactly as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans

MAX_QUOTE_CHARS = 400
MAX_QUOTE_SENTENCES = 3
# A sentence more must bring more than this many of the wanted terms to be worth its length.
COST_OF_A_SENTENCE = 0.9
# What a term that is only also wanted counts, beside one that is wanted.
ALSO = 0.25
_LINE_END = re.compile(r"\s*\r?\n\s*")
_WORD_END = re.compile(r"\s+")


class Quote(NamedTuple):
    """A part of a text, from `start` to `end`, which holds `held` of the wanted terms."""

    start: int
    end: int
    held: int


def best_quote(text: str, wanted: frozenset[int], terms: TermExtractor, *, also: frozenset[int] = frozenset()) -> Quote:
    """Return the run of sentences of `text` that holds most of the `wanted` terms, and then of those `also` wanted.

    It is at most MAX_QUOTE_CHARS long; a sentence that is longer, such as a table, is quoted in part.
    """
    spans = list(pieces(text))
    found = [terms(text[start:end]) for start, end in spans]
    best, best_score = Quote(*(spans[0] if spans else (0, 0)), 0), float("-inf")
    for first in range(len(spans)):
        held: frozenset[int] = frozenset()
        for last in range(first, min(first + MAX_QUOTE_SENTENCES, len(spans))):
            start, end = spans[first][0], spans[last][1]
            if last > first and end - start > MAX_QUOTE_CHARS:
                break
            held |= found[last]
            right = len(held & wanted)
            score = right + ALSO * len(held & also) - COST_OF_A_SENTENCE * (last - first)
            if score > best_score:
                best, best_score = Quote(start, end, right), score
    return best


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each sentence stands, and for one too long to be quoted each part of it."""
    for start, end in sentence_spans(text):
        if end - start <= MAX_QUOTE_CHARS:
            yield start, end
            continue
        for a, b in _split(text, start, end, _LINE_END):
            if b - a <= MAX_QUOTE_CHARS:
                yield a, b
            else:
                yield from _grouped(_split(text, a, b, _WORD_END))


def _split(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    for found in gap.finditer(text, start, end):
        if found.start() > start:
            yield start, found.start()
        start = found.end()
    if start < end:
        yield start, end


def _grouped(words: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join words to spans of at most a quote's length; of a word longer than that only its beginning is kept."""
    begin = upto = None
    for start, word_end in words:
        end = min(word_end, start + MAX_QUOTE_CHARS)
        if begin is None or upto is None:
            begin, upto = start, end
        elif end - begin <= MAX_QUOTE_CHARS:
            upto = end
        else:
            yield begin, upto
            begin, upto = start, end
    if begin is not None and upto is not None:
        yield begin, upto
