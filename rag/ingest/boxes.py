"""Where the characters of a page's text stand on its picture.

The text of a page is not exactly what the file gives, character by character: words divided at the end of a line are
joined, control characters are left out, tables may be written in rows. So the text is aligned with the characters of
the file: line by line, and where a line is not found, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rag.text.word_boxes import UNITS, WordBox

# The characters of a page that are placed. The alignment of twice as many takes up to four times as long.
MAX_CHARS = 100_000
# So many places of a line or word are tried that others have taken.
_MAX_TRIES = 50
# What pdfium gives for the hyphen of a word that is divided at the end of a line.
DIVISION_MARKS = ("\x02", "\ufffe")
_WORD = re.compile(r"\S+")
_LINE = re.compile(r"[^\n]+")
# A run ends at a gap of more than this many line heights, as between two columns of a table.
_MAX_GAP = 1.5
# Two boxes are on one line if they share this part of the lower one's height.
_SHARED_HEIGHT = 0.5


class Box(NamedTuple):
    """A rectangle on the picture of a page, in points from the top left corner."""

    left: float
    top: float
    right: float
    bottom: float


class PlacedChar(NamedTuple):
    """A character as the file gives it. `box` is None for one that the reader has added, such as a line end."""

    char: str
    box: Box | None


class Run(NamedTuple):
    """Characters in one line, from `start` in the text of the page. Character i reaches from edges[i] to edges[i + 1].

    Edges fall where the line is written from right to left. Text that is not upright comes in runs of one character.
    """

    start: int
    top: float
    bottom: float
    edges: tuple[float, ...]


def align(text: str, chars: Sequence[PlacedChar]) -> list[Box | None]:
    """Return the box of each character of a text; None for a character that is not among those of the file."""
    placed = [(char.char, char.box) for char in _with_hyphens(chars) if char.box is not None and _bare(char.char)]
    del placed[MAX_CHARS:]
    source = "".join(char for char, _ in placed)
    boxes: list[Box | None] = [None] * len(text)
    free = bytearray(b"\x01") * len(source)
    at = 0
    for start, part in _parts(text, source):
        found = _find(part, source, at, free)
        if found < 0:
            continue
        place = start
        for offset in range(len(part)):
            while not _bare(text[place]):
                place += 1
            boxes[place] = placed[found + offset][1]
            free[found + offset] = 0
            place += 1
        at = found + len(part)
    return boxes


def _with_hyphens(chars: Sequence[PlacedChar]) -> Iterator[PlacedChar]:
    """Yield the characters; the box of the hyphen of a divided word, which the text lacks, becomes part of the last."""
    last: PlacedChar | None = None
    for char in chars:
        if char.char in DIVISION_MARKS and last and last.box and char.box and on_one_line(last.box, char.box):
            last = PlacedChar(last.char, Box(*last.box[:2], char.box.right, last.box.bottom))
        else:
            if last:
                yield last
            last = char
    if last:
        yield last


def _parts(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield the start of each line of the text, and the line as it would stand in the source; else of each word."""
    for line in _LINE.finditer(text):
        bare = _bare(line[0])
        if bare and bare in source:
            yield line.start(), bare
            continue
        for word in _WORD.finditer(line[0]):
            if bare := _bare(word[0]):
                yield line.start() + word.start(), bare


def _bare(text: str) -> str:
    return "".join(char for char in text if not char.isspace() and char.isprintable())


def _find(part: str, source: str, at: int, free: bytearray) -> int:
    """Return the place of a part that no other part has taken, from `at` on or else from the start; -1 without one."""
    for begin, end in ((at, len(source)), (0, at + len(part))):
        place = source.find(part, begin, end)
        for _ in range(_MAX_TRIES):
            if place < 0:
                break
            if free[place] and free[place + len(part) - 1]:
                return place
            place = source.find(part, place + 1, end)
    return -1


def runs(text: str, boxes: Sequence[Box | None]) -> list[Run]:
    """Return the boxes of a text as runs. Spaces within a run belong to it."""
    found: list[Run] = []
    current: list[tuple[int, Box]] = []
    for index, box in enumerate(boxes):
        if box is None:
            continue
        if current and not _continues(text, current, index, box):
            found.append(_run(current))
            current = []
        current.append((index, box))
    return [*found, _run(current)] if current else found


