"""The words of a PDF page with their places, on lines as a reader sees them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from ctypes import c_float, c_int
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pypdfium2.raw as pdfium

from rag.ingest.formats.pdf_calls import direct, numbers

MAX_WORDS: Final = 6_000
# Dots that lead from a label to its figure.
_LEADER = r"(?:[.…·_]\s?){4,}|…+"
# A divided word is two, on two lines.
_SIGN = r"[^\s\x02\ufffe\ufdd0]"
_WORD = re.compile(rf"{_LEADER}|(?:(?!(?:[.…·_]){{4,}}){_SIGN})+")
# The same for a text without leaders, in a third of the time.
_PLAIN_WORD = re.compile(f"{_SIGN}+")
_HAS_LEADER = re.compile(r"…|(?:[.·_]\s?){4}")
_LEADERS = frozenset(".…·_")
_IS_LEADER = re.compile(rf"(?:{_LEADER})$|\.{{1,3}}$")
_SAMPLE = 12
_RIGHT_ANGLE = math.pi / 2
# Words whose baselines differ by less than this share of the width of two letters stand on one line.
_SAME_LINE = 0.8
# Or within twice of that, if each is no further below the next, such as below a raised mark.
_NEXT = 0.45
# Upright words whose ends differ more in height are set upwards, such as the heads of narrow columns.
_MAX_RISE = 1.5


_char_box, _char_origin, _char_index = (
    direct(function, c_int)
    for function in (
        pdfium.FPDFText_GetCharBox,
        pdfium.FPDFText_GetCharOrigin,
        pdfium.FPDFText_GetCharIndexFromTextIndex,
    )
)
_char_angle = direct(pdfium.FPDFText_GetCharAngle, c_float)


class Word(NamedTuple):
    """A word: the page's raw text from `start` to `end`; its edges, and the height of its baseline, in points."""

    start: int
    end: int
    text: str
    left: float
    right: float
    base: float
    leader: bool = False


@dataclass(frozen=True, slots=True)
class WordLine:
    """Words on one baseline, from left to right. `base` is its height."""

    words: tuple[Word, ...]
    base: float

    @property
    def left(self) -> float:
        """The left edge of the first word."""
        return self.words[0].left

    @property
    def right(self) -> float:
        """The right edge of the last word."""
        return self.words[-1].right


def page_words(text_page: Any, raw_text: str) -> list[Word]:
    """Return the words of an open text page, of which `raw_text` is the whole text as pdfium gives it.

    A page of text that is turned by 90 degrees is turned back. [] for a page of too many words.
    """
    handle = text_page.raw
    found = list((_WORD if _HAS_LEADER.search(raw_text) else _PLAIN_WORD).finditer(raw_text))
    if len(found) > MAX_WORDS:
        return []
    exact = text_page.count_chars() == len(raw_text)

    def at(offset: int) -> int:
        return offset if exact else int(_char_index(handle, offset))

    turn = _turn(handle, [at(match.start()) for match in found[:: max(1, len(found) // _SAMPLE)]])
    box, edges = numbers("d", 4)
    point, ends = numbers("d", 2)
    char_box, char_origin, words = _char_box, _char_origin, []
    for match in found:
        start, end = match.span()
        first, last = (start, end - 1) if exact else (at(start), at(end - 1))
        if first < 0 or last < 0 or not char_box(handle, first, *edges):
            continue
        left, right, bottom, top = _turned(box, turn) if turn else box
        if last > first:
            char_box(handle, last, *edges)
            size = top - bottom
            _, right, low, high = _turned(box, turn) if turn else box
            if abs(low - bottom) > _MAX_RISE * max(size, high - low, 1.0):
                continue
        if right < left:
            continue
        char_origin(handle, first, *ends)
        base = (point[1], -point[0], -point[1], point[0])[turn] if turn else point[1]
        text = match[0]
        words.append(Word(start, end, text, left, right, base, text[0] in _LEADERS and bool(_IS_LEADER.match(text))))
    return words


def letter_width(words: Sequence[Word]) -> float:
    """Return the usual width of a letter, in points: about half the size of the font."""
    return statistics.median((word.right - word.left) / len(word.text) for word in words) if words else 1.0


def lines_of(words: Sequence[Word], width: float) -> list[WordLine]:
    """Group words to lines, from the top of the page to its bottom. `width` is the usual width of a letter."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda one: -one.base):
        if rows and (
            rows[-1][0].base - word.base < _SAME_LINE * width
            or (rows[-1][-1].base - word.base < _NEXT * width and rows[-1][0].base - word.base < 2 * _SAME_LINE * width)
        ):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [
        WordLine(tuple(sorted(row, key=lambda one: one.left)), statistics.median(one.base for one in row))
        for row in rows
    ]


def gaps(line: WordLine) -> Iterator[float]:
    """Yield the width of each gap between two words of a line."""
    for before, after in zip(line.words, line.words[1:], strict=False):
        yield after.left - before.right


def _turn(handle: Any, sample: list[int]) -> int:
    """Return by how many right angles most of the sampled letters are turned against the clock."""
    turns = [-round(_char_angle(handle, index) / _RIGHT_ANGLE) % 4 for index in sample if index >= 0]  # clockwise
    return max(set(turns), key=turns.count) if turns else 0


def _turned(box: Any, turn: int) -> tuple[float, float, float, float]:
    """Return a box as its reader sees it: left, right, bottom, top."""
    left, right, bottom, top = box
    if turn == 1:
        return bottom, top, -right, -left
    return (-right, -left, -top, -bottom) if turn == 2 else (-top, -bottom, left, right)  # noqa: PLR2004
