"""PDFs whose streams are made to break their readers: bombs, forms that draw each other, fonts, pictures, sharing."""

from __future__ import annotations

import zlib
from functools import partial

from tests.support.hostile import (
    bomb,
    deflated,
    doubling_forms,
    one_page,
    packed,
    pdf_of,
    self_reference,
    slow_text,
    stream,
    surrogates_and_nul,
)
from tests.support.hostile_pdfs import CATALOG, COSTLY, FONT, HUGE, MENDED, PAGES, READ, Make

_MiB = 1 << 20
_PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources "
_FORM = b"/Type /XObject /Subtype /Form /BBox [0 0 600 800] "
# Codes in a block of LZW: the most within 11 bits that fill whole bytes.
LZW_CODES = 1788
_SHOW = b"BT /A 12 Tf 10 10 Td (a) Tj ET "


def with_resources(resources: bytes, content: bytes, *more: bytes) -> bytes:
    """Make a page with these resources and this content stream object; further objects count from 6."""
    return pdf_of(CATALOG, PAGES, _PAGE + b"<< /Font << /A 5 0 R >> " + resources + b" >> >>", content, FONT, *more)


def with_font(font: bytes, *more: bytes) -> bytes:
    """Make a page of `abc` in this font; further objects count from 6."""
    content = stream(b"BT /A 12 Tf 10 10 Td (abc) Tj <000100020003> Tj ET")
    return pdf_of(CATALOG, PAGES, _PAGE + b"<< /Font << /A 5 0 R >> >> >>", content, font, *more)


def filtered(data: bytes, filters: bytes, parameters: bytes = b"") -> bytes:
    return one_page(stream(data, b"/Filter [%s] %s" % (filters, parameters)))


def gibibyte() -> bytes:
    """Make a page that unpacks to 1 GiB of spaces."""
    return filtered(deflated(b" " * _MiB, 1024), b"/FlateDecode")


