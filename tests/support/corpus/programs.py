"""What other programs write in ways of their own: names of parts, binary sheets, diagrams, documents in documents."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

from tests.support.corpus import Sample
from tests.support.corpus.folders import epub
from tests.support.corpus.office import slides_with_chart
from tests.support.corpus.pages import page
from tests.support.corpus.word import docx, p

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def rewritten(data: bytes, **parts: str) -> bytes:
    """Return a package with some words of its parts and of their names replaced."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            name, text = part, old.read(part).decode()
            for before, after in parts.items():
                name, text = name.replace(before, after), text.replace(before, after)
            new.writestr(name, text)
    return out.getvalue()


def renamed() -> bytes:
    """Return a DOCX whose main part has the name that Office 365 gives it."""
    listed = f'<Override PartName="/word/document2.xml" ContentType="{_WORD}"/></Types>'
    return rewritten(docx(p("The pier is closed."))(), **{"document.xml": "document2.xml", "</Types>": listed})


def _record(kind: int, data: bytes = b"") -> bytes:
    """Return a record of a binary workbook (MS-XLSB 2.1.4)."""
    number = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
    return number + bytes([len(data)]) + data


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def xlsb(*rows: tuple[str | float, ...]) -> bytes:
    """Return a binary workbook with one sheet."""
    sheet = _record(148, struct.pack("<4I", 0, len(rows) - 1, 0, len(rows[0]) - 1)) + _record(145)
    for number, row in enumerate(rows):
        sheet += _record(0, struct.pack("<I", number) + bytes(13))
        for column, cell in enumerate(row):
            place = struct.pack("<II", column, 0)
            kind, value = (6, _wide(cell)) if isinstance(cell, str) else (5, struct.pack("<d", cell))
            sheet += _record(kind, place + value)
    listed = struct.pack("<II", 0, 1) + _wide("s1") + _wide("Fees")
    workbook = _record(131) + _record(143) + _record(156, listed) + _record(144) + _record(132)
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    link = f'<Relationships xmlns="{package}"><Relationship Id="{{}}" Type="{_OFFICE}/{{}}" Target="{{}}"/></Relationships>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("_rels/.rels", link.format("r", "officeDocument", "xl/workbook.bin"))
        archive.writestr("xl/_rels/workbook.bin.rels", link.format("s1", "worksheet", "worksheets/sheet1.bin"))
        archive.writestr("xl/workbook.bin", workbook)
        archive.writestr("xl/worksheets/sheet1.bin", sheet + _record(146))
    return out.getvalue()


def _point(number: str, text: str = "", kind: str = "node") -> str:
    return f'<d:pt modelId="{number}" type="{kind}"><d:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></d:t></d:pt>'


_DIAGRAM = (
    f"<d:ptLst>{_point('0', kind='doc')}{_point('3', 'Second mate')}{_point('1', 'Captain')}{_point('2', 'First mate')}"
    f"{_point('9', 'Ghost', 'parTrans')}</d:ptLst><d:cxnLst>"
    '<d:cxn modelId="4" srcId="0" destId="1" srcOrd="0"/><d:cxn modelId="5" srcId="1" destId="3" srcOrd="1"/>'
    '<d:cxn modelId="6" srcId="1" destId="2" srcOrd="0"/>'
    '<d:cxn modelId="7" type="presOf" srcId="2" destId="3" srcOrd="0"/></d:cxnLst>'
)
_DIAGRAM_SPACE = 'xmlns:d="urn:d" xmlns:a="urn:a"'
_CREW = ("- Captain", "- First mate - Second mate")


def _diagram_pptx() -> bytes:
    slides = slides_with_chart(f"<d:dataModel {_DIAGRAM_SPACE}>{_DIAGRAM}</d:dataModel>")
    shown = {
        "<c:chart xmlns:c": '<c:relIds r:dm="c1" xmlns:c',
        ' r:id="c1"': "",
        f"{_OFFICE}/chart": f"{_OFFICE}/diagramData",
    }
    return rewritten(slides, **shown)


