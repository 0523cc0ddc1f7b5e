"""Workbooks, separated values and slides, written as XML."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from tests.support.corpus import Sample

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'


def _zip(parts: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, text, compress_type=kind)
    return out.getvalue()


def _relations(**targets: str) -> str:
    inside = "".join(
        f'<Relationship Id="{name}" Type="{_OFFICE}/{target.partition("=")[0]}" Target="{target.partition("=")[2]}"/>'
        for name, target in targets.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}">{inside}</Relationships>'


class Percent(float):
    """A cell that is shown in percent; `style` is a style of `_STYLES`."""

    style = 1


class OwnPercent(Percent):
    """A cell in percent by a format of the workbook's own."""

    style = 2


class Written(Percent):
    """A cell whose format has a percent sign that is only shown."""

    style = 3


# Styles of general, 0 %, a format of percent, and one that only writes the sign.
_STYLES = (
    f'<styleSheet xmlns="{_SHEET}"><numFmts count="2"><numFmt numFmtId="164" formatCode="0.0%;[Red]-0.0%"/>'
    '<numFmt numFmtId="165" formatCode="0.0&quot; % of all&quot;"/></numFmts><cellXfs count="4"><xf numFmtId="0"/>'
    '<xf numFmtId="9"/><xf numFmtId="164"/><xf numFmtId="165"/></cellXfs></styleSheet>'
)
Cell = str | float
Rows = list[tuple[Cell, ...]]


def _row(number: int, row: tuple[Cell, ...]) -> str:
    cells = ""
    for column, cell in enumerate(row):
        place = f"{chr(ord('A') + column)}{number}"
        if isinstance(cell, str):
            cells += f'<c r="{place}" t="inlineStr"><is><t>{cell}</t></is></c>' if cell else ""
        else:
            style = f' s="{cell.style}"' if isinstance(cell, Percent) else ""
            cells += f'<c r="{place}"{style}><v>{float(cell)!r}</v></c>'
    return f'<row r="{number}">{cells}</row>'