def _continues(text: str, current: list[tuple[int, Box]], index: int, box: Box) -> bool:
    """Return True if the box is the next one of the line that the current boxes form."""
    last_index, last = current[-1]
    if "\n" in text[last_index + 1 : index] or not on_one_line(last, box):
        return False
    if index > last_index + 1 and not text[last_index + 1 : index].isspace():
        return False
    height = max(last.bottom - last.top, box.bottom - box.top)
    step = _middle(box) - _middle(last)
    if len(current) > 1 and step * (_middle(last) - _middle(current[-2][1])) < 0:
        return False
    gap = box.left - last.right if step >= 0 else last.left - box.right
    return -height < gap < _MAX_GAP * height


def _middle(box: Box) -> float:
    return (box.left + box.right) / 2


def on_one_line(one: Box, other: Box) -> bool:
    """Return True if two boxes are beside each other."""
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    return shared >= _SHARED_HEIGHT * min(one.bottom - one.top, other.bottom - other.top)


def _run(current: list[tuple[int, Box]]) -> Run:
    leftward = len(current) > 1 and _middle(current[-1][1]) < _middle(current[0][1])
    edges: list[float] = []
    for number, (index, box) in enumerate(current):
        near, far = (box.right, box.left) if leftward else (box.left, box.right)
        if number and index > current[number - 1][0] + 1:  # spaces before the character
            end_of_last = current[number - 1][1].left if leftward else current[number - 1][1].right
            gap = index - current[number - 1][0] - 1
            edges += [end_of_last + (near - end_of_last) * part / gap for part in range(gap)]
        edges.append(near)
        if number == len(current) - 1:
            edges.append(far)
    top, bottom = min(box.top for _, box in current), max(box.bottom for _, box in current)
    return Run(current[0][0], round(top, 1), round(bottom, 1), tuple(round(edge, 1) for edge in edges))


def word_runs(words: Iterable[WordBox], width: float, height: float) -> Iterator[Run]:
    """Yield words that were read by OCR as runs on a page of this size. Characters share the width of a word evenly."""
    for word in words:
        left, right = word.left * width / UNITS, word.right * width / UNITS
        count = word.end - word.start
        edges = tuple(round(left + (right - left) * at / count, 1) for at in range(count + 1))
        yield Run(word.start, round(word.top * height / UNITS, 1), round(word.bottom * height / UNITS, 1), edges)


def boxes_of(page_runs: Sequence[Run], start: int, end: int) -> list[Box]:
    """Return the boxes of the text from `start` to `end`, one for each line, in reading order."""
    found: list[tuple[Box, bool]] = []
    for run in page_runs:
        first, last = max(start - run.start, 0), min(end - run.start, len(run.edges) - 1)
        if first >= last:
            continue
        left, right = sorted((run.edges[first], run.edges[last]))
        box, single = Box(left, run.top, right, run.bottom), len(run.edges) == len("a") + 1
        before = found[-1] if found else None
        if before and (_touch(before[0], box) or (single and before[1] and _touch(_turned(before[0]), _turned(box)))):
            joined = Box(*map(min, before[0][:2], box[:2]), *map(max, before[0][2:], box[2:]))
            found[-1] = joined, single and before[1]
        else:
            found.append((box, single))
    return [box for box, _ in found]


def _touch(last: Box, box: Box) -> bool:
    """Return True if two boxes are side by side, less than their height apart."""
    gap = max(box.left - last.right, last.left - box.right)
    return on_one_line(last, box) and gap < min(last.bottom - last.top, box.bottom - box.top)


def _turned(box: Box) -> Box:
    return Box(box.top, box.left, box.bottom, box.right)


def find_quote(text: str, quote: str, near: int) -> tuple[int, int] | None:
    """Return the span of a quote in the text of its page, whatever the white space; the nearest one to `near`."""
    wanted = _bare(quote)
    places = [place for place, char in enumerate(text) if _bare(char)]
    bare = "".join(text[place] for place in places)
    found: list[int] = []
    at = bare.find(wanted) if wanted else -1
    while at >= 0 and len(found) < _MAX_TRIES:
        found.append(at)
        at = bare.find(wanted, at + 1)
    if not found:
        return None
    best = min(found, key=lambda at: abs(places[at] - near))
    return places[best], places[best + len(wanted) - 1] + 1
