"""Workbooks (XLSX, XLSB, XLS, ODS) and separated values: a line for each row, with the header of each value."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice, zip_longest
from typing import Any

from errors import DocumentError
from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.block_tables import MAX_CONTEXT_CHARS
from rag.ingest.formats.blocks import Block, File, PageText, one_line, opened
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.html import without_markup
from rag.ingest.formats.package import Package
from rag.ingest.formats.percent_cells import percent_cells
from rag.ingest.formats.records import MAX_LINE_CHARS, MAX_NAME_CHARS, NAMES
from rag.ingest.formats.sheet_drawings import sheet_drawings
from rag.ingest.formats.sheet_headers import (
    Merged,
    fill_merged,
    find_head,
    has_title,
    is_bare,
    letters,
    moved,
    tables_of,
)
from rag.ingest.formats.tables import MAX_HEADER_CHARS, empty_columns, is_figure, row_line
from rag.ingest.media_types import OLE

# Few rows for each page, so that a source names few.
ROWS_PER_PAGE = 40
# An XLSX with a password is a stream of this name; an XLS has the record FILEPASS behind its first (MS-XLS 2.4.117).
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_FILE_PASS = re.compile(
    rb"\x09\x08\x10\x00\x00\x06\x05\x00.{12}(?:\x86\x00\x00\x00)?\x2f\x00[\x04-\xff]\x00", re.DOTALL
)
# Times above a day, as calamine gives those of ODS.
_ISO_DURATION = re.compile(r"PT(\d{1,9})H(\d\d)M(\d\d)(?:[.,]\d+)?S")
# What PyO3 raises where calamine fails on an assumption, such as on XLSB of the beta of Excel 2007.
_PANIC = "PanicException"
MAX_FIELD_CHARS = 1_000_000
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 20
# One in so many rows is longer than a line, where rows are sections.
_LONG_SHARE = 10
_PERCENT_DECIMALS = 4
_MAX_EXACT = 2.0**53  # up to here each whole number is exact, such as those of accounts and cards


def read_workbook(path: File) -> Iterator[PageText]:
    """Yield the pages of the visible sheets of a workbook. Raises DocumentError."""
    import python_calamine

    try:
        yield from _sheet_pages(path)
    except (python_calamine.CalamineError, python_calamine.WorksheetNotFound, OSError, ValueError):
        # Without the ending of the name, calamine tries one kind after the other, and raises the last kind's error.
        if _is_encrypted(path):
            raise DocumentError("encrypted", "the workbook is encrypted and needs a password") from None
        raise DocumentError("broken", "the workbook is broken: its sheets cannot be read") from None
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise DocumentError(
            "broken",
            "the workbook is not laid out as Excel of today does it; save it as XLSX from a spreadsheet program",
        ) from None


def _sheet_pages(path: File) -> Iterator[PageText]:
    import python_calamine

    workbook = python_calamine.load_workbook(opened(path))
    visible = python_calamine.SheetVisibleEnum.Visible
    table = python_calamine.SheetTypeEnum.WorkSheet
    sheets = [one.name for one in workbook.sheets_metadata if one.visible == visible and one.typ == table]
    percent, drawn = percent_cells(path), sheet_drawings(path)
    for name in sheets:
        sheet = workbook.get_sheet_by_name(name)
        top, left = sheet.start or (0, 0)
        shown = percent(name)
        rows = [
            [_value(cell, percent=(top + y, left + x) in shown) for x, cell in enumerate(row)]
            for y, row in enumerate(sheet.to_python(skip_empty_area=True))
        ]
        merged = [
            ((first - top, begin - left), (last - top, end - left))
            for (first, begin), (last, end) in sheet.merged_cell_ranges or ()
            if first >= top and begin >= left
        ]
        fill_merged(rows, merged)
        place = f"Sheet {one_line(name)}"
        yield from row_pages(rows, place=f"{place}, rows", first=top + 1, left=left, merged=merged)
        if blocks := drawn(name):
            yield from pages_of_blocks(blocks, label=f"{place}, text boxes")


def _is_encrypted(path: File) -> bool:
    data = path.read_bytes()
    if data.startswith(OLE):
        return _ENCRYPTED_PACKAGE in data or _FILE_PASS.search(data) is not None
    manifest = Package(path, "workbook").data("META-INF/manifest.xml")
    return manifest is not None and b"encryption-data" in manifest


def read_separated(path: File, *, delimiter: str = "") -> Iterator[PageText]:
    """Yield the pages of a file of values that are separated by commas, semicolons, tabs or bars."""
    text = decode(path.read_bytes())
    csv.field_size_limit(MAX_FIELD_CHARS)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text))
    try:
        yield from row_pages([[one_line(without_markup(cell)) for cell in row] for row in rows], place="Rows", first=1)
    except csv.Error:
        raise DocumentError("broken", "the file of separated values is broken: a value has no end") from None


def row_pages(
    rows: Sequence[Sequence[str]], *, place: str, first: int, left: int | None = None, merged: Sequence[Merged] = ()
) -> Iterator[PageText]:
    """Yield pages of rows. Lines above a header stand on its first page; `first` is the number of the first row.

    `left` is the first column of a workbook, counted from 0: bare figures are named by column and row.
    """
    titled = has_title(rows)
    for table in tables_of(rows, merged):
        part = rows[table.start : table.stop]
        inside = [moved(one, table.start) for one in merged if one[0][0] in table]
        pages = _table_pages(part, place, first + table.start, left, inside)
        # The next sheet or table has a caption of its own. The title of a sheet holds for all tables of the sheet.
        begins = not (titled and table.start)
        yield from (replace(page, begins=True) if begins else page for page in islice(pages, 1))
        yield from pages


def _table_pages(
    rows: Sequence[Sequence[str]], place: str, first: int, left: int | None, merged: Sequence[Merged]
) -> Iterator[PageText]:
    head, headers = find_head(rows, merged)
    if not headers and left is not None and is_bare(rows):
        headers = ["Row", *(letters(left + column) for column in range(max(map(len, rows), default=0)))]
        rows = [[str(first + at), *row] if any(row) else row for at, row in enumerate(rows)]
    begin = head.stop
    top = list(_captions(rows[: head.start]))
    # A unit below the title of the sheet; the title is the section.
    elsewhere = [block.text for block in top if block.kind == "text" and len(block.text) <= MAX_CONTEXT_CHARS]
    if head and (line := empty_columns(headers, rows[begin:])):
        top.append(Block(line, "row"))
    long = bool(headers) and _has_long_rows(rows[begin:])
    for at in range(begin, len(rows), ROWS_PER_PAGE):
        part = rows[at : at + ROWS_PER_PAGE]
        lines = [
            block
            for n, row in enumerate(part, start=first + at)
            for block in _row_blocks(row, headers, n if long else 0)
        ]
        if lines and not long:
            lines[0] = replace(lines[0], first=True)
        label = f"{place} {first + at}–{first + at + len(part) - 1}"
        yield from pages_of_blocks([*top, *lines], label=label, elsewhere=() if at == begin else elsewhere)
        top = []
    if begin >= len(rows) and rows:
        yield from pages_of_blocks(
            [*top, Block(row_line(rows[-1], ()))], label=f"{place} {first}–{first + len(rows) - 1}"
        )


def _has_long_rows(rows: Sequence[Sequence[str]]) -> bool:
    """Return True if many rows hold a text, such as the plot of a film, which is split into chunks."""
    return _LONG_SHARE * sum(sum(map(len, row)) > MAX_LINE_CHARS for row in rows) > len(rows)


def _row_blocks(row: Sequence[str], headers: Sequence[str], number: int) -> Iterator[Block]:
    """Yield a row as a line or, with its number, as a section of its own with a line for each value."""
    line = row_line(row, headers)
    if not line:
        return
    if not number:
        yield Block(line, "row")
        return
    named = next((n for word in NAMES for n, header in enumerate(headers) if word in header.casefold().split()), 0)
    name = row[named] if named < len(row) else ""
    yield Block(f"Row {number}" + (f": {name[:MAX_NAME_CHARS]}" if name else ""), "heading")
    for header, value in zip_longest(headers, row, fillvalue=""):
        if value:
            yield Block(row_line([value], [header]), "row")


def _captions(rows: Sequence[Sequence[str]]) -> Iterator[Block]:
    """Yield the lines above a header. The first that stands alone is the section of all rows, which may be many."""
    titled = False
    before = ""
    for row in rows:
        line = row_line([cell for cell, _ in groupby(row)], ())
        line, before = "" if line == before else line, line  # merged across rows
        titles = not titled and sum(map(bool, row)) == 1 and len(line) <= MAX_HEADER_CHARS and not is_figure(line)
        titled = titled or titles
        if line:
            yield Block(line, "heading" if titles else "text")


def _delimiter(text: str) -> str:
    """Return the delimiter that stands equally often in the first lines."""
    lines = [line for line in text[:65_536].splitlines()[:_SAMPLE_LINES] if line.strip()]

    def fit(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count) if counts else 0
        return counts.count(usual) if usual else 0, usual

    return max(_DELIMITERS, key=fit)


def _value(cell: Any, *, percent: bool = False) -> str:
    """Return a cell as its sheet shows it, more or less."""
    if percent and isinstance(cell, int | float) and not isinstance(cell, bool):
        return f"{round(100 * cell, _PERCENT_DECIMALS):.12g}%"
    if isinstance(cell, datetime.timedelta):
        cell = _hours(int(cell.total_seconds()))
    if isinstance(cell, str) and (iso := _ISO_DURATION.fullmatch(cell)):
        cell = _hours(3600 * int(iso[1]) + 60 * int(iso[2]) + int(iso[3]))
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) <= _MAX_EXACT else f"{cell:.12g}"
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ", "minutes")
    return one_line(without_markup(str(cell)))


def _hours(seconds: int) -> str:
    return f"{'-' if seconds < 0 else ''}{abs(seconds) // 3600}:{abs(seconds) // 60 % 60:02}:{abs(seconds) % 60:02}"
