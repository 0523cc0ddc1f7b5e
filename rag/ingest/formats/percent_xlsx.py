"""The cells of an XLSX workbook that are shown in percent, by their styles."""

from __future__ import annotations

import re

from errors import DocumentError
from rag.ingest.formats.package import Package, attribute, child

# Rows and columns, from 0.
Cells = frozenset[tuple[int, int]]
# Formats 9 and 10 of every workbook are 0 % and 0.00 % (ECMA-376, 18.8.30; MS-XLS 2.4.126).
BUILT_IN_PERCENT = frozenset({9, 10})
# A text in quotes and an escaped character are shown as they are; `_%` is a space as wide as the sign, and `*%` fills
# the cell with signs.
_LITERAL = re.compile(r'"[^"]*"|[\\_*].')
_CELL = re.compile(rb"<(?:\w+:)?c\s([^<>]*)>")
_PLACE = re.compile(rb"\br=[\"']([A-Z]{1,3})(\d{1,7})[\"']")
_STYLE = re.compile(rb"\bs=[\"'](\d{1,5})[\"']")
# A larger sheet is read without: to look at its cells one by one takes too long.
MAX_SHEET_BYTES = 16 * 1024 * 1024
# Of XLS and ODS, cells in percent that are looked at: 200,000 take 30 MB.
MAX_CELLS = 200_000
_LETTERS = 26


def shows_percent(number_format: str) -> bool:
    """Return True for the code of a number format that shows percent, such as `0.0%;[Red]-0.0%`."""
    return "%" in _LITERAL.sub("", number_format)


class XlsxPercent:
    """Where an XLSX workbook shows percent. Raises DocumentError for a broken one."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._styles = self._percent_styles()
        self._parts = self._sheets() if self._styles else {}

    def of(self, sheet: str) -> Cells:
        """Return the cells of a sheet that are shown in percent."""
        part = self._parts.get(sheet)
        try:
            data = self._package.data(part) if part else None
        except DocumentError:
            return frozenset()
        if data is None or len(data) > MAX_SHEET_BYTES:
            return frozenset()
        return frozenset(self._cell(place) for cell in _CELL.finditer(data) if (place := self._place(cell[1])))

    def _place(self, attributes: bytes) -> re.Match[bytes] | None:
        style = _STYLE.search(attributes)
        return _PLACE.search(attributes) if style and style[1] in self._styles else None

    @staticmethod
    def _cell(place: re.Match[bytes]) -> tuple[int, int]:
        column = 0
        for letter in place[1]:
            column = column * _LETTERS + letter - ord("A") + 1
        return int(place[2]) - 1, column - 1

    def _percent_styles(self) -> frozenset[bytes]:
        """Return the numbers of the styles that show percent."""
        root = self._package.xml("xl/styles.xml")
        if root is None:
            return frozenset()
        formats = set(BUILT_IN_PERCENT)
        for one in root.iter("{*}numFmt"):
            number = attribute(one, "numFmtId") or ""
            if number.isdecimal() and shows_percent(attribute(one, "formatCode") or ""):
                formats.add(int(number))
        uses = child(root, "cellXfs")
        numbers = [attribute(one, "numFmtId") or "" for one in (() if uses is None else uses)]
        return frozenset(
            str(style).encode() for style, number in enumerate(numbers) if number.isdecimal() and int(number) in formats
        )

    def _sheets(self) -> dict[str, str]:
        """Return the part of each sheet, by name."""
        book = self._package.main_part()
        relations = self._package.relations(book)
        root = self._package.xml(book)
        named = [] if root is None else [one for one in root.iter("{*}sheet") if attribute(one, "name")]
        return {
            attribute(one, "name") or "": relations[number][1]
            for one in named
            if (number := attribute(one, "id") or "") in relations
        }
