"""The cells of a workbook that are shown in percent: calamine gives 0.125 where the sheet shows 12.5 %."""

from __future__ import annotations

from collections.abc import Callable

from rag.ingest.formats.blocks import File
from rag.ingest.formats.package import Package
from rag.ingest.formats.percent_ods import CONTENT, percent_of_ods
from rag.ingest.formats.percent_xls import XlsPercent
from rag.ingest.formats.percent_xlsx import MAX_SHEET_BYTES, Cells, XlsxPercent
from rag.ingest.media_types import OLE


def percent_cells(file: File) -> Callable[[str], Cells]:
    """Return the function that gives the cells of a sheet which are shown in percent; none in a broken workbook."""
    try:
        return _reader(file)
    except Exception:  # noqa: BLE001  of olefile and lxml many kinds; calamine may read the workbook all the same
        return lambda _sheet: frozenset()


def _reader(file: File) -> Callable[[str], Cells]:
    with file.open("rb") as opened:
        is_xls = opened.read(len(OLE)) == OLE
    if is_xls:
        return XlsPercent(file.read_bytes()).of
    package = Package(file, "workbook")
    content = package.data(CONTENT)
    if content is None:
        return XlsxPercent(package).of
    by_sheet = percent_of_ods(content) if len(content) <= MAX_SHEET_BYTES else {}
    return lambda sheet: by_sheet.get(sheet, frozenset())
