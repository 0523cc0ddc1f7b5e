"""PDFs made byte by byte, and a few that break their readers. More are in hostile_pdfs.py and hostile_streams.py."""

from __future__ import annotations

import zlib

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
    parts, offsets, at = [b"%PDF-1.4\n"], [], len(b"%PDF-1.4\n")
    for number, body in enumerate(objects, start=1):
        offsets.append(at)
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        at += len(parts[-1])
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, at)
    return b"".join((*parts, b"xref\n0 %d\n0000000000 65535 f \n" % size, table, trailer))


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


def deflated(piece: bytes, times: int) -> bytes:
    """Compress `times` copies of a piece without compressing each: a block that looks at no other, repeated."""
    packer = zlib.compressobj(9)
    first = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(times):
        check = zlib.adler32(piece, check)
    return first + again * (times - 1) + b"\x03\x00" + check.to_bytes(4, "big")


def bomb() -> bytes:
    """Make a stream that unpacks to 512 MiB."""
    twice = zlib.compress(deflated(b" " * (1 << 20), 512), 9)
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
