"""Text cut into spans of a bounded size."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag.text.normalize import estimate_tokens

_WORD_GAP = re.compile(r"\s+")


def bounded_spans(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield `start` to `end` in spans of at most `limit` tokens, cut at line breaks or between words if possible."""
    while True:
        low, high = _search_range(text, start, end, limit)
        if low == end:
            break
        while low < high:  # binary search for the longest span within the limit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if estimate_tokens(text[start:middle]) <= limit else (low, middle - 1)
        gaps = [gap.end() for gap in _WORD_GAP.finditer(text, start + (low - start) // 2, low)]
        line_breaks = [at for at in gaps if "\n" in text[at - 2 : at]]
        cut = (line_breaks or gaps or [low])[-1]
        yield start, cut
        start = cut
    if text[start:end].strip():
        yield start, end


def _search_range(text: str, start: int, end: int, limit: int) -> tuple[int, int]:
    """Return two offsets between which the text from `start` exceeds `limit` tokens; twice `end` if it never does.

    The distance from the start doubles, so that a page of a million characters is not counted again for each cut.
    """
    low, size = start + 1, limit
    while low < end:
        high = min(end, start + size)
        if estimate_tokens(text[start:high]) > limit:
            return low, high
        low, size = high, size * 2
    return end, end
