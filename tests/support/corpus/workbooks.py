"""Workbooks with headers of several rows, merged cells, bare figures and drawings; mailboxes, books and odd pages."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from tests.support.corpus import Sample
from tests.support.corpus.folders import epub, mail
from tests.support.corpus.office import Rows, xlsx
from tests.support.corpus.pages import page
from tests.support.corpus.programs import rewritten, xlsb
from tests.support.corpus.word import docx, p

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_LINK = (
    f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="{{}}" Type="{_OFFICE}/{{}}" Target="{{}}"/></Relationships>'
)

_GROUPS: Rows = [
    ("Catch of the harbour",),
    ("", "2021", "", "2022", ""),
    ("Port", "Boats", "Tons", "Boats", "Tons"),
    ("Oslo", 12, 3500, 14, 3710),
    ("Bergen", 9, 2800, 8, 2650),
]
_MERGED: Rows = [
    ("Port", "Herring", "", "Cod", ""),
    ("", "Boats", "Weight", "Crew", "Value"),
    ("Oslo", 12, 3500, 14, 3710),
    ("", 11, 3400, 13, 3600),
    ("Bergen", 9, 2800, 8, 2650),
]
_ABOVE: Rows = [
    ("Report of the keeper",),
    ("Date:", "2 May"),
    ("Made by:", "Alma"),
    (),
    ("", "2019", "2020"),
    ("Boats", 14, 17),
    ("Tons", 3500, 3710),
]
_SEVERAL: Rows = [
    ("Harbour of Oslo",),
    (),
    ("Berth", "Fee"),
    ("North", 35.0),
    ("South", 28.0),
    (),
    ("East", 31.0),
    (),
    ("Boat", "Crew", "Tons"),
    ("Asa", 12, 3500),
    (),
    ("Catch of May",),
    ("Fish", "Boxes"),
    ("Cod", 140),
]
_UNNAMED: Rows = [("", "Post", "Since"), ("Alma", "keeper", "spring"), ("Ida", "pilot", "autumn")]
_BARE: Rows = [(3, 5.5), (7, 11), (13, 17.25)]


def drawn(data: bytes, sheet: str, *shapes: str) -> bytes:
    """Return a workbook of which a part, such as `sheet1.xml`, has shapes with these texts."""
    drawing = "".join(
        f"<x:sp><x:nvSpPr><x:cNvPr id='{n}' name='Box'/></x:nvSpPr><x:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p>"
        "</x:txBody></x:sp>"
        for n, text in enumerate(shapes)
    )
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(f"xl/worksheets/_rels/{sheet}.rels", _LINK.format("d", "drawing", "../drawings/drawing1.xml"))
        archive.writestr("xl/drawings/drawing1.xml", f'<x:wsDr xmlns:x="urn:x" xmlns:a="urn:a">{drawing}</x:wsDr>')
    return out.getvalue()


def _boxes(*, hidden: tuple[str, ...] = ()) -> Callable[[], bytes]:
    made = xlsx(
        {"Plan": [("Berth", "Fee"), ("North", 35.0)], "Old": [("Berth", "Fee"), ("South", 28.0)]}, hidden=hidden
    )
    return lambda: drawn(made(), "sheet2.xml", "The pier is closed in winter.")


def _beta() -> bytes:
    """Return a binary workbook as the beta of Excel 2007 wrote it: four more bytes in the record of a sheet."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(xlsb(("Berth", "Fee"), ("North", 35.0)))) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "xl/workbook.bin":
                at = data.index(b"\x9c\x01") + 2
                data = data[:at] + bytes([data[at] + 4]) + bytes(4) + data[at + 1 :]
            new.writestr(name, data)
    return out.getvalue()


def mailbox(count: int) -> bytes:
    """Return a mailbox of so many mails, whose texts have lines that begin as a separator does."""
    line = "From asa@example.org Tue Mar  3 09:12:00 2026"
    return "".join(
        f"{line}\nFrom: asa@example.org\nSubject: Berth {n}\n\nFrom the summer of 2004 on\nberth {n} was closed.\n\n"
        for n in range(1, count + 1)
    ).encode()


_SOURCE = (
    "&lt;!DOCTYPE html&gt; &lt;html&gt;&lt;head&gt;&lt;title&gt;Tides&lt;/title&gt;&lt;!-- Ghost --&gt;"
    "&lt;script&gt;Ghost&lt;/script&gt;&lt;/head&gt;"
)

_LONG = "The keeper wrote of the tide and of the wind each morning. " * 50
_CHAPTERS = f"{_LONG}</p><h2>The second tide</h2><p>{_LONG} The lamp went out.</p><h2>The third tide</h2><p>The lamp burned again."
_FOUR_LANGUAGES = "<h1>Prices</h1><p>Die schöne Frau hat 3,50 € bezahlt. L'été était chaud. El niño comió paella. Kvinnan åt köttbullar.</p>"

