"""Workbooks (XLSX, XLS, ODS) and files of separated values: a line for each row, with the header of each value."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator, Sequence
from typing import Any

from errors import DocumentError
from rag.ingest.formats.blocks import Block, File, PageText, one_line, opened, pages_of_blocks
from rag.ingest.formats.encodings import decode
from rag.ingest.formats.tables import MAX_HEADER_CHARS, is_figure, row_line

# Few rows for each page, so that a source names few.
ROWS_PER_PAGE = 40
MAX_FIELD_CHARS = 1_000_000
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 20
_MAX_CAPTION_ROWS = 5


def read_workbook(path: File) -> Iterator[PageText]:
    """Yield the pages of the visible sheets of a workbook. Raises DocumentError."""
    import python_calamine

    try:
        workbook = python_calamine.load_workbook(opened(path))
        visible = python_calamine.SheetVisibleEnum.Visible
        table = python_calamine.SheetTypeEnum.WorkSheet
        sheets = [one.name for one in workbook.sheets_metadata if one.visible == visible and one.typ == table]
        for name in sheets:
            sheet = workbook.get_sheet_by_name(name)
            first = (sheet.start or (0, 0))[0] + 1
            rows = [[_value(cell) for cell in row] for row in sheet.to_python(skip_empty_area=True)]
            yield from row_pages(rows, place=f"Sheet {one_line(name)}, rows", first=first)
    except python_calamine.PasswordError:
        raise DocumentError("encrypted", "the workbook is encrypted and needs a password") from None
    except (python_calamine.CalamineError, python_calamine.WorksheetNotFound, OSError, ValueError):
        raise DocumentError("broken", "the workbook is broken: its sheets cannot be read") from None


def read_separated(path: File, *, delimiter: str = "") -> Iterator[PageText]:
    """Yield the pages of a file of values that are separated by commas, semicolons, tabs or bars."""
    text = decode(path.read_bytes())
    csv.field_size_limit(MAX_FIELD_CHARS)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text))
    try:
        yield from row_pages([[one_line(cell) for cell in row] for row in rows], place="Rows", first=1)
    except csv.Error:
        raise DocumentError("broken", "the file of separated values is broken: a value has no end") from None


def row_pages(rows: Sequence[Sequence[str]], *, place: str, first: int) -> Iterator[PageText]:
    """Yield pages of rows. Lines above the header stand on the first page; `first` is the number of the first row."""
    header = _header_row(rows)
    headers = [cell[:MAX_HEADER_CHARS] for cell in rows[header]] if header is not None else []
    begin = 0 if header is None else header + 1
    top = [Block(line) for row in rows[: begin and begin - 1] if (line := row_line(row, ()))]
    for at in range(begin, len(rows), ROWS_PER_PAGE):
        part = rows[at : at + ROWS_PER_PAGE]
        lines = [Block(line, "row") for row in part if (line := row_line(row, headers))]
        label = f"{place} {first + at}–{first + at + len(part) - 1}"
        yield from pages_of_blocks([*top, *lines], label=label)
        top = []
    if begin >= len(rows) and rows:
        yield from pages_of_blocks(
            [*top, Block(row_line(rows[-1], ()))], label=f"{place} {first}–{first + len(rows) - 1}"
        )


def _header_row(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the number of the row that names the columns: the first that is as wide as those below, of words alone."""
    for number, row in enumerate(rows[:_MAX_CAPTION_ROWS]):
        cells = [cell for cell in row if cell]
        if len(cells) > 1:
            below = max((sum(map(bool, other)) for other in rows[number + 1 : number + _SAMPLE_LINES]), default=0)
            words = not any(is_figure(cell) or len(cell) > MAX_HEADER_CHARS for cell in cells)
            return number if words and len(set(cells)) == len(cells) and 0 < below <= len(cells) else None
    return None


def _delimiter(text: str) -> str:
    """Return the delimiter that stands equally often in the first lines."""
    lines = [line for line in text[:65_536].splitlines()[:_SAMPLE_LINES] if line.strip()]

    def fit(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count) if counts else 0
        return counts.count(usual) if usual else 0, usual

    return max(_DELIMITERS, key=fit)


def _value(cell: Any) -> str:
    """Return a cell as its sheet shows it, more or less."""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else f"{cell:.12g}"  # noqa: PLR2004
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ", "minutes")
    return one_line(str(cell))
