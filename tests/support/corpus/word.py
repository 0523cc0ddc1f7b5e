"""DOCX files, written as XML, so that they hold what Word writes and no library makes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

from tests.support.corpus import Sample

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_NAMESPACES = (
    f'xmlns:w="{_W}" xmlns:r="{_OFFICE}" xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)
_TYPES = """<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/></Types>"""
STYLES = """
<w:style w:type="paragraph" w:styleId="Berschrift1"><w:name w:val="heading 1"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Chapter"/><w:basedOn w:val="Berschrift1"/></w:style>
<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:type="character" w:styleId="Ghost"><w:name w:val="Ghost"/><w:rPr><w:vanish/></w:rPr></w:style>"""
NUMBERING = """
<w:abstractNum w:abstractNumId="1">
<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId="2"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="•"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="2"/></w:num>"""


def docx(body: str, **parts: str) -> Callable[[], bytes]:
    """Make a DOCX of the XML of its body and of further parts, by the name of the file: `styles`, `header1`, ..."""

    def make() -> bytes:
        out = io.BytesIO()
        relations = "".join(
            f'<Relationship Id="{name}" Type="{_OFFICE}/{name.rstrip("0123456789")}" Target="{name}.xml"/>'
            for name in parts
        )
        package = "http://schemas.openxmlformats.org/package/2006/relationships"
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("[Content_Types].xml", _TYPES)
            main = f'<Relationship Id="r" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/>'
            archive.writestr("_rels/.rels", f'<Relationships xmlns="{package}">{main}</Relationships>')
            archive.writestr(
                "word/_rels/document.xml.rels", f'<Relationships xmlns="{package}">{relations}</Relationships>'
            )
            archive.writestr("word/document.xml", f"<w:document {_NAMESPACES}><w:body>{body}</w:body></w:document>")
            for name, inside in parts.items():
                archive.writestr(f"word/{name}.xml", f"<w:part {_NAMESPACES}>{inside}</w:part>")
        return out.getvalue()

    return make


def p(text: str, *, style: str = "", number: str = "", level: int = 0) -> str:
    """Return a paragraph; `text` may hold elements beside its words."""
    list_ = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>' if number else ""
    properties = (f'<w:pStyle w:val="{style}"/>' if style else "") + list_
    inside = text if text.startswith("<") else r(text)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inside}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def table(*rows: tuple[str, ...], header: bool = False) -> str:
    """Return a table; a cell may hold elements."""
    lines = []
    for number, row in enumerate(rows):
        mark = "<w:trPr><w:tblHeader/></w:trPr>" if header and number == 0 else ""
        cells = "".join(f"<w:tc>{cell if cell.startswith('<w:') else p(cell)}</w:tc>" for cell in row)
        lines.append(f"<w:tr>{mark}{cells}</w:tr>")
    return f"<w:tbl><w:tblPr/>{''.join(lines)}</w:tbl>"


def control(inside: str, properties: str = "") -> str:
    return f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{inside}</w:sdtContent></w:sdt>"


def _box(text: str) -> str:
    content = f"<w:txbxContent>{p(text)}</w:txbxContent>"
    drawing = f'<mc:Choice Requires="wps"><w:drawing><wps:txbx>{content}</wps:txbx></w:drawing></mc:Choice>'
    old = f"<mc:Fallback><w:pict><v:textbox>{content}</v:textbox></w:pict></mc:Fallback>"
    return f"<w:r><mc:AlternateContent>{drawing}{old}</mc:AlternateContent></w:r>"


_SECTION = '<w:sectPr><w:headerReference w:type="{0}" r:id="header1"/><w:footerReference w:type="{0}" r:id="footer1"/></w:sectPr>'
_MERGED = (
    "<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val='2'/></w:tcPr>" + p("Pump station") + "</w:tc></w:tr>"
    "<w:tr><w:tc><w:tcPr><w:vMerge w:val='restart'/></w:tcPr>"
    + p("North")
    + "</w:tc><w:tc>"
    + p("14 bar")
    + "</w:tc></w:tr>"
    "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr>" + p("") + "</w:tc><w:tc>" + p("15 bar") + "</w:tc></w:tr></w:tbl>"
)
_DELETED_ROW = (
    "<w:tr><w:trPr><w:del w:id='1'/></w:trPr><w:tc>" + p("Removed row") + "</w:tc><w:tc>" + p("x") + "</w:tc></w:tr>"
)
_FIELD = (
    '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>HYPERLINK "https://example.org"</w:instrText></w:r>'
    '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
    + r("the tide table")
    + '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
)

SAMPLES = [
    Sample(
        "block control.docx",
        docx(p("Before.") + control(p("The valve opens at 22 bar."))),
        ("The valve opens at 22 bar.",),
    ),
    Sample(
        "inline control.docx",
        docx(f"<w:p>{r('The valve opens at ')}{control(r('33 bar'))}{r(' and closes at nine.')}</w:p>"),
        ("The valve opens at 33 bar and closes at nine.",),
    ),
    Sample(
        "control in controls.docx", docx(control(control(control(p("Deep valve: 44 bar."))))), ("Deep valve: 44 bar.",)
    ),
    Sample(
        "control around rows.docx",
        docx(
            f"<w:tbl>{control('<w:tr><w:tc>' + p('Valve') + '</w:tc>' + control('<w:tc>' + p('55 bar') + '</w:tc>') + '</w:tr>')}</w:tbl>"
        ),
        ("Valve | 55 bar",),
    ),
    Sample(
        "placeholder.docx",
        docx(p("Name:") + control(p("Click here to enter text."), "<w:showingPlcHdr/>")),
        ("Name:",),
        ("Click here",),
    ),
    Sample(
        "tracked changes.docx",
        docx(
            f"<w:p>{r('The fee is ')}<w:del w:id='1'><w:r><w:delText>90 euros</w:delText></w:r></w:del>"
            f"<w:ins w:id='2'>{r('120 euros')}</w:ins>{r(' a year.')}</w:p>"
            f"<w:p><w:moveFrom w:id='3'>{r('Old place.')}</w:moveFrom><w:moveTo w:id='4'>{r('New place.')}</w:moveTo></w:p>"
            + table(("Kept row", "y")).replace("</w:tbl>", _DELETED_ROW + "</w:tbl>")
        ),
        ("The fee is 120 euros a year.", "New place.", "Kept row"),
        ("90 euros", "Old place", "Removed row"),
    ),
    Sample(
        "text box.docx",
        docx(f"<w:p>{r('Beside the box.')}{_box('In the box: 66 bar.')}</w:p>"),
        ("Beside the box.", "In the box: 66 bar."),
    ),
    Sample(
        "nested table.docx",
        docx(table(("Outer", table(("Inner valve", "77 bar")) + p("")))),
        ("Outer", "Inner valve | 77 bar"),
    ),
    Sample(
        "margins.docx",
        docx(
            p("Body.")
            + f"<w:p><w:pPr>{_SECTION.format('default')}</w:pPr></w:p>"
            + p("More.")
            + _SECTION.format("first"),
            header1=p("Manual of the pump, edition 9"),
            footer1=p("Confidential to the harbour"),
        ),
        ("Manual of the pump, edition 9", "Confidential to the harbour", "Body.", "More."),
    ),
    Sample(
        "notes.docx",
        docx(
            f"<w:p>{r('The pump is old.')}<w:r><w:footnoteReference w:id='2'/></w:r><w:r><w:endnoteReference w:id='3'/></w:r></w:p>",
            footnotes=f"<w:footnote w:id='0' w:type='separator'>{p('sep')}</w:footnote><w:footnote w:id='2'>{p('Built in 1931.')}</w:footnote>",
            endnotes=f"<w:endnote w:id='3'>{p('See the archive.')}</w:endnote>",
        ),
        ("The pump is old.", "Footnote 2: Built in 1931.", "Endnote 3: See the archive."),
        ("sep",),
    ),
    Sample(
        "headings.docx",
        docx(
            p("Pump manual", style="Titel")
            + p("Start", style="Berschrift1")
            + p("Open the valve.")
            + p("Stop", style="Mine")
            + p("Close the valve."),
            styles=STYLES,
        ),
        ("Open the valve.", "Close the valve."),
        headings=("Start", "Stop"),
    ),
    Sample(
        "lists.docx",
        docx(
            p("Open", number="1")
            + p("Wait", number="1")
            + p("for a", number="1", level=1)
            + p("for b", number="1", level=1)
            + p("Close", number="1")
            + p("Rope", number="2"),
            numbering=NUMBERING,
        ),
        ("1. Open", "2. Wait", "2.a) for a", "2.b) for b", "3. Close", "- Rope"),
    ),
    Sample(
        "merged cells.docx",
        docx(_MERGED),
        ("Pump station", "North | 14 bar", "North | 15 bar"),
        ("Pump station | Pump",),
    ),
    Sample(
        "table with header.docx",
        docx(table(("Pump", "Pressure"), ("North", "14 bar"), ("South", "9 bar"), header=True)),
        ("Pump: North | Pressure: 14 bar", "Pump: South | Pressure: 9 bar"),
    ),
    Sample(
        "hidden.docx",
        docx(
            f"<w:p>{r('Seen.')}{r('unseen one', '<w:vanish/>')}{r('unseen two', chr(60) + 'w:rStyle w:val=' + chr(34) + 'Ghost' + chr(34) + '/>')}</w:p>",
            styles=STYLES,
        ),
        ("Seen.",),
        ("unseen",),
    ),
    Sample("field.docx", docx(f"<w:p>{r('See ')}{_FIELD}{r('.')}</w:p>"), ("See the tide table.",), ("HYPERLINK",)),
    Sample(
        "formula.docx",
        docx(f"<w:p>{r('Power is ')}<m:oMath><m:r><m:t>P=UI</m:t></m:r></m:oMath></w:p>"),
        ("Power is P=UI",),
    ),
    Sample(
        "smart tags.docx",
        docx(f"<w:p><w:smartTag>{r('Oslo')}</w:smartTag>{r(' has seven pumps.')}</w:p>"),
        ("Oslo has seven pumps.",),
    ),
    Sample("nothing.docx", docx(p("")), reason="empty"),
    Sample(
        "no document.docx", lambda: docx("")().replace(b"word/document.xml", b"word/document.xmk"), reason="unsupported"
    ),
]
