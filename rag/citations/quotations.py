"""The words of a source that a model relies on, as it writes them into a mark: `[1 "weighs 142 grams"]`.

No reader sees them: they are taken out of an answer before the check, and out of its stream.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# A quotation that is not closed within this many characters, or before an empty line, is taken to end there.
MAX_QUOTATION_CHARS = 1_500
_MAX_OPENING_CHARS = 90
_OPENING_BRACKET = r"[\[［【〔]"
_GAP = "[ \u00a0]{0,3}"
_NUMBERS = rf"{_GAP}(?:[^\W\d_]{{1,12}}{_GAP})?[#^]?\d{{1,6}}(?:{_GAP}[,;–-]{_GAP}\d{{1,6}}){{0,3}}"
_QUOTE = rf"{_GAP}:?{_GAP}(?:[\"“„«「『]|\\\")"
_OPENING = re.compile(rf"{_OPENING_BRACKET}(?P<numbers>{_NUMBERS}){_QUOTE}")
# Ends the mark, or begins its next quotation.
_CLOSING = re.compile(
    rf"\\?[\"“”»」』][.,;]?{_GAP}(?:\\?[\]］】〕]|[,;&]?{_GAP}(?P<numbers>{_NUMBERS}){_QUOTE})", re.IGNORECASE
)
_CLOSING_BRACKET = re.compile(r"[\]］】〕]")
_EMPTY_LINE = re.compile(r"\n[ \t]*\r?\n")
_MAY_OPEN = re.compile(rf"{_OPENING_BRACKET}[ \u00a0\w#^,;:–\\-]{{0,{_MAX_OPENING_CHARS}}}\Z")
_NUMBER = re.compile(r"\d+")


class Quotation(NamedTuple):
    """Words quoted from the sources `numbers`. `end` is the end of their mark in the text without quotations."""

    end: int
    numbers: frozenset[int]
    words: str


class _Mark(NamedTuple):
    """The parts of a mark, each numbers and words, and its end. More text would not change a `closed` mark."""

    parts: list[tuple[str, str]]
    end: int
    closed: bool


def split_quotations(text: str) -> tuple[str, list[Quotation]]:
    """Return a text with plain marks such as `[1]`, and the quotations that the marks held."""
    pieces: list[str] = []
    quotations: list[Quotation] = []
    at = end = 0
    while (opening := _OPENING.search(text, at)) is not None:
        mark = _read_mark(text, opening)
        plain_mark = f"[{', '.join(numbers.strip() for numbers, _ in mark.parts)}]"
        pieces += [text[at : opening.start()], plain_mark]
        end += opening.start() - at + len(plain_mark)
        at = mark.end
        quotations += [
            Quotation(end, frozenset(map(int, _NUMBER.findall(numbers))), words) for numbers, words in mark.parts
        ]
    return "".join([*pieces, text[at:]]), quotations


def open_quotation(text: str) -> int:
    """Return the offset from which later text decides what is a quotation; the length of the text if none is open."""
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        mark = _read_mark(text, opening)
        if not mark.closed:
            return opening.start()
        at = mark.end
    beginning = _MAY_OPEN.search(text, max(at, len(text) - _MAX_OPENING_CHARS - 1))
    return len(text) if beginning is None else beginning.start()


def _read_mark(text: str, opening: re.Match[str]) -> _Mark:
    numbers, begin = opening["numbers"], opening.end()
    limit = begin + MAX_QUOTATION_CHARS
    empty_line = _EMPTY_LINE.search(text, begin, limit)
    stop = min(limit, len(text)) if empty_line is None else empty_line.start()
    parts = []
    while (closing := _CLOSING.search(text, begin, stop)) is not None:
        parts.append((numbers, text[begin : closing.start()]))
        numbers, begin = closing["numbers"], closing.end()
        if numbers is None:
            return _Mark(parts, begin, closed=True)
    bracket = _CLOSING_BRACKET.search(text, begin, stop)
    # White space at the end of the text is passed on later, so it does not belong to a mark without a bracket.
    words_end, end = (begin + len(text[begin:stop].rstrip()),) * 2 if bracket is None else bracket.span()
    parts.append((numbers, text[begin:words_end]))
    return _Mark(parts, end, closed=empty_line is not None or len(text) >= limit)
