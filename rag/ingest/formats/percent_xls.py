"""The cells of an XLS workbook that are shown in percent, by their formats (MS-XLS, BIFF8)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from rag.ingest.formats.percent_xlsx import BUILT_IN_PERCENT, Cells, shows_percent

_STREAM = "Workbook"
# Records: the kind of each, as MS-XLS 2.3 numbers it.
_BOF, _EOF, _BOUND_SHEET, _FORMAT, _XF, _MULTIPLE = 0x809, 0x0A, 0x85, 0x41E, 0xE0, 0xBD
_NUMBERS = frozenset({0x203, 0x27E, 0x06})  # Number, RK, Formula
_HEADER = struct.Struct("<HH")
_CELL = struct.Struct("<HHH")
_RK_SIZE = 6
MAX_STREAM_BYTES = 64 * 1024 * 1024


def percent_of_xls(data: bytes) -> dict[str, Cells]:
    """Return the cells that are shown in percent, by sheet; nothing of a workbook that is older or broken."""
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as container:
            if not container.exists(_STREAM) or container.get_size(_STREAM) > MAX_STREAM_BYTES:
                return {}
            stream = container.openstream(_STREAM).read()
        return _sheets(stream)
    except (OSError, ValueError, IndexError, struct.error):
        return {}


def _sheets(stream: bytes) -> dict[str, Cells]:
    formats, styles, sheets = set(BUILT_IN_PERCENT), list[int](), dict[str, int]()
    for kind, body in _records(stream, 0):
        if kind == _FORMAT and shows_percent(_text(body[2:], 2)):
            formats.add(int.from_bytes(body[:2], "little"))
        elif kind == _XF:
            styles.append(int.from_bytes(body[2:4], "little"))
        elif kind == _BOUND_SHEET:
            sheets[_text(body[6:], 1)] = int.from_bytes(body[:4], "little")
    percent = frozenset(number for number, one in enumerate(styles) if one in formats)
    return {name: frozenset(_cells(stream, begin, percent)) for name, begin in sheets.items()} if percent else {}


def _cells(stream: bytes, begin: int, percent: frozenset[int]) -> Iterator[tuple[int, int]]:
    for kind, body in _records(stream, begin):
        if kind in _NUMBERS:
            row, column, style = _CELL.unpack_from(body)
            if style in percent:
                yield row, column
        elif kind == _MULTIPLE:
            row, first = _HEADER.unpack_from(body)
            for n in range((len(body) - _RK_SIZE) // _RK_SIZE):
                if int.from_bytes(body[4 + n * _RK_SIZE : 6 + n * _RK_SIZE], "little") in percent:
                    yield row, first + n


def _records(stream: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a part of the stream, without those of charts inside it."""
    depth = 0
    while at + _HEADER.size <= len(stream):
        kind, size = _HEADER.unpack_from(stream, at)
        at += _HEADER.size
        depth += (kind == _BOF) - (kind == _EOF)
        if depth < 1:
            return
        if depth == 1:
            yield kind, stream[at : at + size]
        at += size


def _text(body: bytes, width: int) -> str:
    """Return a string that begins with the number of its characters, in so many bytes, and their kind."""
    count = int.from_bytes(body[:width], "little")
    letters = body[width + 1 :]
    return letters[: 2 * count].decode("utf-16-le", "replace") if body[width] & 1 else letters[:count].decode("latin-1")