SAMPLES = [
    Sample(
        "chapters in one file.epub",
        lambda: epub(("The first tide", _CHAPTERS)),
        ("The lamp went out.", "The lamp burned again."),
        labels=("Section The first tide", "Section The second tide", "Section The third tide"),
    ),
    Sample(
        "caption of a figure.html",
        page(
            "<figure><img src=x alt=Pier><figcaption aria-hidden=true>The pier in 1920</figcaption></figure><p>Text.</p>"
        ),
        ("The pier in 1920",),
    ),
    Sample(
        "four languages without an encoding.html",
        lambda: f"<html><body>{_FOUR_LANGUAGES}</body></html>".encode("cp1252"),
        ("schöne Frau hat 3,50 €", "El niño", "köttbullar"),
    ),
    Sample(
        "groups of columns.xlsx",
        xlsx({"Catch": _GROUPS}),
        (
            "Port: Oslo | 2021 Boats: 12 | 2021 Tons: 3500 | 2022 Boats: 14 | 2022 Tons: 3710",
            "Port: Bergen | 2021 Boats: 9",
        ),
        headings=("Catch of the harbour",),
    ),
    Sample(
        "merged header.xlsx",
        xlsx({"Catch": _MERGED}, merged=("A1:A2", "B1:C1", "D1:E1", "A3:A4")),
        (
            "Port: Oslo | Herring Boats: 12 | Herring Weight: 3500 | Cod Crew: 14 | Cod Value: 3710",
            "Port: Oslo | Herring Boats: 11",
            "Port: Bergen | Herring Boats: 9",
        ),
    ),
    Sample(
        "lines above the header.xlsx",
        xlsx({"Boats": _ABOVE}),
        ("Date: | 2 May", "Boats | 2019: 14 | 2020: 17", "Tons | 2019: 3500 | 2020: 3710"),
        headings=("Report of the keeper",),
    ),
    Sample(
        "several tables.xlsx",
        xlsx({"Harbour": _SEVERAL}),
        (
            "Berth: South | Fee: 28",
            "Berth: East | Fee: 31",
            "Boat: Asa | Crew: 12 | Tons: 3500",
            "Fish: Cod | Boxes: 140",
        ),
        ("Berth: Boat", "Fee: Crew", "Boat: Fish"),
        headings=("Harbour of Oslo", "Catch of May"),
        labels=("Sheet Harbour, rows 4–8", "Sheet Harbour, rows 10–11", "Sheet Harbour, rows 14–14"),
    ),
    Sample(
        "names in other letters.xlsx",
        lambda: rewritten(
            xlsx({"Berths": [("Berth", "Fee"), ("North", 35.0)]})(),
            **{"[Content_Types]": "[content_types]", "xl/": "XL/"},
        ),
        ("Berth: North | Fee: 35",),
        labels=("Sheet Berths, rows 2–2",),
    ),
    Sample(
        "names in other letters.docx",
        lambda: rewritten(
            docx(p("The pier is closed."))(), **{"[Content_Types]": "[content_types]", "word/doc": "Word/doc"}
        ),
        ("The pier is closed.",),
        labels=("1",),
    ),
    Sample(
        "header with an empty corner.xlsx",
        xlsx({"Crew": _UNNAMED}),
        ("Alma | Post: keeper | Since: spring", "Ida | Post: pilot | Since: autumn"),
    ),
    Sample(
        "bare figures.xlsx",
        xlsx({"Data": _BARE}),
        ("Row: 1 | A: 3 | B: 5.5", "Row: 3 | A: 13 | B: 17.25"),
        labels=("Sheet Data, rows 1–3",),
    ),
    Sample(
        "text boxes.xlsx",
        _boxes(),
        ("Berth: South | Fee: 28", "The pier is closed in winter."),
        labels=("Sheet Plan, rows 2–2", "Sheet Old, text boxes"),
    ),
    Sample("text boxes of a hidden sheet.xlsx", _boxes(hidden=("Old",)), ("North",), ("The pier", "South")),
    Sample(
        "text boxes.xlsb",
        lambda: drawn(xlsb(("Berth", "Fee"), ("North", 35.0)), "sheet1.bin", "The pier is closed in winter."),
        ("Berth: North | Fee: 35", "The pier is closed in winter."),
        labels=("Sheet Fees, text boxes",),
    ),
    Sample("beta.xlsb", _beta, reason="broken"),
    Sample(
        "utf-16.eml",
        lambda: mail("The lamp was changed in April.", subject="Lamp").decode().encode("utf-16-le"),
        ("Subject: Lamp", "The lamp was changed in April."),
        ("Content-Type",),
    ),
    Sample(
        "utf-16 with a mark.eml",
        lambda: mail("The lamp was changed in May.", subject="Lamp").decode().encode("utf-16"),
        ("Subject: Lamp", "The lamp was changed in May."),
        ("Content-Type",),
    ),
    Sample(
        "bare.mbox",
        lambda: b"From asa@example.org Tue Mar  3 09:12:00 2026\n\nThe berth is closed.\n\n" + mailbox(1),
        ("The berth is closed.", "Subject: Berth 1", "From the summer of 2004 on berth 1 was closed."),
        ("Tue Mar",),
        labels=("Message 1", "Message 2: Berth 1"),
    ),
    Sample(
        "source of a page.html",
        page(
            f"<p>{_SOURCE}</p><h1>&lt;!-- ### Ghost --&gt;</h1><p>&lt;h2&gt;Ebb&lt;/h2&gt;&lt;p&gt;At nine.&lt;/p&gt;</p>"
        ),
        ("Tides", "At nine."),
        ("Ghost", "<", "DOCTYPE"),
        headings=("Ebb",),
    ),
    Sample(
        "renamed sheets.xlsx",
        lambda: rewritten(_boxes()(), **{"drawing1.xml": "vmlDrawing.xml"}),
        ("Berth: South | Fee: 28", "The pier is closed in winter."),
    ),
]
