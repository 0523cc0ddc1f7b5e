"""Where a quotation stands in a text, whatever the typesetting of either."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

from rag.citations.quotes import MAX_QUOTE_CHARS

# A run of letters and digits. The separator of a decimal or of thousands belongs to its number.
_RUN = re.compile(r"[^\W_]+(?:(?<=\d)[.,](?=\d)[^\W_]+)*")
# What stands around the first and the last run.
_AROUND = re.compile(r"\A[\W_]+|[\W_]+\Z")
# A place within a run.
_INSIDE_WORD = re.compile(r"(?<=[^\W_])[^\W_]|(?<=\d)[.,](?=\d)|(?<=\d[.,])\d")
_ELLIPSIS = re.compile(r"\[?(?:\.{3}|…)\]?")


class _Letters(NamedTuple):
    """The letters and digits of a text, folded. Run `i` begins at `offsets[i]` in `text`, at `spans[i]` in the text."""

    text: str
    offsets: list[int]
    spans: list[tuple[int, int]]


def locate_quotation(words: str, text: str) -> tuple[int, int] | None:
    """Return the span of a quotation in a text; None if the text does not contain the quotation.

    Compared are letters and digits alone, so line breaks, hyphens, ligatures, quotes and capitals make no difference.
    Of a quotation with ellipses, all parts must follow each other; the span is that of the first part if the whole is
    too long for a quote.
    """
    if (verbatim := _locate_verbatim(words, text)) is not None:
        return verbatim
    letters = _letters(text)
    spans = []
    at = 0
    for part in _ELLIPSIS.split(words):
        wanted = "".join(map(_fold, _RUN.findall(part)))
        found = letters.text.find(wanted, at)
        if found < 0:
            return None
        if wanted:
            at = found + len(wanted)
            spans.append((_raw_start(letters, found), _raw_end(letters, at)))
    if not spans:
        return None
    start, end = spans[0][0], spans[-1][1]
    return (start, end) if end - start <= MAX_QUOTE_CHARS else spans[0]


def _locate_verbatim(words: str, text: str) -> tuple[int, int] | None:
    """Return the span of whole words that the text has character for character: the cheap and usual case."""
    words = _AROUND.sub("", words)
    start = text.find(words) if words else -1
    end = start + len(words)
    if start < 0 or _INSIDE_WORD.match(text, start) or _INSIDE_WORD.match(text, end):
        return None
    return start, end


# Each passage of an answer is searched for several quotations. 64 passages take about 2 MB.
@lru_cache(maxsize=64)
def _letters(text: str) -> _Letters:
    runs = list(_RUN.finditer(text))
    folded = [_fold(run[0]) for run in runs]
    offsets = [0]
    for run in folded:
        offsets.append(offsets[-1] + len(run))
    return _Letters("".join(folded), offsets, [run.span() for run in runs])


def _fold(run: str) -> str:
    if run.isascii():
        return run.lower()
    return "".join(char for char in unicodedata.normalize("NFKD", run.casefold()) if char.isalnum())


def _raw_start(letters: _Letters, offset: int) -> int:
    run = bisect_right(letters.offsets, offset) - 1
    start, end = letters.spans[run]
    return min(start + offset - letters.offsets[run], end - 1)


def _raw_end(letters: _Letters, offset: int) -> int:
    run = bisect_right(letters.offsets, offset - 1) - 1
    start, end = letters.spans[run]
    return min(start + offset - letters.offsets[run], end)
