"""Files that are no PDFs, made to break their readers: archives, markup, text."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from rag.ingest.media_types import DOCX, HTML, MARKDOWN, PLAIN, XLSX
from tests.support.corpus import office
from tests.support.hostile_pdfs import COSTLY, MENDED, READ

EMPTY, UNCERTAIN = {"empty"}, {"unknown_encoding"}

_MiB = 1 << 20
DEEP = 100_000
_NAMESPACE = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_TYPES = b"""<?xml version="1.0"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml"
 ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
_RELATIONS = b"""<?xml version="1.0"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
 Target="%s" TargetMode="%s"/></Relationships>"""
_WORDS = b"<w:p><w:r><w:t>Hello from a hostile file.</w:t></w:r></w:p>"


def docx(document: bytes, *, target: bytes = b"word/document.xml", mode: bytes = b"Internal", times: int = 1) -> bytes:
    """Make a DOCX whose document begins with so many copies of this body."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", _TYPES)
        archive.writestr("_rels/.rels", _RELATIONS % (target, mode))
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(b"<w:document " + _NAMESPACE + b"><w:body>" if times > 1 else b"")
            for _ in range(times):
                part.write(document)
            part.write(b"</w:body></w:document>" if times > 1 else b"")
    return out.getvalue()


def body(inside: bytes, doctype: bytes = b"") -> bytes:
    return doctype + b"<w:document " + _NAMESPACE + b"><w:body>" + inside + b"</w:body></w:document>"


def docx_bomb() -> bytes:
    """Make a DOCX whose text unpacks to 80 MiB, and to many times that as a tree."""
    return docx(b"<w:p/>" * 174_762, times=80)


def docx_laughs() -> bytes:
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    return docx(body(b"<w:p><w:r><w:t>&l11;</w:t></w:r></w:p>", b'<!DOCTYPE x [<!ENTITY l0 "ha">' + laughs + b"]>"))


def docx_entities(url: bytes = b"http://127.0.0.1:9/") -> bytes:
    """Make a DOCX that takes in a file of the machine and an address, as entities, as a DTD and as a relation."""
    doctype = b'<!DOCTYPE x SYSTEM "%s" [<!ENTITY f SYSTEM "file:///etc/passwd"><!ENTITY u SYSTEM "%s">]>' % (url, url)
    return docx(body(_WORDS + b"<w:p><w:r><w:t>&f;&u;</w:t></w:r></w:p>", doctype))


def docx_elsewhere(url: bytes = b"http://127.0.0.1:9/") -> bytes:
    return docx(body(_WORDS), target=url, mode=b"External")


def docx_names() -> bytes:
    """Make a DOCX with parts whose names lead out of it."""
    out = io.BytesIO(docx(body(_WORDS)))
    with zipfile.ZipFile(out, "a") as archive:
        for name in ("../../evil.txt", "/etc/evil", "word/../../evil", "C:\\evil"):
            archive.writestr(name, "evil")
    return out.getvalue()


def docx_deep() -> bytes:
    return docx(body(b"<w:tbl><w:tr><w:tc>" * DEEP + _WORDS + b"</w:tc></w:tr></w:tbl>" * DEEP))


def docx_wide_table() -> bytes:
    """Make a table whose one cell says that it spans two billion columns."""
    cell = b'<w:tc><w:tcPr><w:gridSpan w:val="2147483647"/></w:tcPr><w:p/></w:tc>'
    return docx(body(b"<w:tbl><w:tr>" + cell + b"</w:tr></w:tbl>"))


def docx_flat_overlap() -> bytes:
    """Make a zip whose 2,000 entries all are the same 40 MiB."""
    data = docx(_WORDS * 20_000, times=20)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        part, start = archive.getinfo("word/document.xml"), archive.start_dir
    first = data[start : data.rindex(b"PK\x05\x06")]
    entry = struct.pack(
        "<4s4B4HL2L5H2L",
        *(b"PK\x01\x02", 20, 0, 20, 0, 0, 8, 0, 0, part.CRC, part.compress_size, part.file_size),
        *(17, 0, 0, 0, 0, 0, part.header_offset),
    )
    entries = first + b"".join(entry + b"word/a%07d.xml" % n for n in range(2_000))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2_003, 2_003, len(entries), start, 0)
    return data[:start] + entries + end


def deep_html() -> bytes:
    return b"<!doctype html>" + b"<div>" * DEEP + b"Hello" + b"</div>" * DEEP


def deep_mixed_html() -> bytes:
    return b"<!doctype html>" + b"<table><tr><td><ul><li><pre>x " * 20_000


def html_attributes() -> bytes:
    return b"<!doctype html><p " + b"".join(b"a%d=1 " % n for n in range(500_000)) + b">Hello</p>"


def html_entities(url: bytes = b"http://127.0.0.1:9/") -> bytes:
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    doctype = b'<?xml version="1.0"?><!DOCTYPE html SYSTEM "%s" [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "%s">' % (url, url)
    page = b'<html><body>&l11;&f;<img src="%s"><iframe src="%s"></iframe><p>Hello</body></html>' % (url, url)
    return doctype + laughs + b"]>" + page


def html_comments() -> bytes:
    """Make a file whose start was tried in 2**5000 ways to tell whether it is HTML."""
    return b"<!-- -->" * 5_000 + b"not a tag"


def html_charset() -> bytes:
    return b"<!doctype html><meta charset=" + b"x" * 100_000 + b"><p>Hello \xff\xfe\x00"


def markdown_quotes() -> bytes:
    return b">" * 50_000 + b" deep\n" + b"- " * 50_000 + b"deeper\n"


def markdown_brackets() -> bytes:
    return b"[" * 50_000 + b"a](<b" * 20_000 + b"*a **a _a __a `" * 20_000


def markdown_table() -> bytes:
    return b"|a" * 20_000 + b"|\n" + b"|-" * 20_000 + b"|\n" + b"|\n" * 20_000


def lines_of_one_letter() -> bytes:
    return b"a\n" * (8 * _MiB)


def half_characters() -> bytes:
    return b"\xff\xfe" + b"\x00\xd8" * _MiB + "Hello".encode("utf-16-le") + b"\x00"


def no_encoding() -> bytes:
    return b"Hello " + bytes(range(128, 256)) * 20_000


def far_corners() -> bytes:
    """Make a sheet of two cells, 17 billion cells apart."""
    corner = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    return _changed_sheet(lambda sheet: sheet.replace(b"</sheetData>", corner))


def sheet_bomb() -> bytes:
    """Make a sheet that unpacks to 200 MiB."""
    row = b'<row r="1"><c r="A1" t="inlineStr"><is><t>' + b"x" * _MiB + b"</t></is></c></row>"
    return _changed_sheet(lambda sheet: sheet.replace(b"</sheetData>", row * 200 + b"</sheetData>"))


def _changed_sheet(change: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(office.xlsx({"A": [("a", "b"), (1, 2)]})())) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, change(data) if "sheet1" in name else data)
    return out.getvalue()


TEXTS: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    "docx bomb": (DOCX, docx_bomb, COSTLY - READ),
    "docx laughs": (DOCX, docx_laughs, MENDED),
    "docx entities": (DOCX, docx_entities, MENDED),
    "docx elsewhere": (DOCX, docx_elsewhere, {"broken"}),
    "docx names": (DOCX, docx_names, READ),
    "docx deep": (DOCX, docx_deep, COSTLY),
    "docx wide table": (DOCX, docx_wide_table, EMPTY),
    "docx of one part 2,000 times": (DOCX, docx_flat_overlap, COSTLY),
    "deep HTML": (HTML, deep_html, COSTLY | EMPTY),
    "deep mixed HTML": (HTML, deep_mixed_html, COSTLY | EMPTY),
    "HTML attributes": (HTML, html_attributes, COSTLY),
    "HTML entities": (HTML, html_entities, READ),
    "HTML charset": (HTML, html_charset, READ),
    "comments alone": (PLAIN, html_comments, READ),
    "markdown quotes": (MARKDOWN, markdown_quotes, COSTLY | EMPTY),
    "markdown brackets": (MARKDOWN, markdown_brackets, COSTLY),
    "markdown table": (MARKDOWN, markdown_table, COSTLY),
    "lines of one letter": (PLAIN, lines_of_one_letter, COSTLY),
    "half characters": (PLAIN, half_characters, COSTLY),
    "xlsx of far corners": (XLSX, far_corners, COSTLY),
    "xlsx bomb": (XLSX, sheet_bomb, COSTLY),
    "no encoding": (PLAIN, no_encoding, UNCERTAIN),
}
