"""Quotes that are exactly what the page says, and the `[n]` marks that point to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from schemas import Passage, Source

Terms = Callable[[str], frozenset[int]]

MAX_QUOTE_CHARS = 400
MAX_QUOTE_SENTENCES = 3
# A sentence more must bring more than this many of the wanted terms to be worth its length.
COST_OF_A_SENTENCE = 0.9
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[A-Z0-9\"'“(•])|\n\s*\n|\n(?=\s*[•*–-]\s)")
_MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


def best_quote(text: str, wanted: frozenset[int], terms: Terms) -> tuple[str, int]:
    """Return the run of sentences of `text` that holds most of the `wanted` terms, and how many it holds.

    The quote is a substring of `text`, at most MAX_QUOTE_CHARS long.
    """
    spans = list(_sentences(text))
    found = [terms(text[start:end]) & wanted for start, end in spans]
    best, best_score, best_held = spans[0], float("-inf"), 0
    for first in range(len(spans)):
        held: frozenset[int] = frozenset()
        for last in range(first, min(first + MAX_QUOTE_SENTENCES, len(spans))):
            start, end = spans[first][0], spans[last][1]
            if last > first and end - start > MAX_QUOTE_CHARS:
                break
            held |= found[last]
            score = len(held) - COST_OF_A_SENTENCE * (last - first)
            if score > best_score:
                best, best_score, best_held = (start, end), score, len(held)
    return _shortened(text[best[0] : best[1]]), best_held


def cited_sources(answer: str, passages: list[Passage], question: str, terms: Terms) -> tuple[str, tuple[Source, ...]]:
    """Return the answer without marks that name no passage, and a source for each passage it cites, in order.

    An answer without any mark gets every passage whose words it shares as a source: small models often forget to
    cite, and these are what it was given to stand on.
    """
    claims: dict[int, frozenset[int]] = {}
    for mark in _MARK.finditer(answer):
        claim = terms(_sentence_around(answer, mark.start()))
        for n in _numbers(mark):
            if 1 <= n <= len(passages):
                claims[n] = claims.get(n, frozenset()) | claim
    text = _MARK.sub(lambda mark: _valid_mark(mark, len(passages)), answer).strip()
    wanted_by_default = terms(answer) | terms(question)
    if not claims:
        claims = dict.fromkeys(range(1, len(passages) + 1), wanted_by_default)
    sources = []
    for n, wanted in sorted(claims.items()):
        passage = passages[n - 1]
        quote, held = best_quote(passage.chunk.text, wanted or wanted_by_default, terms)
        if held or wanted is not wanted_by_default:
            sources.append(source(n, passage, quote))
    return text, tuple(sources)


def source(n: int, passage: Passage, quote: str) -> Source:
    """Build a source, checking that its quote is what the page says."""
    chunk = passage.chunk
    if quote not in chunk.text:
        raise ValueError("a quote must be an exact part of its page")
    return Source(
        n=n,
        upload_id=chunk.upload_id,
        name=chunk.name,
        page=chunk.page,
        page_label=chunk.page_label,
        quote=quote,
        score=round(passage.score, 4),
    )


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence of a text, without surrounding white space; at least one."""
    start = 0
    ends = [match.span() for match in _SENTENCE_END.finditer(text)]
    for end, next_start in [*ends, (len(text), len(text))]:
        stripped = text[start:end].strip()
        if stripped:
            begin = text.index(stripped, start)
            yield begin, begin + len(stripped)
        start = next_start
    if not text.strip():
        yield 0, len(text)


def _shortened(quote: str) -> str:
    if len(quote) <= MAX_QUOTE_CHARS:
        return quote
    return quote[:MAX_QUOTE_CHARS].rsplit(maxsplit=1)[0].rstrip()


def _sentence_around(text: str, position: int) -> str:
    """Return the sentence a mark belongs to: the one that ends at, or holds, `position`."""
    for start, end in _sentences(text):
        if end >= position:
            return text[start:end]
    return text


def _numbers(mark: re.Match[str]) -> list[int]:
    return [int(n) for n in mark[1].split(",")]


def _valid_mark(mark: re.Match[str], count: int) -> str:
    numbers = [n for n in _numbers(mark) if 1 <= n <= count]
    space = " " if mark[0].startswith((" ", "\n")) else ""
    return f"{space}[{', '.join(map(str, numbers))}]" if numbers else ""