def xlsx(sheets: dict[str, Rows], *, hidden: tuple[str, ...] = (), merged: tuple[str, ...] = ()) -> Callable[[], bytes]:
    """Make a workbook of sheets by name, with `merged` cells such as "B1:C1" in each."""

    def make() -> bytes:
        listed = "".join(
            f'<sheet name="{name}" sheetId="{n}" r:id="s{n}"{" state=" + chr(34) + "hidden" + chr(34) if name in hidden else ""}/>'
            for n, name in enumerate(sheets, start=1)
        )
        parts = {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _relations(r="officeDocument=xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>',
            "xl/styles.xml": _STYLES,
            "xl/_rels/workbook.xml.rels": _relations(
                styles="styles=styles.xml",
                **{f"s{n}": f"worksheet=worksheets/sheet{n}.xml" for n in range(1, len(sheets) + 1)},
            ),
        }
        for n, rows in enumerate(sheets.values(), start=1):
            inside = "".join(_row(number, row) for number, row in enumerate(rows, start=1))
            cells = "".join(f'<mergeCell ref="{one}"/>' for one in merged)
            merges = f"<mergeCells>{cells}</mergeCells>" if merged else ""
            parts[f"xl/worksheets/sheet{n}.xml"] = (
                f'<worksheet xmlns="{_SHEET}"><sheetData>{inside}</sheetData>{merges}</worksheet>'
            )
        return _zip(parts)

    return make


def ods(name: str, rows: str) -> bytes:
    """Return a workbook with one sheet, whose rows are given as XML."""
    namespaces = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    table = f'<table:table table:name="{name}">{rows}</table:table>'
    content = f"<office:document-content{namespaces}><office:body><office:spreadsheet>{table}</office:spreadsheet></office:body></office:document-content>"
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/>'
    manifest = f'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">{entry}</manifest:manifest>'
    return _zip({"mimetype": kind, "META-INF/manifest.xml": manifest, "content.xml": content})


def _ods_rows(*rows: tuple[Cell, ...]) -> str:
    cells = [
        f'<table:table-cell office:value-type="percentage" office:value="{cell!r}"><text:p>{100 * cell:g}%</text:p></table:table-cell>'
        if isinstance(cell, float)
        else f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
        for row in rows
        for cell in row
    ]
    width = len(rows[0])
    return "".join(
        f"<table:table-row>{''.join(cells[at : at + width])}</table:table-row>" for at in range(0, len(cells), width)
    )


_QUAY = _ods_rows(("Berth", "Depth"), ("North", "4.5"), ("South", "6"))


def _slide(title: str, text: str, *, more: str = "", show: str = "1") -> str:
    return (
        '<p:sld xmlns:p="urn:p" xmlns:a="urn:a" show="' + show + '"><p:cSld><p:spTree>'
        f'<p:sp><p:nvSpPr><p:cNvPr id="1"/><p:nvPr><p:ph type="title"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{title}</a:t></a:r></a:p></p:txBody></p:sp>'
        f"<p:grpSp><p:sp><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp></p:grpSp>{more}"
        '<p:sp><p:nvSpPr><p:cNvPr id="9"/><p:nvPr><p:ph type="sldNum"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>number of the slide</a:t></a:r></a:p></p:txBody></p:sp>'
        "</p:spTree></p:cSld></p:sld>"
    )


def _table(*rows: tuple[str, ...]) -> str:
    cells = "".join(
        "<a:tr>"
        + "".join(f"<a:tc><a:txBody><a:p><a:r><a:t>{cell}</a:t></a:r></a:p></a:txBody></a:tc>" for cell in row)
        + "</a:tr>"
        for row in rows
    )
    return f'<p:graphicFrame><a:tbl><a:tblPr firstRow="1"/>{cells}</a:tbl></p:graphicFrame>'


def pptx() -> bytes:
    slides = {
        "slide1": _slide("Fleet of the year", "Fourteen ships sail."),
        "slide2": _slide("Ghost", "Never shown.", show="0"),
        "slide3": _slide("Fees", "In euros.", more=_table(("Berth", "Fee"), ("North", "35"))),
    }
    order = "".join(f'<p:sldId id="{n}" r:id="{name}"/>' for n, name in enumerate(reversed(list(slides)), start=256))
    notes = _slide("", "Mention the new crane.")
    return _zip(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _relations(r="officeDocument=ppt/presentation.xml"),
            "ppt/presentation.xml": f'<p:presentation xmlns:p="urn:p" xmlns:r="{_OFFICE}"><p:sldIdLst>{order}</p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": _relations(**{name: f"slide=slides/{name}.xml" for name in slides}),
            "ppt/slides/_rels/slide3.xml.rels": _relations(n="notesSlide=../notesSlides/n3.xml"),
            "ppt/notesSlides/n3.xml": notes,
            **{f"ppt/slides/{name}.xml": text for name, text in slides.items()},
        }
    )


def slides_with_chart(chart: str) -> bytes:
    """Return slides, of which one shows this chart."""
    frame = f'<p:graphicFrame><c:chart xmlns:c="urn:c" xmlns:r="{_OFFICE}" r:id="c1"/></p:graphicFrame>'
    relations = {"ppt/slides/_rels/s.xml.rels": _relations(c1="chart=../charts/c.xml"), "ppt/charts/c.xml": chart}
    return _one_slide(_slide("Fleet", "Of two years.", more=frame), relations)


def slide_with_table(title: str, *rows: tuple[str, ...]) -> bytes:
    """Return a slide with a table, whose first row is its header."""
    return _one_slide(_slide(title, "Of two years.", more=_table(*rows)), {})


def _one_slide(slide: str, more: dict[str, str]) -> bytes:
    return _zip(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _relations(r="officeDocument=ppt/presentation.xml"),
            "ppt/presentation.xml": f'<p:presentation xmlns:p="urn:p" xmlns:r="{_OFFICE}"><p:sldIdLst><p:sldId id="256" r:id="s"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": _relations(s="slide=slides/s.xml"),
            "ppt/slides/s.xml": slide,
            **more,
        }
    )


