"""Kinds of files that other programs write: packages in another order, encrypted Office files, charts, parts of HTML."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from tests.support.corpus import Sample
from tests.support.corpus.folders import epub
from tests.support.corpus.office import SAMPLES as OFFICE
from tests.support.corpus.office import OwnPercent, Percent, Rows, Written, slides_with_chart
from tests.support.corpus.pdfs import PROSE, mapped
from tests.support.corpus.word import docx, p
from tests.support.corpus.xls import xls

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CHART_SPACE = 'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" xmlns:a="urn:a"'


def repacked(data: bytes, *, without: str = "") -> bytes:
    """Return a package with its parts in reverse order, all compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in reversed(old.namelist()):
            if name != without:
                new.writestr(name, old.read(name))
    return out.getvalue()


def encrypted_package() -> bytes:
    """Return the form of an encrypted DOCX, PPTX or XLSX: an older container with a stream of this name."""
    return _OLE + bytes(1016) + "EncryptedPackage".encode("utf-16-le").ljust(1024, b"\0") + bytes(4096)


def encrypted_xls() -> bytes:
    """Return the form of an XLS with a password: behind its first record, BOF, there is FILEPASS."""
    first = struct.pack("<HHHH12x", 0x0809, 16, 0x0600, 5)
    return _OLE + bytes(2040) + first + struct.pack("<HHH52x", 0x2F, 54, 1) + bytes(4096)


def chart_points(name: str, points: list[str], *, numbers: str = "") -> str:
    """Return the XML of categories, values or a name of a series; `numbers` is the format of numbers."""
    inside = "".join(f'<c:pt idx="{n}"><c:v>{point}</c:v></c:pt>' for n, point in enumerate(points))
    kind = "num" if numbers else "str"
    form = f"<c:formatCode>{numbers}</c:formatCode>" if numbers else ""
    return f"<c:{name}><c:{kind}Ref><c:{kind}Cache>{form}{inside}</c:{kind}Cache></c:{kind}Ref></c:{name}>"


def chart(title: str, categories: str, **series: list[str]) -> str:
    """Return the XML of a bar chart. `categories` are made by chart_points."""
    drawn = "".join(
        f"<c:ser>{chart_points('tx', [name])}{categories}{chart_points('val', values, numbers='General')}</c:ser>"
        for name, values in series.items()
    )
    titled = f"<c:title><c:tx><c:rich><a:p><a:r><a:t>{title}</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    return f"<c:chart {_CHART_SPACE}>{titled}<c:plotArea><c:barChart>{drawn}</c:barChart></c:plotArea></c:chart>"


_SHIPS = chart("Ships by port", chart_points("cat", ["Riga", "Ghent"]), y2019=["12", "8.1999999999999993"], y2020=["9"])
_DAYS = chart("Fees", chart_points("cat", ["43831", "43862"], numbers="d/m/yyyy"), Fee=["35", "40"])
# Where the letters of Armenian, Hebrew, Arabic, Tamil and Georgian begin.
_ALPHABETS = (0x561, 0x5D0, 0x628, 0xB95, 0x10D0)
_SHARES: dict[str, Rows] = {
    "Anteile ß": [("Port", "Share", "Change", "Part"), ("Ayr", Percent(0.125), OwnPercent(-0.5), Written(0.75))]
}
_ODS = next(sample for sample in OFFICE if sample.name == "quay.ods")


def _of_five_scripts(char: str) -> str:
    return char if char == " " else chr(_ALPHABETS[ord(char) % 5] + ord(char) % 20)


def _pptx() -> bytes:
    return slides_with_chart(f"<c:chartSpace {_CHART_SPACE}>{_SHIPS}</c:chartSpace>")


def _drawing(relation: str) -> str:
    return f'<w:r><w:drawing><c:chart {_CHART_SPACE} r:id="{relation}"/></w:drawing></w:r>'


def _html(text: str) -> Callable[[], bytes]:
    return text.encode


SAMPLES = [
    Sample("reversed.epub", lambda: repacked(epub(("Tides", "Water falls."))), ("Of Harbours", "Water falls.")),
    Sample(
        "typeless.epub",
        lambda: repacked(epub(("Tides", "Water falls.")), without="mimetype"),
        ("Water falls.",),
        ("container", "rootfile"),
    ),
    Sample("reversed.ods", lambda: repacked(_ODS.make()), _ODS.found, ("manifest",), labels=_ODS.labels),
    Sample("locked.xlsx", encrypted_package, reason="encrypted"),
    Sample("locked.docx", encrypted_package, reason="encrypted"),
    Sample("locked.pptx", encrypted_package, reason="encrypted"),
    Sample("shares.xls", xls(_SHARES), ("Port: Ayr | Share: 12.5% | Change: -50% | Part: 0.75",)),
    Sample("shares together.xls", xls(_SHARES, together=True), ("Port: Ayr | Share: 12.5% | Change: -50%",)),
    Sample("locked.xls", encrypted_xls, reason="encrypted"),
    Sample(
        "chart.pptx",
        _pptx,
        ("Chart: Ships by port", "Riga | y2019: 12 | y2020: 9", "Ghent | y2019: 8.2"),
        labels=("Slide 1",),
    ),
    Sample(
        "chart.docx",
        docx(p("The fees rose.") + p(_drawing("chart1")), chart1=_DAYS),
        ("The fees rose.", "Chart: Fees", "2020-01-01 | Fee: 35", "2020-02-01 | Fee: 40"),
    ),
    Sample("damaged chart.docx", docx(p("It rose.") + p(_drawing("chart1")), chart1="<c:chart"), ("It rose.",)),
    Sample(
        "letters of five scripts.pdf",
        lambda: mapped(PROSE.lower(), _of_five_scripts),
        warnings={1: "unreadable_text"},
    ),
    Sample(
        "letters of one script.pdf",
        lambda: mapped("alma " * 60, lambda char: chr(0x10D0 + ord(char) % 32) if char != " " else char),
        ("".join(chr(0x10D0 + ord(char) % 32) for char in "alma"),),
    ),
    Sample("fragment.html", _html("<abbr title='Trans'>TLA</abbr> is <i>old</i>."), ("TLA is old.",), ("<", "Trans")),
    Sample("words.htm", _html("3 < 5 and 7 > 6 in the harbour"), ("3 < 5 and 7 > 6 in the harbour",)),
]
