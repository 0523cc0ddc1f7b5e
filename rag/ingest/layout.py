"""What the lines of a page are: running headers and footers, headings, tables, text."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from schemas import Page

# Headers and footers are looked for in this many lines at each end of a page, and on this many pages on each side.
EDGE_LINES = 3
NEIGHBOURS = 4
# A line at an edge is a running one when this many of the neighbouring pages have it there too. Two, because left
# and right pages often differ.
NEEDED = 2
MAX_RUNNING_CHARS = 120
GAPS_OF_A_ROW = FIGURES_OF_A_ROW = 2
SHARE_OF_FIGURES = 0.4
MAX_HEADING_CHARS = 90
MAX_HEADING_WORDS = 14
_LINE = re.compile(r"[^\r\n]+")
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"(?i)^[\s\W]*[ivxlc]{1,7}[\s\W]*$")
_NUMBERED = re.compile(
    r"^(?:(?:chapter|section|part|article|appendix|annex|item|note)\s+[\dIVXA-Z]+\b|\d+(?:\.\d+){0,4}\.?\s+\S)",
    re.IGNORECASE,
)
_CELL = re.compile(r"(?:\t| {2,}|\s[|]\s)")
_FIGURE = re.compile(r"^[($€£-]*\d[\d.,]*[)%]*$|^[—–-]+$")
_SENTENCE_MARKS = ".!?:;,…"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page that holds more than white space: the page's text from `start` to `end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Edges:
    """What the first and the last lines of a page say, in the forms in which other pages may repeat them."""

    top: set[str]
    foot: set[str]


def lines(text: str) -> Iterator[Line]:
    """Yield the lines of a text that hold something."""
    for match in _LINE.finditer(text):
        bare = match[0].strip()
        if bare:
            start = match.start() + match[0].index(bare)
            yield Line(start, start + len(bare), bare)


def bodies(pages: Iterable[Page]) -> Iterator[tuple[Page, list[Line]]]:
    """Yield each page with its lines, less the running headers and footers.

    Holds NEIGHBOURS pages after the one it yields, and the edges of as many before it, so that memory does not grow
    with the document. Only of the page it yields are all lines at hand: there may be half a million.
    """
    source = iter(pages)
    ahead = deque((page, _edges(page)) for page in islice(source, NEIGHBOURS + 1))
    behind: deque[_Edges] = deque(maxlen=NEIGHBOURS)
    while ahead:
        page, edges = ahead.popleft()
        yield page, _without_running(page, list(lines(page.text)), [*behind, *(edge for _, edge in ahead)])
        behind.append(edges)
        for following in islice(source, 1):
            ahead.append((following, _edges(following)))


def is_heading(line: Line, before: Line | None, after: Line | None, *, width: int) -> bool:
    """Tell whether a line is a heading, from its look and that of its neighbours.

    `width` is the length of a full line of the page, in characters.
    """
    text = line.text
    words = text.split()
    if len(text) > MAX_HEADING_CHARS or len(words) > MAX_HEADING_WORDS or text[-1] in _SENTENCE_MARKS:
        return False
    if after is None or sum(char.isalpha() for char in text) < len(text.replace(" ", "")) * 0.6:
        return False
    if text[0].islower() or after.text[0].islower() or is_table_row(line):
        return False
    if _NUMBERED.match(text) or (text.isupper() and len(text) > len("ABC")):
        return True
    ends = before is None or before.text[-1] in ".!?:…"
    return ends and len(text) <= 0.6 * width and len(after.text) > len(text)


def is_table_row(line: Line) -> bool:
    """Tell whether a line looks like a row of a table: cells set apart by gaps, or mostly figures."""
    if len(_CELL.findall(line.text)) >= GAPS_OF_A_ROW:
        return True
    words = line.text.split()
    figures = sum(1 for word in words if _FIGURE.match(word))
    return figures >= FIGURES_OF_A_ROW and figures >= SHARE_OF_FIGURES * len(words)


def _edges(page: Page) -> _Edges:
    return _Edges(
        _keys(page, list(islice(lines(page.text), EDGE_LINES))),
        _keys(page, list(deque(lines(page.text), maxlen=EDGE_LINES))),
    )


def _without_running(page: Page, own: list[Line], others: list[_Edges]) -> list[Line]:
    """Drop running lines from both ends of a page; a page of nothing else keeps them."""
    tops = [other.top for other in others]
    feet = [other.foot for other in others]
    first, last = 0, len(own)
    while first < min(EDGE_LINES, last) and _is_running(page, own[first], tops):
        first += 1
    while last > max(first, len(own) - EDGE_LINES) and _is_running(page, own[last - 1], feet):
        last -= 1
    return own[first:last] or own


def _is_running(page: Page, line: Line, edges: list[set[str]]) -> bool:
    keys = _keys(page, [line])
    return sum(1 for edge in edges if keys & edge) >= NEEDED


def _keys(page: Page, edge: list[Line]) -> set[str]:
    """Return what an edge's lines say, and what they say with a number that counts along with the pages.

    Of lines that are too long to be running ones nothing: for each number in them a whole line is kept.
    """
    keys = set()
    for line in edge:
        if len(line.text) > MAX_RUNNING_CHARS:
            continue
        text = " ".join(line.text.lower().split())
        if _NUMBER.search(text) or sum(char.isalpha() for char in text) > 1:
            keys.add(text)
        for number in _NUMBER.finditer(text):
            if len(number[0]) <= len("9999"):
                keys.add(f"{text[: number.start()]}#{int(number[0]) - page.number}{text[number.end() :]}")
        if _ROMAN.match(text):
            keys.add("roman")
    return keys