def _with_part(body: str, kind: str, part: str, data: bytes) -> Callable[[], bytes]:
    """Make a DOCX with one more part, to which the relation `x` leads."""

    def make() -> bytes:
        relation = f'<Relationship Id="x" Type="{_OFFICE}/{kind}" Target="{part}"/></Relationships>'
        out = io.BytesIO(rewritten(docx(body, styles="")(), **{"</Relationships>": relation}))
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(f"word/{part}", data)
        return out.getvalue()

    return make


_CHUNK = p("Before it.") + '<w:altChunk r:id="x"/>' + p("Behind it.")
_WEB_ARCHIVE = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"<h1>Caf=C3=A9 of the port</h1><p>It opens at six.</p><script>Ghost</script>\r\n--b--\r\n"
)
_SITE = '<html><head><meta charset="utf-8"><title>Tides</title></head><body><nav>Ghost</nav><p>Ebb at nine.</p></body></html>'


def _mail(body: str) -> Callable[[], bytes]:
    """Make a mail of the lines of its body, whose boundaries are `a` and `b`."""
    head = "From: ida@quay.test\nTo: bo@quay.test\nSubject: The lamp\nMIME-Version: 1.0\n"
    return (head + body).replace("\n", "\r\n").encode


_SIGNED = """Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=a

--a
Content-Type: text/plain

The lamp is lit at dusk.
--a
Content-Type: application/pgp-signature; name=signature.asc

-----BEGIN PGP SIGNATURE-----
Ghost
--a--
"""
_ENCRYPTED = """Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=a

--a
Content-Type: application/pgp-encrypted

Ghost: 1
--a
Content-Type: application/octet-stream

-----BEGIN PGP MESSAGE-----
Ghost
--a--
"""
# As programs of Apple put a file beside the page of a mail.
_BESIDE = """Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain

The plan is attached.
--a
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html

<p>The plan is attached.</p>
--b
Content-Type: text/plain; name=plan.txt
Content-Disposition: inline; filename=plan.txt

Dig deeper.
--b--
--a--
"""
_NO_PAGES = f"""Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain

Ghost: your program shows no pages.
--a
Content-Type: text/html

<h1>News of the quay</h1><p>{"The crane is new. " * 12}</p>
--a--
"""


