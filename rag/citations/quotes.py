"""Quotes: the sentences of a text that contain the most terms of a claim or question, exactly as the text has them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans

MAX_QUOTE_CHARS = 400
MAX_QUOTE_SENTENCES = 3
# A further sentence must add more than this many target terms to be worth its length.
COST_OF_A_SENTENCE = 0.9
# The weight of a secondary term; a target term counts 1.
SECONDARY_WEIGHT = 0.25
_LINE_END = re.compile(r"\s*\r?\n\s*")
_WORD_END = re.compile(r"\s+")


class Quote(NamedTuple):
    """A part of a text, from `start` to `end`, which contains `matched` of the target terms."""

    start: int
    end: int
    matched: int


def best_quote(
    text: str, target: frozenset[int], terms: TermExtractor, *, secondary: frozenset[int] = frozenset()
) -> Quote:
    """Return the run of sentences of `text` that contains the most `target` terms, then the most `secondary` terms.

    The quote has at most MAX_QUOTE_SENTENCES sentences and MAX_QUOTE_CHARS characters. A longer sentence, such as a
    table, is quoted in part.
    """
    spans = quotable_spans(text)
    terms_of = [terms(text[start:end]) for start, end in spans]
    wanted = [of & target for of in terms_of]
    also = [of & secondary for of in terms_of]
    best, best_score = Quote(*(spans[0] if spans else (0, 0)), 0), float("-inf")
    for first in range(len(spans)):
        covered, covered_also = wanted[first], also[first]
        for last in range(first, min(first + MAX_QUOTE_SENTENCES, len(spans))):
            start, end = spans[first][0], spans[last][1]
            if last > first:
                if end - start > MAX_QUOTE_CHARS:
                    break
                covered, covered_also = covered | wanted[last], covered_also | also[last]
            score = len(covered) + SECONDARY_WEIGHT * len(covered_also) - COST_OF_A_SENTENCE * (last - first)
            if score > best_score:
                best, best_score = Quote(start, end, len(covered)), score
    return best


def join_sentences(text: str, spans: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the span of the sentences around most of the given spans; at least the first of them.

    A span that is cut out of a longer sentence is returned as it is.
    """
    sentences = quotable_spans(text)
    starts = [start for start, _ in sentences]
    whole = set()
    for start, end in spans:
        first = sentences[max(0, bisect_right(starts, start) - 1)][0]
        last = max(end, sentences[max(0, bisect_right(starts, end - 1) - 1)][1])
        whole.add((first, last) if last - first <= MAX_QUOTE_CHARS else (start, end))
    best: list[tuple[int, int]] = []
    for first, _ in sorted(whole):
        inside = [span for span in whole if span[0] >= first and span[1] - first <= MAX_QUOTE_CHARS]
        best = max(best, inside, key=len)
    return min(best)[0], max(end for _, end in best)


# A check reads each passage of an answer at least three times. 64 passages take 0.3 MB.
@lru_cache(maxsize=64)
def quotable_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Return the span of each sentence; a sentence longer than a quote is split at line ends, then between words."""
    return tuple(_quotable_spans(text))


def _quotable_spans(text: str) -> Iterator[tuple[int, int]]:
    for start, end in sentence_spans(text):
        if end - start <= MAX_QUOTE_CHARS:
            yield start, end
            continue
        for line_start, line_end in _split(text, start, end, _LINE_END):
            if line_end - line_start <= MAX_QUOTE_CHARS:
                yield line_start, line_end
            else:
                yield from _join_words(_split(text, line_start, line_end, _WORD_END))


def _split(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    for match in gap.finditer(text, start, end):
        if match.start() > start:
            yield start, match.start()
        start = match.end()
    if start < end:
        yield start, end


def _join_words(words: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join words to spans of at most MAX_QUOTE_CHARS; a longer word is cut."""
    span_start = span_end = None
    for start, word_end in words:
        end = min(word_end, start + MAX_QUOTE_CHARS)
        if span_start is None or span_end is None:
            span_start, span_end = start, end
        elif end - span_start <= MAX_QUOTE_CHARS:
            span_end = end
        else:
            yield span_start, span_end
            span_start, span_end = start, end
    if span_start is not None and span_end is not None:
        yield span_start, span_end