_CSV = 'Berth;Depth;Remark\nNorth;4,5;"deep; but narrow"\nSouth;6,0;wide\n'
_POLISH = "Nazwa;Głębokość\nPółnoc;czterdzieści pięć metrów\nŚrodek;sześć metrów\n"
_REGIONS: Rows = [
    ("Fees of the third quarter",),
    (),
    ("Region", "Ships", "Fee"),
    ("North", 12, 3500.5),
    ("South", 9, 2800),
]
_MANY: Rows = [("Number", "Square"), *((float(n), float(n * n)) for n in range(1, 101))]

SAMPLES = [
    Sample(
        "regions.xlsx",
        xlsx(
            {"Q3": _REGIONS, "Ghosts": [("Ghost", 1)], "Crew": [("Name", "Post"), ("Ida", "keeper")]},
            hidden=("Ghosts",),
        ),
        (
            "Fees of the third quarter",
            "Region: North | Ships: 12 | Fee: 3500.5",
            "Ships: 9",
            "Name: Ida | Post: keeper",
        ),
        ("Ghost",),
        headings=("Fees of the third quarter",),
        labels=("Sheet Q3, rows 4–5", "Sheet Crew, rows 2–2"),
    ),
    Sample(
        "shares.xlsx",
        xlsx(
            {"Shares": [("Port", "Share", "Change", "Part"), ("Ayr", Percent(0.125), OwnPercent(-0.5), Written(0.7))]}
        ),
        ("Port: Ayr | Share: 12.5% | Change: -50% | Part: 0.7",),
    ),
    Sample(
        "many rows.xlsx",
        xlsx({"Squares": _MANY}),
        ("Number: 1 | Square: 1", "Number: 100 | Square: 10000"),
        labels=("Sheet Squares, rows 2–41", "Sheet Squares, rows 82–101"),
    ),
    Sample(
        "charges.xlsx",
        xlsx({"Bookings": [("Name", "Charge", "Fee", "Charge", "Fax"), ("Ida", "mooring", 35, "water", "")]}),
        ("Columns without values: Fax", "Name: Ida | Charge: mooring | Fee: 35 | Charge: water"),
    ),
    Sample(
        "accounts.xlsx",
        xlsx({"Accounts": [("Account", "Holder"), (1234567890123451.0, "Ida"), (2.5e20, "Bo")]}),
        ("Account: 1234567890123451 | Holder: Ida", "Account: 2.5e+20"),
    ),
    Sample("no rows.xlsx", xlsx({"Empty": []}), reason="empty"),
    Sample("broken.xlsx", lambda: xlsx({"A": _REGIONS})().replace(b"xl/worksheets", b"xl/worksheetz"), reason="broken"),
    Sample("quay.ods", lambda: ods("Quay", _QUAY), ("Berth: North | Depth: 4.5",), labels=("Sheet Quay, rows 2–3",)),
    Sample(
        "shares.ods",
        lambda: ods("Shares", _ods_rows(("Port", "Share"), ("Ayr", 0.125))),
        ("Port: Ayr | Share: 12.5%",),
    ),
    Sample(
        "fleet.pptx",
        pptx,
        ("Fourteen ships sail.", "Berth: North | Fee: 35", "Notes: Mention the new crane."),
        ("Never shown", "number of the slide"),
        headings=("Fleet of the year", "Fees"),
        labels=("Slide 1", "Slide 3"),
    ),
    Sample(
        "semicolons.csv", _CSV.encode, ("Berth: North | Depth: 4,5 | Remark: deep; but narrow",), labels=("Rows 2–3",)
    ),
    Sample("commas.csv", "Berth,Depth\nNorth,4.5\nSouth,6\n".encode, ("Berth: South | Depth: 6",)),
    Sample(
        "old encoding.csv", lambda: _POLISH.encode("cp1250"), ("Nazwa: Północ | Głębokość: czterdzieści pięć metrów",)
    ),
    Sample("tabs.tsv", "Berth\tDepth\nNorth, the old one\t4.5\n".encode, ("Berth: North, the old one | Depth: 4.5",)),
    Sample("figures alone.csv", "1,2\n3,4\n".encode, ("1 | 2", "3 | 4")),
]
