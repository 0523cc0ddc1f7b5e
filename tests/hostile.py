"""Files made to break their readers, written by the tests themselves."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
_PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
_PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
    b"/Resources << /Font << /A 5 0 R >> /XObject << /F 6 0 R >> >> >>"
)
_FORM = b"/Type /XObject /Subtype /Form /BBox [0 0 600 800] /Resources << /XObject << /F %d 0 R >> >>"


def pdf_of(*objects: bytes) -> bytes:
    """Assemble a PDF; the first object is its catalog."""
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """Make a stream object."""
    return b"<< /Length %d %s >>\nstream\n" % (len(data), entries) + data + b"\nendstream"


def one_page(content: bytes, *more: bytes) -> bytes:
    """Make a PDF of one page with this content stream object; further objects count from 6."""
    return pdf_of(_CATALOG, _PAGES, _PAGE, content, _FONT, *more)


def packed(data: bytes) -> bytes:
    """Make a compressed stream object."""
    return stream(zlib.compress(data, 9), b"/Filter /FlateDecode")


def slow_text() -> bytes:
    """Make 26 KB that keep pdfium busy for minutes: millions of letters in one place."""
    return one_page(packed(b"BT /A 1 Tf 10 10 Td " + b"(aaaaaaaaaaaaaaaaaaaa) Tj " * 400_000 + b"ET"))


def bomb() -> bytes:
    """Make a stream that unpacks to 512 MiB."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(512)) + packer.flush()
    twice = zlib.compress(data, 9)
    return one_page(stream(twice, b"/Filter [/FlateDecode /FlateDecode]"))


def self_reference() -> bytes:
    """Make a form that draws itself."""
    return one_page(stream(b"/F Do"), stream(b"/F Do", _FORM % 6))


def doubling_forms() -> bytes:
    """Make forms that each draw the next ten times."""
    forms = [stream(b"/F Do\n" * 10, _FORM % (7 + depth)) for depth in range(14)]
    return one_page(stream(b"/F Do\n" * 10), *forms, stream(b"", _FORM % 6))


def page_tree_of_a_trillion() -> bytes:
    """Make a page tree whose nodes each hold the next ten times."""
    nodes = [b"<< /Type /Pages /Count 1000000000000 /Kids [" + b"%d 0 R " % (n + 3) * 10 + b"] >>" for n in range(12)]
    return pdf_of(_CATALOG, *nodes, b"<< /Type /Page /MediaBox [0 0 600 800] >>")


def page_loop() -> bytes:
    """Make a page tree that holds itself."""
    return pdf_of(_CATALOG, b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>")


def deep_nesting() -> bytes:
    """Make an array nested a hundred thousand deep."""
    return one_page(stream(b"[" * 100_000 + b"]" * 100_000 + b" 0 d"), b"[" * 100_000 + b"]" * 100_000)


def many_pages(count: int) -> bytes:
    """Make a file of so many empty pages."""
    kids = b" ".join(b"%d 0 R" % n for n in range(3, count + 3))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] >>"
    return pdf_of(_CATALOG, b"<< /Type /Pages /Kids [" + kids + b"] /Count %d >>" % count, *[page] * count)


def surrogates_and_nul() -> bytes:
    """Make a page whose font maps its letters to NUL and to half of a character."""
    cmap = b"1 begincodespacerange <00> <ff> endcodespacerange 2 beginbfchar <61> <0000> <62> <d800> endbfchar"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    content = stream(b"BT /A 12 Tf 10 10 Td (ab visible) Tj ET")
    return pdf_of(_CATALOG, _PAGES, _PAGE, content, font, stream(cmap))


def docx_bomb() -> bytes:
    """Make a DOCX whose text unpacks to 64 MiB, and to many times that as a tree."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", _CONTENT_TYPES)
        archive.writestr("_rels/.rels", _RELATIONS)
        with archive.open("word/document.xml", "w", force_zip64=True) as document:
            document.write(
                b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
            )
            for _ in range(64):
                document.write(b"<w:p/>" * (174_762))
            document.write(b"</w:body></w:document>")
    return out.getvalue()


_CONTENT_TYPES = """<?xml version="1.0"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml"
 ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
_RELATIONS = """<?xml version="1.0"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
 Target="word/document.xml"/></Relationships>"""

FILES: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "slow text": (slow_text, {"timeout", "too_large"}),
    "bomb": (bomb, {"too_large"}),
    "self reference": (self_reference, {"read"}),
    "doubling forms": (doubling_forms, {"read", "timeout", "too_large"}),
    "page tree of a trillion": (page_tree_of_a_trillion, {"too_long", "too_large", "broken"}),
    "page loop": (page_loop, {"broken"}),
    "deep nesting": (deep_nesting, {"read", "broken"}),
    "many pages": (lambda: many_pages(6_000), {"too_long"}),
    "surrogates and NUL": (surrogates_and_nul, {"read"}),
}