def _named(*names: bytes) -> bytes:
    """Return a ZIP folder of files with names in an encoding that the ZIP does not say."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(len(names)):
            archive.writestr(str(number) * len(names[number]), f"Words of file {number}.")
    data = out.getvalue()
    for number, name in enumerate(names):
        data = data.replace(str(number).encode() * len(name), name)
    return data


_PLOT = "The keeper climbs the tower and lights the lamp before the storm. " * 30
_TITLED = "<title>Harbour of Ayr | Opening hours | Harbour of Ayr</title><p>It opens at nine.</p>"
_ARTICLE = {
    "name": "Lamp",
    "text": "<p>The lamp is <b>lit</b> at dusk.</p><ul><li>Oil</li><li>Wick</li></ul>",
    "rule": "a < b",
}

SAMPLES = [
    Sample("signed.eml", _mail(_SIGNED), ("The lamp is lit at dusk.",), ("Ghost", "Attachments")),
    Sample("encrypted.eml", _mail(_ENCRYPTED), ("Subject: The lamp",), ("Ghost",), warnings={1: "encrypted"}),
    Sample(
        "beside.eml",
        _mail(_BESIDE),
        ("Attachments: plan.txt", "The plan is attached. Dig deeper."),
        labels=("File plan.txt",),
    ),
    Sample("no pages.eml", _mail(_NO_PAGES), ("The crane is new.",), ("Ghost",), headings=("News of the quay",)),
    Sample(
        "of a mac.zip",
        lambda: _named("Größe.txt".encode(), "Café/Zürich.txt".encode()),
        ("Words of file 0.", "Words of file 1."),
        labels=("File Größe.txt", "File Café/Zürich.txt"),
    ),
    Sample(
        "of japan.zip",
        lambda: _named("港の料金表と入港の手続き.txt".encode("cp932"), "灯台の記録と保守の予定.txt".encode("cp932")),
        labels=("File 港の料金表と入港の手続き.txt", "File 灯台の記録と保守の予定.txt"),
    ),
    Sample(
        "of germany.zip", lambda: _named("Größe der Häfen.txt".encode("cp437")), labels=("File Größe der Häfen.txt",)
    ),
    Sample(
        "cover.epub",
        lambda: epub(("", ""), ("Tides", "Water falls.")),
        ("Title: Of Harbours Author: M. Quay Tides Water falls.",),
        ("Author: M. Quay Title",),
    ),
    Sample("titled.html", page(_TITLED, head="<meta charset=utf-8>"), ("Harbour of Ayr | Opening hours It opens",)),
    Sample(
        "articles.json",
        lambda: json.dumps([_ARTICLE]).encode(),
        ("name: Lamp | text: The lamp is lit at dusk. - Oil - Wick | rule: a < b",),
    ),
    Sample(
        "plots.csv",
        f"Year,Title,Plot\n1901,The Lamp,{_PLOT}\n1902,The Rope,Short.\n".encode,
        ("Row 2: The Lamp Year: 1901 Title: The Lamp Plot: The keeper climbs", "Row 3: The Rope Year: 1902"),
        headings=("Row 2: The Lamp",),
        labels=("Rows 2–3",),
    ),
    Sample(
        "articles.csv",
        lambda: b'Name,Text\nLamp,"<p>Lit at <b>dusk</b>.</p>"\nRope,<div>Of hemp.</div>\n',
        ("Name: Lamp | Text: Lit at dusk. Name: Rope | Text: Of hemp.",),
    ),
    Sample("by office 365.docx", renamed, ("The pier is closed.",)),
    Sample("cut off.docx", lambda: docx(p("Ghost"))()[:-200], reason="broken"),
    Sample("cut off.zip", lambda: docx(p("Ghost"))()[:-200], reason="broken"),
    Sample(
        "binary.xlsb",
        lambda: xlsb(("Berth", "Fee"), ("North", 35.0), ("South", 40.5)),
        ("Berth: North | Fee: 35", "Berth: South | Fee: 40.5"),
        labels=("Sheet Fees, rows 2–3",),
    ),
    Sample("crew.pptx", _diagram_pptx, _CREW, ("Ghost",)),
    Sample(
        "crew.docx",
        _with_part(
            p(f'<w:r><w:drawing><d:relIds {_DIAGRAM_SPACE} r:dm="x"/></w:drawing></w:r>'),
            "diagramData",
            "data1.xml",
            f"<d:dataModel {_DIAGRAM_SPACE}>{_DIAGRAM}</d:dataModel>".encode(),
        ),
        _CREW,
        ("Ghost",),
    ),
    Sample(
        "with a page.docx",
        _with_part(_CHUNK, "aFChunk", "part.htm", _SITE.encode()),
        ("Before it.", "Ebb at nine.", "Behind it."),
        ("Ghost", "<"),
    ),
    Sample(
        "with an archive.docx",
        _with_part(_CHUNK, "aFChunk", "part.mht", _WEB_ARCHIVE),
        ("Before it. Café of the port It opens at six. Behind it.",),
        ("Ghost", "MIME"),
        headings=("Café of the port",),
    ),
    Sample(
        "with a letter.docx",
        _with_part(_CHUNK, "aFChunk", "part.docx", docx(p("Dear harbour master."))()),
        ("Before it. Dear harbour master. Behind it.",),
    ),
    Sample("utf-16.html", lambda: _SITE.encode("utf-16"), ("Ebb at nine.",), ("Ghost", "<")),
]
