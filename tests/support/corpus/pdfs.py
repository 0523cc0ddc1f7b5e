"""PDFs: forms, notes, hidden text, layers, fonts without a map to Unicode, scans, and broken structures."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from typing import Literal

from PIL import Image, ImageDraw
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from tests.support.corpus import Sample
from tests.support.hostile import one_page, pdf_of, stream

_CATALOG, _PAGES = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
_HEBREW, _ARABIC = "הספינה יוצאת עם שחר", "تغادر السفينة عند الفجر"
_HANGUL = "펌프 씰 교체 주기는 여섯 달이며 압력을 매주 확인하고 밸브를 잠근 뒤 필터를 청소하며 모든 값을 장부에 적는다"
PROSE = (
    "The harbour office opens at nine in the morning and closes at five. "
    "Every ship that enters the harbour pays a fee for the night, and the keeper writes it into the ledger. "
    "When the tide is low, the larger vessels wait outside until the water has risen again over the bar. "
)


# The same, as poor OCR reads it.
MISREAD = (
    "Tbe harbonr off*ce op»ns at n^ne in tbe m0rn|ng and cl«ses at f*ve. Ev»ry sh*p tbat ent~rs tbe h^rb|ur p«ys a fee "
    "for tbe n*ght, and tbe ke|per wr*tes it »» into tbe l{dger. Wben tbe t^de is l*w, tbe l«rger vess~ls w|it outs*de. "
)


def drawn(draw: Callable[[Canvas], object], *more: Callable[[Canvas], object]) -> Callable[[], bytes]:
    """Make a PDF with a page for each function that draws one."""

    def make() -> bytes:
        out = io.BytesIO()
        canvas = Canvas(out, pagesize=(400, 400), invariant=True)
        for one in (draw, *more):
            one(canvas)
            canvas.showPage()
        canvas.save()
        return out.getvalue()

    return make


def _lines(canvas: Canvas, text: str = PROSE, *, top: int = 380) -> None:
    words = text.split()
    for number in range(0, len(words), 9):
        canvas.drawString(20, top - number * 2, " ".join(words[number : number + 9]))


# What an option shows, and what the form sends.
_COLOURS = [("amber light", "colour_7"), ("green light", "colour_8")]


def _cropped(canvas: Canvas) -> None:
    canvas.setCropBox((0, 100, 400, 400))
    _lines(canvas)
    for place in ((420, 300), (50, 60), (50, 450)):  # as on the page beside, below and above
        canvas.drawString(*place, "Ghost")


def _cut_up(canvas: Canvas) -> None:
    """Draw half of a spread, as tools do that cut spreads into pages."""
    canvas.beginForm("spread", 0, 0, 900, 400)
    _lines(canvas)
    canvas.drawString(420, 300, "Ghost")
    canvas.endForm()
    canvas.doForm("spread")


def _cropped_to_nothing(canvas: Canvas) -> None:
    canvas.setCropBox((0, 0, 9, 9))
    _lines(canvas)


def _form(canvas: Canvas) -> None:
    form = canvas.acroForm
    canvas.drawString(20, 350, "Measured pressure:")
    form.textfield(name="f1", x=150, y=345, width=120, height=16, value="17.4 bar", fontSize=10)
    canvas.drawString(20, 320, "Colour:")
    form.choice(name="f2", x=150, y=315, width=120, height=16, value="amber light", options=_COLOURS, fontSize=10)
    form.textfield(name="f3", tooltip="Name of the keeper", x=150, y=285, width=120, height=16, value="I. Marsh")
    form.textfield(name="empty one", x=150, y=255, width=120, height=16)
    form.checkbox(name="f4", x=20, y=225, size=14, checked=True, buttonStyle="check")
    canvas.drawString(40, 228, "Valve was greased")
    form.checkbox(name="f5", x=20, y=195, size=14, checked=False)
    canvas.drawString(40, 198, "Filter was changed")
    for x, value in ((20, "daily"), (120, "weekly")):
        form.radio(name="Interval", value=value, selected=value == "weekly", x=x, y=165, size=14)
        canvas.drawString(x + 20, 168, value)


def _annotated(*annotations: bytes) -> Callable[[], bytes]:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 400] /Annots [%s] >>"
    return lambda: pdf_of(_CATALOG, _PAGES, page % b" ".join(annotations))


def _shown_in(mode: Literal[1, 3]) -> Callable[[Canvas], object]:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(20, 350, "Seen by everybody.")
        text = canvas.beginText(20, 300)
        text.setTextRenderMode(mode)
        text.textOut("Ghost words of the file.")
        canvas.drawText(text)

    return draw


def _white(canvas: Canvas) -> None:
    canvas.drawString(20, 350, "Seen by everybody.")
    canvas.setFillGray(1)
    canvas.drawString(20, 320, "Ghost words of the file.")
    canvas.setFillGray(0)
    canvas.rect(10, 250, 200, 30, fill=1)
    canvas.setFillGray(1)
    canvas.drawString(20, 260, "White on black is seen.")


def _white_in_places(canvas: Canvas) -> None:
    """Put white words all over a page that is turned."""
    canvas.setPageRotation(90)
    canvas.drawString(120, 380, "Seen by everybody.")
    for number in range(7):
        canvas.setFillGray(1)
        canvas.drawString(250, 340 - 50 * number, f"Ghost {number}")
        canvas.setFillGray(0)
        canvas.rect(110, 335 - 50 * number, 90, 16, fill=1)
        canvas.setFillGray(1)
        canvas.drawString(120, 340 - 50 * number, f"White {number} is seen.")


def _scan(words: str) -> ImageReader:
    image = Image.new("L", (400, 300), 255)
    pen = ImageDraw.Draw(image)
    for row in range(8):
        pen.text((20, 20 + row * 30), words * 3, fill=0)
    return ImageReader(image)


def _scanned(canvas: Canvas) -> None:
    canvas.drawImage(_scan("scanned words "), 0, 50, width=400, height=300)


def _recognised(canvas: Canvas) -> None:
    _scanned(canvas)
    text = canvas.beginText(20, 322)
    text.setTextRenderMode(3)
    text.textOut("Recognised words of the scan.")
    canvas.drawText(text)


def _misread(canvas: Canvas) -> None:
    canvas.drawImage(_scan("scanned words "), 0, 0, width=400, height=400)
    text = canvas.beginText(20, 370)
    text.setTextRenderMode(3)
    for at in range(0, len(MISREAD), 60):
        text.textLine(MISREAD[at : at + 60])
    canvas.drawText(text)


def _layers() -> bytes:
    content = stream(
        b"BT /A 12 Tf 10 700 Td (Seen by everybody.) Tj ET "
        b"/OC /Off BDC BT /A 12 Tf 10 600 Td (Ghost words of the file.) Tj ET EMC "
        b"/OC /On BDC BT /A 12 Tf 10 500 Td (Layer that is on.) Tj ET EMC"
    )
    catalog = (
        b"<< /Type /Catalog /Pages 2 0 R /OCProperties << /OCGs [6 0 R 7 0 R] /D << /ON [7 0 R] /OFF [6 0 R] >> >> >>"
    )
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
        b"/Resources << /Font << /A 5 0 R >> /Properties << /Off 6 0 R /On 7 0 R >> >> >>"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    groups = (b"<< /Type /OCG /Name (a) >>", b"<< /Type /OCG /Name (b) >>")
    return pdf_of(catalog, _PAGES, page, content, font, *groups)


def mapped(text: str, unicode_of: Callable[[str], str], *, shown: bytes = b"") -> bytes:
    """Make a page of ASCII codes whose font says by `unicode_of` which characters they are, in lines or as `shown`."""
    codes = sorted(set(text))
    pairs = b"\n".join(
        b"<%02x> <%s>" % (ord(code), unicode_of(code).encode("utf-16-be").hex().encode()) for code in codes
    )
    cmap = b"1 begincodespacerange <00> <ff> endcodespacerange %d beginbfchar %s endbfchar" % (len(codes), pairs)
    words = text.split(" ")
    lines = [" ".join(words[at : at + 8]).encode() for at in range(0, len(words), 8)]
    shown = shown or b" ".join(b"(%s) Tj 0 -15 Td" % line for line in lines)
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>"
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R /Resources << /Font << /A 5 0 R >> >> >>"
    )
    return pdf_of(_CATALOG, _PAGES, page, stream(b"BT /A 12 Tf 20 700 Td %s ET" % shown), font, stream(cmap))


def _shifted(char: str) -> str:
    letters = string.ascii_lowercase
    return letters[(letters.index(char) + 11) % 26] if char in letters else char


def _korean(*, moved: int) -> Callable[[], bytes]:
    """Make a page of Korean whose map names syllables so many places further."""
    codes = dict(zip(sorted(set(_HANGUL) - {" "}), string.ascii_letters, strict=False)) | {" ": " "}
    syllables = {code: syllable if code == " " else chr(ord(syllable) + moved) for syllable, code in codes.items()}
    return lambda: mapped("".join(codes[syllable] for syllable in _HANGUL), syllables.__getitem__)


def _from_right(words: str, *, placed: bool) -> Callable[[], bytes]:
    """Make a line of a script that is read from the right.

    Its letters come as they stand from left to right, or, each `placed` by itself, as they are read.
    """
    codes = dict(zip(sorted(set(words) - {" "}), string.ascii_letters, strict=False)) | {" ": " "}
    back = {code: char for char, code in codes.items()}
    coded = "".join(codes[char] for char in words)

    def make() -> bytes:
        data = mapped(coded[::-1], lambda code: back[code])
        if not placed:
            return data
        lefts = [400 - stringWidth(coded[: n + 1], "Helvetica", 12) for n in range(len(coded))]
        shown = b" ".join(
            b"1 0 0 1 %.2f 700 Tm (%s) Tj" % (left, code.encode()) for left, code in zip(lefts, coded, strict=True)
        )
        return mapped(coded, lambda code: back[code], shown=shown)

    return make


def _attached() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(drawn(_lines)())))
    writer.add_attachment("tides of May.csv", b"a,b")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _xfa(inside: bytes) -> Callable[[], bytes]:
    shell = one_page(stream(b"BT /A 12 Tf 10 700 Td (Please wait...) Tj ET"), stream(inside))
    form = b"/AcroForm << /Fields [] /XFA 6 0 R >> /NeedsRendering true /Pages"
    return lambda: shell.replace(b"/Type /Catalog /Pages", b"/Type /Catalog " + form)


_TEMPLATE = b"""<xdp:xdp xmlns:xdp="http://ns.adobe.com/xdp/"><template xmlns="http://www.xfa.org/schema/xfa-template/2.5/">
<subform><draw><value><text>The permit fee is 35 euros.</text></value></draw></subform></template>
<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form><applicant>Ida Marsh</applicant></form>
</xfa:data></xfa:datasets></xdp:xdp>"""


def _without_header() -> bytes:
    return drawn(_lines)().partition(b"\n")[2]


def _deep_page_tree() -> bytes:
    nodes = [b"<< /Type /Pages /Count 1 /Kids [%d 0 R] >>" % (number + 3) for number in range(3_000)]
    return pdf_of(_CATALOG, *nodes, b"<< /Type /Page /MediaBox [0 0 100 100] >>")


def _crypt_filter() -> bytes:
    plain = drawn(_lines)()
    encrypt = b"/Encrypt << /Filter /Acme.Vault /V 4 /R 4 /O (x) /U (x) /P -4 >> /ID [(a) (b)] /Root"
    return plain.replace(b"/Root", encrypt, 1)


def _pictured() -> bytes:
    """Make a page whose title is drawn as pictures, which the structure tree names; one picture is blank."""
    words = (
        ("Harbour fe", 20, 350, 0),
        ("es ", 120, 350, 0),
        ("of the year", 155, 350, 0),
        ("Ghost words", 20, 250, 255),
    )
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 400] /Contents 4 0 R /StructParents 0"
        b" /Resources << /Font << /A 5 0 R >> /XObject << /I0 6 0 R /I255 7 0 R >> >> >>"
    )
    widths = [10 * len(text) for text, *_ in words]
    content = b"".join(
        b"/Span <</MCID %d>> BDC q %d 0 0 20 %d %d cm /I%d Do Q EMC\n" % (number, width, x, y, shade)
        for number, (width, (_, x, y, shade)) in enumerate(zip(widths, words, strict=True))
    )
    text = b"BT /A 12 Tf 20 100 Td (Paid at the office.) Tj 0 220 Td (The keeper collects the fee each night.) Tj ET"
    image = b"/Type /XObject /Subtype /Image /Width 2 /Height 1 /BitsPerComponent 8 /ColorSpace /DeviceGray"
    elements = [
        b"<< /Type /StructElem /S /Span /P 8 0 R /Pg 3 0 R /K %d /ActualText (%s) >>"
        % (number, words[number][0].encode())
        for number in range(4)
    ]
    return pdf_of(
        b"<< /Type /Catalog /Pages 2 0 R /MarkInfo << /Marked true >> /StructTreeRoot 8 0 R >>",
        *(_PAGES, page, stream(content + text), b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"),
        *(stream(b"\x00\xff", image), stream(b"\xff\xff", image)),
        b"<< /Type /StructTreeRoot /K [9 0 R 10 0 R 11 0 R 12 0 R] /ParentTree << /Nums [0 [9 0 R 10 0 R 11 0 R 12 0 R]] >> >>",
        *elements,
    )


def _divided(canvas: Canvas) -> None:
    """Draw lines that end within words: some are written with a hyphen, some are not."""
    lines = ("A deep-sea pilot boards the ship. Each deep-", "sea pilot knows the rules of COVID-", "19 and the har-")
    more = ("bour master. See www.harbour.example/fees-of-", "the-year and the Marsh-", "Reed report.")
    for number, line in enumerate((*lines, *more)):
        canvas.drawString(20, 350 - 14 * number, line)


SAMPLES = [
    Sample("prose.pdf", drawn(_lines), ("The harbour office opens at nine", "pays a fee for the night")),
    Sample(
        "form.pdf",
        drawn(_form),
        (
            *("Measured pressure: 17.4 bar", "Colour: amber light", "Name of the keeper: I. Marsh"),
            *("Valve was greased: checked", "Filter was changed: not checked", "weekly: checked"),
        ),
        ("empty one", "daily: checked"),
    ),
    Sample(
        "notes.pdf",
        _annotated(
            b"<< /Type /Annot /Subtype /FreeText /Rect [10 10 90 90] /Contents (Deliver the pump to gate 9.) /DA (/F 9 Tf) >>",
            b"<< /Type /Annot /Subtype /Text /Rect [10 10 30 30] /T (Ida) /Contents (Check the seal in May.) >>",
            b"<< /Type /Annot /Subtype /Text /F 2 /Rect [10 10 30 30] /Contents (Ghost words of the file.) >>",
        ),
        ("Note: Deliver the pump to gate 9.", "Note by Ida: Check the seal in May."),
        ("Ghost",),
    ),
    Sample("attached.pdf", _attached, ("Attached files: tides of May.csv",), warnings={1: "attachments"}),
    Sample(
        "xfa.pdf",
        _xfa(_TEMPLATE),
        ("The permit fee is 35 euros.", "applicant: Ida Marsh"),
        ("wait",),
        warnings={1: "xfa_form"},
    ),
    Sample("xfa without words.pdf", _xfa(b"<x/>"), reason="xfa_form"),
    Sample("invisible.pdf", drawn(_shown_in(3)), ("Seen by everybody.",), ("Ghost",)),
    Sample("outline.pdf", drawn(_shown_in(1)), ("Seen by everybody.", "Ghost words of the file.")),
    Sample("white.pdf", drawn(_white), ("Seen by everybody.", "White on black is seen."), ("Ghost",)),
    Sample(
        "white in places.pdf",
        drawn(_white_in_places),
        ("Seen by everybody.", *(f"White {number} is seen." for number in range(7))),
        ("Ghost",),
    ),
    Sample("cropped.pdf", drawn(_cropped), ("The harbour office opens at nine",), ("Ghost",)),
    Sample("cut up.pdf", drawn(_cut_up), ("The harbour office opens at nine",), ("Ghost",)),
    Sample("wrong box.pdf", drawn(_cropped_to_nothing), ("The harbour office opens at nine",)),
    Sample("layers.pdf", _layers, ("Seen by everybody.", "Layer that is on."), ("Ghost",)),
    Sample("scan.pdf", drawn(_scanned), warnings={1: "no_text"}),
    Sample("recognised scan.pdf", drawn(_recognised), ("Recognised words of the scan.",)),
    Sample("misread scan.pdf", drawn(_lines, _misread), ("The harbour",), ("tbe",), warnings={2: "unreadable_text"}),
    Sample("scan among text.pdf", drawn(_lines, _scanned), ("The harbour office",), warnings={2: "no_text"}),
    Sample("blank page.pdf", drawn(_lines, lambda _canvas: None, _lines), ("The harbour office",)),
    Sample(
        "no map.pdf",
        lambda: mapped(PROSE.lower(), lambda char: chr(ord(char) % 31 + 1)),
        warnings={1: "unreadable_text"},
    ),
    Sample(
        "private map.pdf",
        lambda: mapped(PROSE.lower(), lambda char: chr(0xE000 + ord(char))),
        warnings={1: "unreadable_text"},
    ),
    Sample("wrong map.pdf", lambda: mapped(PROSE.lower(), _shifted), absent=("gsp",), warnings={1: "unreadable_text"}),
    Sample(
        "leaders without a map.pdf",
        lambda: mapped(PROSE.replace(".", "." * 60), lambda char: "\ufffd" if char == "." else char),
        ("The harbour office opens at nine",),
    ),
    Sample("pictured words.pdf", _pictured, ("Harbour fees of the year The keeper collects the fee",), ("Ghost",)),
    Sample(
        "divided words.pdf",
        drawn(_divided),
        ("Each deep-sea pilot", "COVID-19", "harbour master", "harbour.example/fees-of-the-year", "Marsh-Reed report"),
    ),
    Sample(
        "wrong map on a short page.pdf",
        lambda: mapped(" ".join(PROSE.lower().split()[:22]), _shifted),
        absent=("gsp",),
        warnings={1: "unreadable_text"},
    ),
    Sample("hangul.pdf", _korean(moved=0), (_HANGUL[:9],)),
    Sample("wrong map to hangul.pdf", _korean(moved=7), warnings={1: "unreadable_text"}),
    Sample("hebrew as drawn.pdf", _from_right(_HEBREW, placed=False), (_HEBREW,)),
    Sample("hebrew as read.pdf", _from_right(_HEBREW, placed=True), (_HEBREW,)),
    Sample("arabic as drawn.pdf", _from_right(_ARABIC, placed=False), (_ARABIC,)),
    Sample("arabic as read.pdf", _from_right(_ARABIC, placed=True), (_ARABIC,)),
    Sample("no header.pdf", _without_header, ("The harbour office opens at nine",)),
    Sample("deep page tree.pdf", _deep_page_tree, reason="broken"),
    Sample("crypt filter.pdf", _crypt_filter, reason="encrypted"),
]
