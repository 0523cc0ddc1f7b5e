"""Which cells of a workbook are shown in percent: by their format, and however the sheet is written."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping

import pytest

from rag.ingest.formats import percent_xls
from rag.ingest.formats.blocks import InnerFile
from rag.ingest.formats.percent_cells import percent_cells
from tests.support.corpus.office import OwnPercent, ods, xlsx
from tests.support.corpus.xls import xls
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
    cells = percent_cells(workbook({STYLES: (FORMAT, number_format)}))("Sheet")
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
    assert percent_cells(workbook(changes))("Sheet") == ({(0, 0)} if percent else set())


def test_cells_that_do_not_end_take_no_time() -> None:
    file = workbook({SHEET: (b"</worksheet>", b"</worksheet><!--" + b"<c " * 200_000 + b"-->")})
    begin = time.process_time()
    assert percent_cells(file)("Sheet") == {(0, 0)}
    assert time.process_time() - begin < 5  # 20,000 such cells took 10 s


def ods_row(*cells: str, repeated: str = "1") -> str:
    return f'<table:table-row table:number-rows-repeated="{repeated}">{"".join(cells)}</table:table-row>'


def ods_cell(kind: str = "table-cell", *, repeated: int = 1, percent: bool = True) -> str:
    value = ' office:value-type="percentage" office:value="0.5"' if percent else ""
    return f'<table:{kind}{value} table:number-columns-repeated="{repeated}"/>'


@each(
    "rows, cells",
    {
        "repeated cells": (ods_row(ods_cell(repeated=2)), {(0, 0), (0, 1)}),
        "behind empty cells": (ods_row(ods_cell(repeated=3, percent=False), ods_cell()), {(0, 3)}),
        "behind covered cells": (ods_row(ods_cell("covered-table-cell", percent=False), ods_cell()), {(0, 1)}),
        "repeated rows": (ods_row(ods_cell(), repeated="2") + ods_row(ods_cell()), {(0, 0), (1, 0), (2, 0)}),
        "behind empty rows": (ods_row(repeated="5") + ods_row(ods_cell()), {(5, 0)}),
        "header rows": (f"<table:table-header-rows>{ods_row(ods_cell())}</table:table-header-rows>", {(0, 0)}),
        "no number": (ods_row(ods_cell(), repeated="many"), {(0, 0)}),
    },
)
def test_the_cells_of_an_ods_are_counted(rows: str, cells: set[tuple[int, int]]) -> None:
    assert percent_cells(InnerFile(ods("Quay", rows)))("Quay") == cells


@each(
    "rows",
    {
        "one cell for all": ods_row(ods_cell(repeated=1_048_576), repeated="1048576"),
        "many that stand for many": ods_row(ods_cell(repeated=100), repeated="1000") * 30,
    },
)
def test_an_ods_with_too_many_cells_in_percent_is_read_without(rows: str) -> None:
    file = InnerFile(ods("Quay", ods_row(ods_cell()) + rows))
    assert percent_cells(file)("Quay") == frozenset()


def test_empty_cells_in_percent_do_not_count() -> None:
    empty = '<table:table-cell office:value-type="percentage" table:number-columns-repeated="1000"/>'
    rows = ods_row(empty, repeated="1000") * 50 + ods_row(ods_cell())
    assert percent_cells(InnerFile(ods("Quay", rows)))("Quay") == {(50_000, 0)}


ROOT_ROW = b'<table-row xmlns="urn:oasis:names:tc:opendocument:xmlns:table:1.0">percentage</table-row>'


@each(
    "content",
    {
        "cut": b'<office:value-type="percentage">',
        "a row without a table": ROOT_ROW,
        "no names": b"<a><b>percentage</b></a>",
    },
)
def test_content_of_another_kind_has_no_cells_in_percent(content: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("content.xml", content)
    assert percent_cells(InnerFile(out.getvalue()))("Quay") == frozenset()


XLS = xls({"Shares": [(OwnPercent(0.5), 1.5)], "Other": [("Part", OwnPercent(0.25))]})


def test_the_sheets_of_an_xls_are_told_apart() -> None:
    cells = percent_cells(InnerFile(XLS()))
    assert cells("Shares") == {(0, 0)}
    assert cells("Other") == {(0, 1)}
    assert cells("None") == frozenset()


@pytest.mark.parametrize("part", range(8))
def test_a_damaged_xls_is_no_error(part: int) -> None:
    data = XLS()
    end = len(data) * part // 8
    cut = percent_cells(InnerFile(data[:end].ljust(512, b"\0")))("Shares")
    garbled = data[:end] + bytes(255 - byte for byte in data[end : end + 200]) + data[end + 200 :]
    assert cut | percent_cells(InnerFile(garbled))("Shares") <= {(0, 0)}


def test_an_xls_with_too_many_records_is_read_without(monkeypatch: pytest.MonkeyPatch) -> None:
    many = xls({"Shares": [(OwnPercent(0.5),)] * 50, "Other": [(OwnPercent(0.5),)]})
    monkeypatch.setattr(percent_xls, "MAX_RECORDS", 40)
    cells = percent_cells(InnerFile(many()))
    assert cells("Shares") == frozenset()
    monkeypatch.setattr(percent_xls, "MAX_RECORDS", 1_000)
    cells = percent_cells(InnerFile(many()))
    assert cells("Other") == {(0, 0)}
    assert len(cells("Shares")) == 50
    monkeypatch.setattr(percent_xls, "MAX_CELLS", 40)
    assert percent_cells(InnerFile(many()))("Shares") == frozenset()


def test_an_xls_whose_entries_are_a_long_chain_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_arguments: object) -> None:
        raise RecursionError

    monkeypatch.setattr("olefile.OleFileIO", endless)
    assert percent_cells(InnerFile(XLS()))("Shares") == frozenset()
