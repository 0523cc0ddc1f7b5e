"""XLS workbooks: records of BIFF8 in the container that Office used before 2007 (MS-XLS, MS-CFB)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tests.support.corpus.office import OwnPercent, Percent, Rows, Written

_SECTOR = 512
_SMALLEST_STREAM = 4096  # of a stream that has sectors of its own
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_FORMATS = {OwnPercent: (164, "0.0%;[Red]-0.0%"), Written: (165, '0.0" % of all"')}
# Kinds of records.
_BOF, _EOF, _SHEET, _FORMAT, _STYLE, _LABEL, _NUMBER, _RK, _MULTIPLE = (
    *(0x809, 0x0A, 0x85, 0x41E, 0xE0, 0x204, 0x203, 0x27E, 0xBD),
)


def xls(sheets: dict[str, Rows], *, together: bool = False) -> Callable[[], bytes]:
    """Make a workbook of sheets by name; `together`: numbers that stand in a row are one record."""

    def make() -> bytes:
        parts = [_sheet(rows, together=together) for rows in sheets.values()]
        at = len(_globals(dict.fromkeys(sheets, 0)))
        places = {}
        for name, part in zip(sheets, parts, strict=True):
            places[name] = at
            at += len(part)
        return _container(_globals(places) + b"".join(parts))

    return make


def _record(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(body)) + body


def _text(text: str, width: str) -> bytes:
    """Return a string with the number of its characters before it, two bytes for each."""
    return struct.pack(f"<{width}B", len(text), 1) + text.encode("utf-16-le")


def _begin(kind: int) -> bytes:
    return _record(_BOF, struct.pack("<HHHHII", 0x600, kind, 0x0DBB, 0x07CC, 0, 6))


def _globals(places: dict[str, int]) -> bytes:
    formats = b"".join(
        _record(_FORMAT, struct.pack("<H", number) + _text(code, "H")) for number, code in _FORMATS.values()
    )
    styles = b"".join(
        _record(_STYLE, struct.pack("<HHH14x", 0, number, 0)) for number in (0, 9, *(n for n, _ in _FORMATS.values()))
    )
    listed = b"".join(
        _record(_SHEET, struct.pack("<IBB", place, 0, 0) + _text(name, "B")) for name, place in places.items()
    )
    return _begin(5) + formats + styles + listed + _record(_EOF)


def _style(cell: float) -> int:
    return cell.style if isinstance(cell, Percent) else 0


def _sheet(rows: Rows, *, together: bool) -> bytes:
    records = b""
    for y, row in enumerate(rows):
        numbers: list[tuple[int, float]] = []
        for x, cell in enumerate(row):
            if isinstance(cell, str):
                records += _record(_LABEL, struct.pack("<HHH", y, x, 0) + _text(cell, "H"))
            else:
                numbers.append((x, cell))
        records += _together(y, numbers) if together and len(numbers) > 1 else _apart(y, numbers)
    return _begin(0x10) + records + _record(_EOF)


def _apart(y: int, numbers: Sequence[tuple[int, float]]) -> bytes:
    return b"".join(_record(_NUMBER, struct.pack("<HHHd", y, x, _style(cell), cell)) for x, cell in numbers)


def _together(y: int, numbers: Sequence[tuple[int, float]]) -> bytes:
    """Return numbers of neighbouring cells, each as the upper half of a double."""
    cells = b"".join(struct.pack("<H", _style(cell)) + struct.pack("<d", cell)[4:] for _, cell in numbers)
    first, last = numbers[0][0], numbers[-1][0]
    return _record(_MULTIPLE, struct.pack("<HH", y, first) + cells + struct.pack("<H", last))


def _container(stream: bytes) -> bytes:
    """Return a container with one stream, `Workbook`: a header, the table of sectors, the folder, the stream."""
    size = max(len(stream), _SMALLEST_STREAM)
    count = -(-size // _SECTOR)
    chain = [_FAT, _END, *range(3, 2 + count), _END]
    table = struct.pack(f"<{len(chain)}I", *chain).ljust(_SECTOR, b"\xff")
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, _SMALLEST_STREAM, _END, 0, _END, 0)
    header += struct.pack("<109I", 0, *[_FREE] * 108)
    folder = _entry("Root Entry", 5, child=1, first=_END, size=0) + _entry("Workbook", 2, first=2, size=size)
    return header + table + folder.ljust(_SECTOR, b"\0") + stream.ljust(count * _SECTOR, b"\0")


def _entry(name: str, kind: int, *, first: int, size: int, child: int = _FREE) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    head = encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded), kind, 1)
    return head + struct.pack("<III36xIQ", _FREE, _FREE, child, first, size)
