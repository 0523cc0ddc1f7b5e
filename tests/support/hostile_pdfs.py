"""PDFs whose structure is made to break their readers: trees that loop, tables that lie, nesting, keys, actions."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from tests.support.hostile import (
    deep_nesting,
    deflated,
    many_pages,
    one_page,
    page_loop,
    page_tree_of_a_trillion,
    pdf_of,
    stream,
)

CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
HELLO = stream(b"BT /A 12 Tf 10 10 Td (Hello from a hostile file) Tj ET")
_PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> "
DEEP = 100_000
HUGE = 10**12


def catalog_with(entries: bytes, *more: bytes) -> bytes:
    """Make a readable page whose catalog holds more; further objects count from 6."""
    return pdf_of(CATALOG[:-2] + entries + b" >>", PAGES, _PAGE + b">>", HELLO, FONT, *more)


def page_with(entries: bytes, *more: bytes) -> bytes:
    """Make a readable page that holds more; further objects count from 6."""
    return pdf_of(CATALOG, PAGES, _PAGE + entries + b">>", HELLO, FONT, *more)


def trailer_with(entries: bytes, *more: bytes) -> bytes:
    """Make a readable page whose trailer holds more."""
    return catalog_with(b"", *more).replace(b"/Root 1 0 R", b"/Root 1 0 R " + entries)


def plain() -> bytes:
    """Make a file of one readable page."""
    return catalog_with(b"")


def _tree(pages: bytes, *more: bytes) -> bytes:
    return pdf_of(CATALOG, pages, _PAGE + b">>", HELLO, FONT, *more)


def two_node_loop() -> bytes:
    return _tree(b"<< /Type /Pages /Count 2 /Kids [6 0 R] >>", b"<< /Type /Pages /Count 2 /Kids [2 0 R 3 0 R] >>")


def deep_page_tree() -> bytes:
    """Make a page under 20,000 nodes."""
    nodes = [b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (n + 3) for n in range(20_000)]
    return pdf_of(CATALOG, *nodes, b"<< /Type /Page /MediaBox [0 0 9 9] >>")


def parent_loop() -> bytes:
    """Make a page that would inherit everything from itself."""
    return pdf_of(CATALOG, PAGES, b"<< /Type /Page /Parent 3 0 R /Contents 4 0 R >>", HELLO, FONT)


def _xref_at(data: bytes) -> int:
    return int(data.rpartition(b"startxref\n")[2].split()[0])


def previous_table_is_itself() -> bytes:
    data = plain()
    return data.replace(b"/Root 1 0 R", b"/Root 1 0 R /Prev %d" % _xref_at(data))


def many_updates() -> bytes:
    """Make a file that was changed 5,000 times."""
    parts = [plain()]
    before, size = _xref_at(parts[0]), len(parts[0])
    for _ in range(5_000):
        update = b"xref\n0 0\ntrailer\n<< /Size 6 /Root 1 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n" % (before, size)
        before, size = size, size + len(update)
        parts.append(update)
    return b"".join(parts)


def _with_xref_stream(entries: bytes, table: bytes, *objects: bytes) -> bytes:
    """Make a file whose cross-references are a stream at `%d`, if its entries ask for the place."""
    out = b"%PDF-1.5\n" + b"".join(b"%d 0 obj\n%s\nendobj\n" % (n, body) for n, body in enumerate(objects, start=1))
    at = len(out)
    where = entries.replace(b"HERE", b"%d" % at)
    number = len(objects) + 1
    body = stream(table, b"/Type /XRef /W [1 4 2] /Root 1 0 R " + where)
    return out + b"%d 0 obj\n%s\nendobj\nstartxref\n%d\n%%%%EOF\n" % (number, body, at)


def xref_stream_loop() -> bytes:
    return _with_xref_stream(b"/Size 6 /Prev HERE", bytes(42), CATALOG, PAGES, _PAGE + b">>", HELLO, FONT)


def xref_stream_of_a_billion() -> bytes:
    entries = b"/Size 1000000000 /Index [0 1000000000]"
    return _with_xref_stream(entries, bytes(7_000), CATALOG, PAGES, _PAGE + b">>", HELLO, FONT)


def xref_stream_bomb() -> bytes:
    """Make cross-references that unpack to 40 million entries."""
    table = zlib.compress(deflated(bytes(1 << 20), 256), 9)
    entries = b"/Size 38347922 /Filter [/FlateDecode /FlateDecode]"
    return _with_xref_stream(entries, table, CATALOG, PAGES, _PAGE + b">>", HELLO, FONT)


def table_of_a_billion() -> bytes:
    return plain().replace(b"xref\n0 6", b"xref\n0 1000000000")


def tables_of_many_parts() -> bytes:
    """Make a table of 100,000 sections that each begin at a number of two billion."""
    data = plain()
    at = _xref_at(data)
    sections = b"2147483000 1\n0000000000 65535 n \n" * 100_000
    return data[:at] + b"xref\n" + sections + data[at:].removeprefix(b"xref\n")


def _packed_objects(entries: bytes, inside: bytes) -> bytes:
    """Make a file whose page tree is said to be in object stream 6, which holds `inside`."""
    holder = stream(inside, b"/Type /ObjStm " + entries)
    table = b"".join((b"\x02" + (6).to_bytes(4, "big") + b"\0\0") if n in {1, 2, 6} else bytes(7) for n in range(8))
    return _with_xref_stream(b"/Size 8", table, CATALOG, PAGES, _PAGE + b">>", HELLO, FONT, holder)


def object_stream_in_itself() -> bytes:
    return _packed_objects(b"/N 2 /First 10", b"6 0 2 3   6 0 R << >>")


def object_streams_in_a_circle() -> bytes:
    return _packed_objects(b"/N 1 /First 4 /Extends 6 0 R", b"6 0 6 0 R")


def object_stream_of_a_billion() -> bytes:
    return _packed_objects(b"/N 1000000000 /First 1000000000", b"2 0 << >>")


def length_is_itself() -> bytes:
    return one_page(HELLO.replace(b"/Length 54", b"/Length 4 0 R"))


def lying_lengths() -> bytes:
    return one_page(HELLO.replace(b"/Length 54", b"/Length -1"), HELLO.replace(b"/Length 54", b"/Length %d" % HUGE))


def deep_dictionary() -> bytes:
    return page_with(b"/Deep 6 0 R /More " + b"<< /A " * DEEP + b"0" + b" >>" * DEEP, b"<< /A " * DEEP)


def deep_trailer() -> bytes:
    return trailer_with(b"/Deep " + b"[" * DEEP + b"]" * DEEP)


def reference_chain() -> bytes:
    """Make a content stream that is a reference to a reference, 50,000 times."""
    links = [b"%d 0 R" % (n + 7) for n in range(50_000)]
    return pdf_of(CATALOG, PAGES, _PAGE.replace(b"4 0 R", b"6 0 R") + b">>", HELLO, FONT, *links, b"6 0 R")


def tree_loops() -> bytes:
    """Make names, outlines, form fields, structure and optional content that all lead back to themselves."""
    entries = (
        b"/Names << /Dests 6 0 R /EmbeddedFiles 6 0 R /JavaScript 6 0 R >> /Outlines 7 0 R /StructTreeRoot 8 0 R "
        b"/AcroForm << /Fields [9 0 R] /XFA 9 0 R >> /OCProperties << /OCGs [10 0 R] /D << /Order 11 0 R >> >> "
        b"/Threads 11 0 R /Dests 1 0 R"
    )
    return catalog_with(
        entries,
        b"<< /Kids [6 0 R 6 0 R] /Limits [(a) (z)] >>",
        b"<< /First 7 0 R /Last 7 0 R /Next 7 0 R /Prev 7 0 R /Parent 7 0 R /Title (x) /Count 1000000000 >>",
        b"<< /Type /StructTreeRoot /K [8 0 R 8 0 R] /ParentTree 6 0 R >>",
        b"<< /FT /Tx /T (f) /Kids [9 0 R] /Parent 9 0 R /V 9 0 R >>",
        b"<< /Type /OCMD /OCGs 10 0 R /VE [/And 11 0 R] >>",
        b"[11 0 R 11 0 R]",
    )


def label_tree_loop() -> bytes:
    return catalog_with(b"/PageLabels 6 0 R", b"<< /Kids [6 0 R 6 0 R] /Limits [0 1000000000] >>")


def roman_labels_of_two_billion() -> bytes:
    """Make a page whose number in Roman numerals has two million letters."""
    return catalog_with(b"/PageLabels << /Nums [0 << /S /r /St 2147483647 >>] >>")


def letter_labels_of_two_billion() -> bytes:
    """Make a page whose number in letters, as `aa` for 27, has eighty million."""
    return catalog_with(b"/PageLabels << /Nums [0 << /S /a /St 2147483647 /P (%s) >>] >>" % (b"p" * 100_000))


def many_labels() -> bytes:
    numbers = b" ".join(b"%d << /S /D /St %d >>" % (n, n) for n in range(100_000))
    return catalog_with(b"/PageLabels << /Nums [" + numbers + b"] >>")


def encrypted_by_no_one() -> bytes:
    return trailer_with(b"/Encrypt << /Filter /Nobody /V 99 /R 99 >> /ID [(a) (b)]")


def encrypted_with_an_absurd_key() -> bytes:
    keys = b"/O (%s) /U (%s)" % (b"o" * 32, b"u" * 32)
    return trailer_with(b"/Encrypt << /Filter /Standard /V 2 /R 3 /Length 1000000000 /P -1 %s >> /ID [(a) (b)]" % keys)


def encrypted_in_a_circle() -> bytes:
    return trailer_with(
        b"/Encrypt 6 0 R /ID [(a) (b)]",
        b"<< /Filter /Standard /V 5 /R 6 /Length 256 /P -1 /O 6 0 R /U 6 0 R /OE 6 0 R /UE 6 0 R /CF 6 0 R >>",
    )


def actions(url: bytes = b"http://127.0.0.1:9/") -> bytes:
    """Make a page that asks for scripts, programs and addresses to be opened, in every way a PDF can."""
    kinds = (
        b"/S /JavaScript /JS (app.launchURL\\('%s'\\))" % url,
        b"/S /URI /URI (%s)" % url,
        b"/S /Launch /F (/bin/sh) /Unix (touch launched)",
        b"/S /SubmitForm /F << /FS /URL /F (%s) >>" % url,
        b"/S /GoToR /F << /FS /URL /F (%s) >> /D [0 /Fit]" % url,
        b"/S /ImportData /F (%s)" % url,
    )
    names = b" ".join(b"(%d) << %s >>" % (n, kind) for n, kind in enumerate(kinds))
    links = b" ".join(b"<< /Type /Annot /Subtype /Link /Rect [0 0 9 9] /A << %s >> >>" % kind for kind in kinds)
    external = stream(b"", b"/F << /FS /URL /F (%s) >> /FFilter /FlateDecode" % url)
    out = catalog_with(
        b"/OpenAction << %s >> /AA << /WC << %s >> >> /Names << /JavaScript << /Names [%s] >> >>"
        % (kinds[0], kinds[1], names),
        external,
    )
    return out.replace(b"/Contents 4 0 R", b"/Annots [%s] /Contents [4 0 R 6 0 R]" % links)


def embedded_files() -> bytes:
    file = stream(b"MZ" + bytes(1000), b"/Type /EmbeddedFile /Params << /Size %d >>" % HUGE)
    names = b"/Names << /EmbeddedFiles << /Names [(../../evil.exe) << /F (../../evil.exe) /EF << /F 6 0 R >> >>] >> >>"
    return catalog_with(names, file)


def info_loop() -> bytes:
    return trailer_with(b"/Info 6 0 R", b"<< /Title 6 0 R /Author [6 0 R] /CreationDate (D:99999999999999) >>")


def xml_bomb() -> bytes:
    laughs = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    xml = b'<!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">' + laughs + b"]><x>&l11;&f;</x>"
    return catalog_with(b"/Metadata 6 0 R /AcroForm << /Fields [] /XFA 6 0 R >>", stream(xml, b"/Type /Metadata"))


def truncated() -> bytes:
    return plain()[:300]


def headers() -> bytes:
    return b"%PDF-1.4\n" * (1 << 17)


def nothing_but_nul() -> bytes:
    return b"%PDF-1.7\n" + bytes(1 << 20)


def objects_without_end() -> bytes:
    """Make a file without a table, whose 200,000 objects have to be looked for."""
    return b"%PDF-1.4\n" + b"1 0 obj << /Type /Catalog /Pages 1 0 R\n" * 200_000


def startxref_everywhere() -> bytes:
    return plain() + b"startxref\n999999999999999999999999\n%%EOF\n" * 50_000


def absurd_boxes() -> bytes:
    boxes = (b"[1e308 -1e308 1e309 nan]", b"[0 0 0 0]", b"[-1 -1 -99999999999 -99999999999]", b"[0 0 600]", b"7 0 R")
    kids = b" ".join(b"%d 0 R" % (n + 6) for n in range(len(boxes)))
    pages = [
        b"<< /Type /Page /Parent 2 0 R /UserUnit 1e30 /Rotate 91 /Contents 4 0 R /MediaBox " + box + b" >>"
        for box in boxes
    ]
    return _tree(b"<< /Type /Pages /Kids [" + kids + b"] /Count 5 >>", *pages)


def contents_of_a_hundred_thousand() -> bytes:
    return page_with(b"").replace(b"/Contents 4 0 R", b"/Contents [" + b"4 0 R " * 100_000 + b"]")


def annotations_of_a_million() -> bytes:
    return page_with(b"/Annots [" + b"6 0 R " * 1_000_000 + b"]", b"<< /Type /Annot /Popup 6 0 R /Parent 6 0 R >>")


# Each with what may come of it. What one release of a reader mends another may refuse, so several may.
READ, BROKEN = {"read"}, {"broken"}
MENDED = READ | BROKEN
COSTLY = MENDED | {"timeout", "too_large", "too_long"}

Make = Callable[[], bytes]

STRUCTURES: dict[str, tuple[Make, set[str]]] = {
    "page loop": (page_loop, BROKEN),
    "loop of two nodes": (two_node_loop, MENDED | {"too_long"}),
    "page tree of a trillion": (page_tree_of_a_trillion, COSTLY - READ),
    "count of a trillion": (lambda: plain().replace(b"/Count 1", b"/Count %d" % HUGE), MENDED | {"too_long"}),
    "count below zero": (lambda: plain().replace(b"/Count 1", b"/Count -99"), MENDED),
    "deep page tree": (deep_page_tree, COSTLY),
    "parent loop": (parent_loop, MENDED),
    "many pages": (lambda: many_pages(6_000), {"too_long"}),
    "previous table is itself": (previous_table_is_itself, MENDED),
    "many updates": (many_updates, COSTLY),
    "xref stream loop": (xref_stream_loop, MENDED),
    "xref stream of a billion": (xref_stream_of_a_billion, COSTLY),
    "xref stream bomb": (xref_stream_bomb, COSTLY),
    "table of a billion": (table_of_a_billion, COSTLY),
    "tables of many parts": (tables_of_many_parts, COSTLY),
    "object stream in itself": (object_stream_in_itself, MENDED),
    "object streams in a circle": (object_streams_in_a_circle, MENDED),
    "object stream of a billion": (object_stream_of_a_billion, COSTLY),
    "length is itself": (length_is_itself, MENDED),
    "lying lengths": (lying_lengths, MENDED),
    "deep nesting": (deep_nesting, MENDED),
    "deep dictionary": (deep_dictionary, COSTLY),
    "deep trailer": (deep_trailer, COSTLY),
    "reference chain": (reference_chain, COSTLY),
    "tree loops": (tree_loops, READ),
    "label tree loop": (label_tree_loop, MENDED),
    "roman labels of two billion": (roman_labels_of_two_billion, COSTLY),
    "letter labels of two billion": (letter_labels_of_two_billion, COSTLY),
    "many labels": (many_labels, COSTLY),
    "encrypted by no one": (encrypted_by_no_one, {"encrypted", "broken"}),
    "encrypted with an absurd key": (encrypted_with_an_absurd_key, {"encrypted", "broken"}),
    "encrypted in a circle": (encrypted_in_a_circle, {"encrypted", "broken"}),
    "actions": (actions, READ),
    "embedded files": (embedded_files, READ),
    "info loop": (info_loop, READ),
    "XML bomb": (xml_bomb, READ),
    "truncated": (truncated, MENDED),
    "a megabyte of headers": (headers, BROKEN),
    "nothing but NUL": (nothing_but_nul, BROKEN),
    "objects without end": (objects_without_end, COSTLY - READ),
    "startxref everywhere": (startxref_everywhere, COSTLY),
    "absurd boxes": (absurd_boxes, COSTLY),
    "contents of a hundred thousand": (contents_of_a_hundred_thousand, COSTLY),
    "annotations of a million": (annotations_of_a_million, COSTLY),
}
