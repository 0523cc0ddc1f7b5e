"""The cells of an XLS workbook that are shown in percent, by their formats (MS-XLS, BIFF8)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from itertools import islice

from rag.ingest.formats.percent_xlsx import BUILT_IN_PERCENT, MAX_CELLS, Cells, shows_percent

_STREAM = "Workbook"
# Records: the kind of each, as MS-XLS 2.3 numbers it.
_BOF, _EOF, _BOUND_SHEET, _FORMAT, _XF, _MULTIPLE = 0x809, 0x0A, 0x85, 0x41E, 0xE0, 0xBD
_NUMBERS = frozenset({0x203, 0x27E, 0x06})  # Number, RK, Formula
_HEADER = struct.Struct("<HH")
_CELL = struct.Struct("<HHH")
_RK_SIZE = 6
_IS_STYLE = 0x04  # an XF of a named style, not of cells
MAX_STREAM_BYTES = 32 * 1024 * 1024
# Of a whole workbook: 1,000,000 records take 0.7 s.
MAX_RECORDS = 1_000_000


class XlsPercent:
    """Where an XLS workbook shows percent. Raises errors of many kinds for a broken container."""

    def __init__(self, data: bytes) -> None:
        import olefile

        self._stream = b""
        self._left = MAX_RECORDS
        self._sheets: dict[str, int] = {}
        self._percent: frozenset[int] = frozenset()
        with olefile.OleFileIO(io.BytesIO(data)) as container:
            if container.exists(_STREAM) and container.get_size(_STREAM) <= MAX_STREAM_BYTES:
                self._stream = container.openstream(_STREAM).read()
        self._read_globals()

    def of(self, sheet: str) -> Cells:
        """Return the cells of a sheet that are shown in percent; none if there are too many to look at."""
        begin = self._sheets.get(sheet)
        if begin is None or not self._percent:
            return frozenset()
        try:
            cells = frozenset(islice(self._cells(begin), MAX_CELLS + 1))
        except (struct.error, OverflowError):
            return frozenset()
        return cells if len(cells) <= MAX_CELLS else frozenset()

    def _read_globals(self) -> None:
        formats, styles = set(BUILT_IN_PERCENT), list[int]()
        for kind, body in self._records(0):
            if kind == _FORMAT and shows_percent(_text(body[2:], 2)):
                formats.add(int.from_bytes(body[:2], "little"))
            elif kind == _XF:
                styles.append(-1 if body[4] & _IS_STYLE else int.from_bytes(body[2:4], "little"))
            elif kind == _BOUND_SHEET:
                self._sheets[_text(body[6:], 1)] = int.from_bytes(body[:4], "little")
        self._percent = frozenset(number for number, one in enumerate(styles) if one in formats)

    def _cells(self, begin: int) -> Iterator[tuple[int, int]]:
        for kind, body in self._records(begin):
            if kind in _NUMBERS:
                row, column, style = _CELL.unpack_from(body)
                if style in self._percent:
                    yield row, column
            elif kind == _MULTIPLE:
                row, first = _HEADER.unpack_from(body)
                count = (len(body) - _RK_SIZE) // _RK_SIZE
                self._left -= count
                for n in range(count):
                    if int.from_bytes(body[4 + n * _RK_SIZE : 6 + n * _RK_SIZE], "little") in self._percent:
                        yield row, first + n

    def _records(self, at: int) -> Iterator[tuple[int, bytes]]:
        """Yield the records of a part of the stream, without those of charts. Raises OverflowError after too many."""
        depth = 0
        while at + _HEADER.size <= len(self._stream):
            self._left -= 1
            if self._left < 0:
                raise OverflowError
            kind, size = _HEADER.unpack_from(self._stream, at)
            at += _HEADER.size
            depth += (kind == _BOF) - (kind == _EOF)
            if depth < 1:
                return
            if depth == 1:
                yield kind, self._stream[at : at + size]
            at += size


def _text(body: bytes, width: int) -> str:
    """Return the string that follows its number of characters, of `width` bytes, and a byte of flags."""
    count = int.from_bytes(body[:width], "little")
    letters = body[width + 1 :]
    return letters[: 2 * count].decode("utf-16-le", "replace") if body[width] & 1 else letters[:count].decode("latin-1")
