"""The words of a PDF page with their places, on lines as a reader sees them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from ctypes import PYFUNCTYPE, addressof, c_double, c_float, c_int, c_void_p, cast
from dataclasses import dataclass
from typing import Any, Final

import pypdfium2.raw as pdfium

MAX_WORDS: Final = 6_000
# Dots that lead from a label to its figure.
_LEADER = r"(?:[.…·_]\s?){4,}|…+"
_WORD = re.compile(rf"{_LEADER}|(?:(?!(?:[.…·_]){{4,}})\S)+")
_IS_LEADER = re.compile(rf"(?:{_LEADER})$|\.{{1,3}}$")
_SAMPLE = 12
_RIGHT_ANGLE = math.pi / 2
# Words whose baselines differ by less than this share of the width of two letters stand on one line.
_SAME_LINE = 0.8
# Upright words whose ends differ more in height are set upwards, such as the heads of narrow columns.
_MAX_RISE = 1.5


def _direct(function: Any, *arguments: Any) -> Any:
    """Return a function of pdfium that is called three times as fast, because its arguments are not converted."""
    return PYFUNCTYPE(c_int, *arguments)(cast(function, c_void_p).value or 0)


_char_box = _direct(pdfium.FPDFText_GetCharBox, c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p)
_char_origin = _direct(pdfium.FPDFText_GetCharOrigin, c_void_p, c_int, c_void_p, c_void_p)
_char_index = _direct(pdfium.FPDFText_GetCharIndexFromTextIndex, c_void_p, c_int)
_char_angle = PYFUNCTYPE(c_float, c_void_p, c_int)(cast(pdfium.FPDFText_GetCharAngle, c_void_p).value or 0)


@dataclass(frozen=True, slots=True)
class Word:
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
    handle = cast(text_page.raw, c_void_p).value
    found = list(_WORD.finditer(raw_text))
    if len(found) > MAX_WORDS:
        return []
    exact = text_page.count_chars() == len(raw_text)

    def at(offset: int) -> int:
        return offset if exact else int(_char_index(handle, offset))

    turn = _turn(handle, [at(match.start()) for match in found[:: max(1, len(found) // _SAMPLE)]])
    numbers = (c_double * 4)()
    left, right, bottom, top = (addressof(numbers) + 8 * n for n in range(4))
    words = []
    for match in found:
        first, last = at(match.start()), at(match.end() - 1)
        if first < 0 or last < 0 or not _char_box(handle, first, left, right, bottom, top):
            continue
        begin = _turned(numbers[0], numbers[1], numbers[2], numbers[3], turn)
        _char_box(handle, last, left, right, bottom, top)
        end = _turned(numbers[0], numbers[1], numbers[2], numbers[3], turn)
        _char_origin(handle, first, left, right)
        base = (numbers[1], -numbers[0], -numbers[1], numbers[0])[turn]
        size = max(begin[3] - begin[2], end[3] - end[2], 1.0)
        if abs(end[2] - begin[2]) > _MAX_RISE * size or end[1] < begin[0]:
            continue
        leader = bool(_IS_LEADER.match(match[0]))
        words.append(Word(match.start(), match.end(), match[0], begin[0], end[1], base, leader))
    return words


def letter_width(words: Sequence[Word]) -> float:
    """Return the usual width of a letter, in points: about half the size of the font."""
    return statistics.median((word.right - word.left) / len(word.text) for word in words) if words else 1.0


def lines_of(words: Sequence[Word], width: float) -> list[WordLine]:
    """Group words to lines, from the top of the page to its bottom. `width` is the usual width of a letter."""
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda one: -one.base):
        if rows and rows[-1][0].base - word.base < _SAME_LINE * width:
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


def _turned(left: float, right: float, bottom: float, top: float, turn: int) -> tuple[float, float, float, float]:
    """Return a box as its reader sees it: left, right, bottom, top."""
    if turn == 0:
        return left, right, bottom, top
    if turn == 1:
        return bottom, top, -right, -left
    if turn == 2:  # noqa: PLR2004
        return -right, -left, -top, -bottom
    return -top, -bottom, left, right
