"""What the styles and the numbering of a DOCX file say of its paragraphs."""

from __future__ import annotations

import re
from typing import Any, Final

from rag.ingest.formats.package import attribute, child, is_on, local, value_of

_HEADING_NAME = re.compile(r"^(?:heading \d|title)$", re.IGNORECASE)
_PLACE = re.compile(r"%([1-9])")
_MAX_BASES = 20
_NO_TEXT: Final = ("bullet", "none")
_ROMAN: Final = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_MAX_ROMAN = 3_999


class Styles:
    """The styles of a file, by their id."""

    def __init__(self, root: Any | None) -> None:
        self._styles: dict[str, Any] = {}
        for style in root if root is not None else ():
            if local(style) == "style":
                self._styles[attribute(style, "styleId") or ""] = style

    def is_heading(self, style: str | None) -> bool:
        """Return True for a style of headings, by its outline level or name, or those of a style it is based on."""
        for element in self._chain(style):
            level = value_of(element, "pPr", "outlineLvl")
            if level is not None:
                return level != "9"
            if _HEADING_NAME.match(value_of(element, "name") or ""):
                return True
        return False

    def is_hidden(self, style: str | None) -> bool:
        """Return True for a style of characters that are not shown."""
        return any(is_on(child(element, "rPr"), "vanish") for element in self._chain(style))

    def numbering(self, style: str | None, properties: Any | None) -> tuple[str | None, int]:
        """Return the numbering of a paragraph: its id, None if it is not numbered, and its level from 0."""
        sources = [properties, *(child(element, "pPr") for element in self._chain(style))]
        number = next((one for one in (value_of(source, "numPr", "numId") for source in sources) if one), None)
        level = next((one for one in (value_of(source, "numPr", "ilvl") for source in sources) if one), "0")
        return (None if number == "0" else number), int(level) if level.isdigit() and len(level) == 1 else 0

    def _chain(self, style: str | None) -> list[Any]:
        """Return a style and those it is based on."""
        chain: list[Any] = []
        while style in self._styles and len(chain) < _MAX_BASES:
            chain.append(self._styles[style])
            style = value_of(chain[-1], "basedOn")
        return chain


class Numbering:
    """The numbered lists of a file, counted paragraph by paragraph."""

    def __init__(self, root: Any | None) -> None:
        self._levels: dict[str, dict[int, Any]] = {}  # of each abstract list
        self._lists: dict[str, str] = {}  # the abstract list of each list
        self._counts: dict[str, list[int | None]] = {}
        for element in root if root is not None else ():
            identity = attribute(element, "abstractNumId") or ""
            if local(element) == "abstractNum":
                levels = (one for one in element if local(one) == "lvl")
                self._levels[identity] = {_integer(attribute(one, "ilvl"), 0): one for one in levels}
            elif local(element) == "num":
                self._lists[attribute(element, "numId") or ""] = value_of(element, "abstractNumId") or ""

    def marker(self, number: str | None, level: int) -> str:
        """Count a paragraph of a list and return what stands before it: "2.1.", "b)" or "-"; "" outside of lists."""
        if number is None or number not in self._lists:
            return ""
        levels = self._levels.get(self._lists[number], {})
        counts = self._counts.setdefault(self._lists[number], [None] * 10)
        before = counts[level]
        counts[level] = self._start(levels, level) if before is None else before + 1
        counts[level + 1 :] = [None] * (len(counts) - level - 1)
        indent = "  " * level
        form = value_of(levels.get(level), "numFmt") or "bullet"
        text = value_of(levels.get(level), "lvlText") or ""
        if form in _NO_TEXT or "%" not in text:
            return indent + "-"

        def count(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            value = counts[place]
            place_form = value_of(levels.get(place), "numFmt") or "decimal"
            return _formatted(self._start(levels, place) if value is None else value, place_form)

        return indent + _PLACE.sub(count, text)

    @staticmethod
    def _start(levels: dict[int, Any], level: int) -> int:
        return _integer(value_of(levels.get(level), "start"), 1)


def _formatted(value: int, form: str) -> str:
    """Return a number as a list writes it."""
    if form in {"lowerLetter", "upperLetter"} and value > 0:
        letters = chr(ord("a") + (value - 1) % 26) * min(5, (value - 1) // 26 + 1)
        return letters.upper() if form == "upperLetter" else letters
    if form in {"lowerRoman", "upperRoman"} and 0 < value <= _MAX_ROMAN:
        roman = ""
        for size, sign in _ROMAN:
            roman += sign * (value // size)
            value %= size
        return roman.upper() if form == "upperRoman" else roman
    return str(value)


def _integer(value: str | None, default: int) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) <= len("999999") else default
