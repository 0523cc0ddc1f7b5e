"""Which cells of a workbook are shown in percent: by their format, and however the sheet is written."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping

from rag.ingest.formats.blocks import InnerFile
from rag.ingest.formats.percent_cells import PercentCells
from tests.support.corpus.office import OwnPercent, xlsx
from tests.support.tables import each

STYLES, SHEET = "xl/styles.xml", "xl/worksheets/sheet1.xml"
FORMAT = b"0.0%;[Red]-0.0%"


def workbook(changes: Mapping[str, tuple[bytes, bytes]]) -> InnerFile:
    """Return a workbook with a cell in percent, of which parts are changed: the first text becomes the second."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(xlsx({"Sheet": [(OwnPercent(0.5),)]})())) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(*changes.get(name, (b"", b""))))
    return InnerFile(out.getvalue())


@each(
    "number_format, percent",
    {
        "figures": (b"0.00%", True),
        "with a condition": (b"[&lt;1]0%;[Red]0.0%", True),
        "escaped": (rb"0.0\%", False),
        "in quotes": (b"0.0&quot; %&quot;", False),
        "a space as wide as the sign": (rb"#,##0.0_%_);\(#,##0.0\)_%", False),
        "such a space beside the sign": (rb"0.0%_);\(0.0%\);0.0_%", True),
        "filled up with signs": (b"0*%", False),
    },
)
def test_a_format_shows_percent(number_format: bytes, percent: bool) -> None:
    cells = PercentCells(workbook({STYLES: (FORMAT, number_format)})).of("Sheet")
    assert cells == ({(0, 0)} if percent else set())


@each(
    "changes, percent",
    {
        "single quotes": ({SHEET: (b'<c r="A1" s="2">', b"<c r='A1' s='2'>")}, True),
        "a prefix": ({SHEET: (b'<c r="A1" s="2">', b'<x:c s="2" r="A1">')}, True),
        "no number": ({STYLES: (b'numFmtId="164"', 'numFmtId="²"'.encode())}, False),
        "no styles": ({STYLES: (b"cellXfs", b"none")}, False),
    },
)
def test_a_sheet_that_is_written_otherwise_is_read(changes: dict[str, tuple[bytes, bytes]], percent: bool) -> None:
    assert PercentCells(workbook(changes)).of("Sheet") == ({(0, 0)} if percent else set())


def test_cells_that_do_not_end_take_no_time() -> None:
    file = workbook({SHEET: (b"</worksheet>", b"</worksheet><!--" + b"<c " * 200_000 + b"-->")})
    begin = time.process_time()
    assert PercentCells(file).of("Sheet") == {(0, 0)}
    assert time.process_time() - begin < 5  # 20,000 such cells took 10 s