def fifty_filters() -> bytes:
    """Make a bomb wrapped fifty times."""
    data = deflated(b"0 g " * (_MiB // 4), 256)
    for _ in range(49):
        data = zlib.compress(data, 9)
    return filtered(data, b"/FlateDecode " * 50)


def ten_thousand_filters() -> bytes:
    return filtered(b"x", b"/ASCIIHexDecode /Fl /RL " * 3_334)


def lzw_bomb() -> bytes:
    """Make LZW codes that each say the last string and one letter more, 380 MiB in all."""
    # The codes of a block fill whole bytes, so that it can be repeated; each ends by clearing the table.
    codes = [32, *range(258, 258 + LZW_CODES - 2), 256]
    bits = "".join(format(code, f"0{_lzw_width(at)}b") for at, code in enumerate(codes))
    return filtered(deflated(int(bits, 2).to_bytes(len(bits) // 8, "big"), 256), b"/FlateDecode /LZWDecode")


def _lzw_width(at: int) -> int:
    """Return how wide the code at this place of a block is, with the early change that PDF has by default."""
    return max(9, (258 + at).bit_length())


def run_length_bomb() -> bytes:
    return filtered(deflated(b"\x81 " * (_MiB // 2), 8), b"/FlateDecode /RunLengthDecode")


def ascii85_bomb() -> bytes:
    return filtered(deflated(b"z" * _MiB, 128), b"/FlateDecode /ASCII85Decode")


def predictor_of_two_billion_columns() -> bytes:
    parameters = b"/DecodeParms << /Predictor 15 /Columns 2147483647 /Colors 32 /BitsPerComponent 16 >>"
    return one_page(stream(zlib.compress(bytes(_MiB)), b"/Filter /FlateDecode " + parameters))


def predictor_of_rows() -> bytes:
    """Make a 200 MiB stream of rows of one byte."""
    return one_page(
        stream(
            deflated(b"\x02\x01" * (_MiB // 2), 200),
            b"/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 1 >>",
        )
    )


def operators(text: bytes, times: int) -> bytes:
    """Make a page of the same operators over and over."""
    return one_page(stream(deflated(text * 1_000, times // 1_000), b"/Filter /FlateDecode"))


def inline_images() -> bytes:
    picture = b"BI /W 1000000 /H 1000000 /BPC 8 /CS /RGB ID \x00\x01 EI "
    return one_page(stream(_SHOW + picture * 2_000 + b"BI /W 99999 /H 99999 /IM true ID "))


def image(entries: bytes, data: bytes) -> bytes:
    """Make a page that draws a picture of a million by a million."""
    picture = stream(data, b"/Type /XObject /Subtype /Image /Width 1000000 /Height 1000000 " + entries)
    return with_resources(b"/XObject << /F 6 0 R >>", stream(_SHOW + b"/F Do"), picture)


def mutual_forms() -> bytes:
    """Make three forms that draw each other in a circle."""
    forms = [
        stream(_SHOW + b"/F Do /F Do", _FORM + b"/Resources << /Font << /A 5 0 R >> /XObject << /F %d 0 R >> >>" % to)
        for to in (7, 8, 6)
    ]
    return with_resources(b"/XObject << /F 6 0 R >>", stream(b"/F Do"), *forms)


def billion_laughs() -> bytes:
    """Make forms that each draw the next ten times, and a text at the end: a hundred billion letters."""
    rest = b"/Resources << /Font << /A 5 0 R >> /XObject << /F %d 0 R >> >>"
    forms = [stream(b"/F Do\n" * 10, _FORM + rest % (7 + depth)) for depth in range(10)]
    last = stream(_SHOW, _FORM + b"/Resources << /Font << /A 5 0 R >> >>")
    return with_resources(b"/XObject << /F 6 0 R >>", stream(b"/F Do\n" * 10), *forms, last)


def deep_forms() -> bytes:
    """Make a form in a form, 10,000 deep."""
    forms = [
        stream(b"/F Do", _FORM + b"/Resources << /XObject << /F %d 0 R >> >>" % (7 + depth)) for depth in range(10_000)
    ]
    return with_resources(b"/XObject << /F 6 0 R >>", stream(_SHOW + b"/F Do"), *forms, stream(b"", _FORM))


def mask_loop() -> bytes:
    """Make a transparency mask, a pattern, a colour space and a function that each need themselves."""
    resources = (
        b"/ExtGState << /G << /SMask << /S /Luminosity /G 6 0 R >> >> >> /Pattern << /P 7 0 R >> "
        b"/ColorSpace << /C 8 0 R >> /Shading << /S << /ShadingType 2 /ColorSpace 8 0 R /Function 9 0 R >> >> "
    )
    inside = b"/Resources << " + resources + b">>"
    content = b"/G gs /Pattern cs /P scn 0 0 99 99 re f /C cs 0 sc 0 0 9 9 re f /S sh "
    return with_resources(
        resources,
        stream(_SHOW + content),
        stream(content, _FORM + b"/Group << /S /Transparency >> " + inside),
        stream(content, b"/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 1e-9 /YStep 1e-9 " + inside),
        b"[/Indexed 8 0 R 255 8 0 R]",
        b"<< /FunctionType 3 /Domain [0 1] /Functions [9 0 R 9 0 R] /Bounds [0.5] /Encode [0 1 0 1] >>",
    )


def type3_loop() -> bytes:
    """Make a font whose letter is drawn by writing that letter."""
    font = (
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [1 0 0 1 0 0] /FirstChar 97 /LastChar 99 "
        b"/Widths [1 1 1] /Encoding << /Differences [97 /a /a /a] >> /CharProcs << /a 6 0 R >> "
        b"/Resources << /Font << /A 5 0 R >> >> >>"
    )
    return with_font(font, stream(b"9 0 d0 BT /A 12 Tf (aaaaaaaaaa) Tj ET " * 10))


def unicode_map(cmap: bytes, entries: bytes = b"", *more: bytes) -> bytes:
    """Make a page whose font's letters are given a meaning by this map."""
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    return with_font(font, stream(cmap, entries), *more)


def map_of_everything() -> bytes:
    ranges = b"100 beginbfrange " + b"<00000000> <ffffffff> <0041> " * 100 + b"endbfrange "
    return unicode_map(b"begincmap 1 begincodespacerange <00> <ffffffff> endcodespacerange " + ranges * 100)


def map_of_a_million() -> bytes:
    lines = b"".join(b"<%08x> <00410042>\n" % n for n in range(100_000)) * 10
    return unicode_map(zlib.compress(b"1000000 beginbfchar " + lines + b"endbfchar", 6), b"/Filter /FlateDecode")


def map_to_novels() -> bytes:
    """Make a page of 100,000 letters that each mean 10,000 others."""
    cmap = b"1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <61> <" + b"0062" * 10_000 + b"> endbfchar"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    content = packed(b"BT /A 12 Tf 10 10 Td (" + b"a" * 100_000 + b") Tj ET")
    return pdf_of(CATALOG, PAGES, _PAGE + b"<< /Font << /A 5 0 R >> >> >>", content, font, stream(cmap))


def map_uses_itself() -> bytes:
    return unicode_map(b"/Self usecmap 6 0 R usecmap", b"/Type /CMap /CMapName /Self /UseCMap 6 0 R")


def absurd_widths() -> bytes:
    """Make a font with a width for each of four billion letters, by ranges and by code."""
    child = (
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) "
        b"/Supplement 0 >> /DW 1e30 /W [0 4294967295 500 0 2147483647 7 0 R] /CIDToGIDMap 7 0 R >>"
    )
    font = b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding 7 0 R /DescendantFonts [6 0 R] >>"
    cmap = b"1 begincodespacerange <0000> <ffff> endcodespacerange 1 begincidrange <00000000> <ffffffff> 0 endcidrange"
    return with_font(font, child, stream(cmap, b"/Type /CMap /CMapName /C /UseCMap 7 0 R"))


def absurd_letters() -> bytes:
    font = (
        b"<< /Type /Font /Subtype /TrueType /BaseFont /X /FirstChar -2147483648 /LastChar 2147483647 /Widths [%s] "
        b"/Encoding << /Differences [2147483647 /a 1000000000 /b -5 /c] >> /FontDescriptor 6 0 R >>" % (b"1 " * 99_999)
    )
    descriptor = b"<< /Type /FontDescriptor /FontName /X /Flags 4 /FontFile2 7 0 R /FontBBox [0 0 0 0] >>"
    return with_font(font, descriptor, stream(b"\0\1\0\0\xff\xff" + b"loca\0\0\0\0\0\0\0\0\xff\xff\xff\xff" * 5_000))


def descendants_loop() -> bytes:
    return with_font(b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [5 0 R] >>")


def shared(content: bytes, pages: int = 5_000) -> bytes:
    """Make so many pages of one content stream object."""
    page = _PAGE.replace(b"4 0 R", b"3 0 R") + b"<< /Font << /A 4 0 R >> >> >>"
    kids = b" ".join(b"%d 0 R" % (n + 5) for n in range(pages))
    tree = b"<< /Type /Pages /Kids [" + kids + b"] /Count %d >>" % pages
    return pdf_of(CATALOG, tree, content, FONT, *[page] * pages)


def shared_work() -> bytes:
    """Make 5,000 pages that each take pdfium 35 ms and hold no text."""
    return shared(stream(deflated(b"0 0 m 1 1 l S " * 1_000, 80), b"/Filter /FlateDecode"))


def shared_text() -> bytes:
    """Make 5,000 pages of 20 KB of text each, 100 MB in all."""
    return shared(packed(b"BT /A 1 Tf 10 10 Td 12 TL " + b"(Some words on this line of the page.) ' " * 550 + b"ET"))


def shared_bomb() -> bytes:
    """Make 5,000 pages that each unpack 64 MiB."""
    return shared(stream(deflated(b" " * _MiB, 64), b"/Filter /FlateDecode"))


def unclosed() -> bytes:
    return one_page(stream(b"BT /A 12 Tf (" + b"(" * 200_000 + b" <" + b"<" * 200_000 + b"["))


STREAMS: dict[str, tuple[Make, set[str]]] = {
    "slow text": (slow_text, {"timeout", "too_large"}),
    "bomb in a bomb": (bomb, {"too_large", "read", "timeout"}),
    "gibibyte": (gibibyte, COSTLY),
    "fifty filters": (fifty_filters, COSTLY),
    "ten thousand filters": (ten_thousand_filters, MENDED),
    "LZW bomb": (lzw_bomb, COSTLY),
    "run-length bomb": (run_length_bomb, COSTLY),
    "ASCII85 bomb": (ascii85_bomb, COSTLY),
    "predictor of two billion columns": (predictor_of_two_billion_columns, COSTLY),
    "predictor of rows": (predictor_of_rows, COSTLY),
    "twenty million operators": (partial(operators, b"0 g ", 20_000_000), COSTLY),
    "q without Q": (partial(operators, b"q ", 20_000_000), COSTLY),
    "Q without q": (partial(operators, b"Q ", 5_000_000), COSTLY),
    "marked content without end": (partial(operators, b"/A << /M [1] >> BDC ", 2_000_000), COSTLY),
    "lines without end": (partial(operators, b"0 0 m 9 9 l ", 5_000_000), COSTLY),
    "text in new places": (partial(operators, b"BT /A 1 Tf 1 0 0 1 9 9 Tm (word) Tj ET ", 1_000_000), COSTLY),
    "inline images": (inline_images, COSTLY),
    "huge picture": (partial(image, b"/BitsPerComponent 8 /ColorSpace /DeviceRGB", b"x"), MENDED),
    "JBIG2 garbage": (
        partial(image, b"/Filter /JBIG2Decode /DecodeParms << /JBIG2Globals 6 0 R >>", b"\xff" * 999),
        MENDED,
    ),
    "JPX garbage": (partial(image, b"/Filter /JPXDecode", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 999), MENDED),
    "CCITT garbage": (
        partial(image, b"/Filter /CCITTFaxDecode /DecodeParms << /K -1 /Columns %d /Rows %d >>" % (HUGE, HUGE), b"\0"),
        MENDED,
    ),
    "form draws itself": (self_reference, READ),
    "forms in a circle": (mutual_forms, COSTLY),
    "doubling forms": (doubling_forms, COSTLY),
    "billion laughs": (billion_laughs, COSTLY),
    "deep forms": (deep_forms, COSTLY),
    "mask loop": (mask_loop, COSTLY),
    "type 3 loop": (type3_loop, COSTLY),
    "map of everything": (map_of_everything, COSTLY),
    "map of a million": (map_of_a_million, COSTLY),
    "map to novels": (map_to_novels, COSTLY),
    "map uses itself": (map_uses_itself, MENDED),
    "absurd widths": (absurd_widths, COSTLY),
    "absurd letters": (absurd_letters, COSTLY),
    "descendants loop": (descendants_loop, MENDED),
    "shared work": (shared_work, COSTLY),
    "shared text": (shared_text, {"too_large", "timeout"}),
    "shared bomb": (shared_bomb, COSTLY),
    "unclosed": (unclosed, COSTLY),
    "surrogates and NUL": (surrogates_and_nul, READ),
}
