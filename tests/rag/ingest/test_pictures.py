"""Pictures in DOCX and PPTX: read by tesseract where it is installed, and warned of where it is not."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from errors import DocumentError
from rag.ingest.extraction import close_readers, read_document
from rag.ingest.formats import pictures
from rag.ingest.formats.blocks import Block
from rag.ingest.formats.ocr import Recognizer
from rag.ingest.formats.package import Package
from rag.ingest.formats.pictures import Pictures
from rag.ingest.media_types import DOCX, PPTX
from schemas import Page
from tests.support.corpus.office import pptx
from tests.support.corpus.word import docx, p, table
from tests.support.scans import LINES, encoded, require_tesseract, scan, without_tesseract

_IMAGE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/image"
_A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_V = 'xmlns:v="urn:schemas-microsoft-com:vml"'
SCAN = " ".join(LINES)


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def shown(relation: str) -> str:
    """Return a paragraph of Word with a picture."""
    return p(f'<w:r><w:drawing><a:blip {_A} {_R} r:embed="{relation}"/></w:drawing></w:r>')


def shown_as_of_old(relation: str) -> str:
    return p(f'<w:r><w:pict><v:shape {_V}><v:imagedata {_R} r:id="{relation}"/></v:shape></w:pict></w:r>')


def with_pictures(data: bytes, part: str, **images: bytes) -> bytes:
    """Return an Office file with images that a part of it is related to, by the id of the relation."""
    folder, _, name = part.rpartition("/")
    relations = f"{folder}/_rels/{name}.rels"
    out = io.BytesIO()
    added = "".join(f'<Relationship Id="{key}" Type="{_IMAGE}" Target="../media/{key}.png"/>' for key in images)
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as archive:
        names = before.namelist()
        for each in names:
            content = before.read(each)
            if each == relations:
                content = content.replace(b"</Relationships>", added.encode() + b"</Relationships>")
            archive.writestr(each, content)
        if relations not in names:
            space = "http://schemas.openxmlformats.org/package/2006/relationships"
            archive.writestr(relations, f'<Relationships xmlns="{space}">{added}</Relationships>')
        for key, image in images.items():
            archive.writestr(f"{folder.rpartition('/')[0]}/media/{key}.png".lstrip("/"), image)
    return out.getvalue()


def letter(body: str, **images: bytes) -> bytes:
    return with_pictures(docx(body)(), "word/document.xml", **images)


def read(path: Path, data: bytes, media_type: str = DOCX) -> list[Page]:
    path.write_bytes(data)
    return list(read_document(path, media_type=media_type).pages)


@pytest.mark.parametrize("show", [shown, shown_as_of_old])
def test_a_scan_pasted_into_word_is_read_in_its_place(show: Callable[[str], str], tmp_path: Path) -> None:
    require_tesseract()
    body = p("Before it.") + show("scan") + p("Between.") + show("scan") + show("logo") + show("odd") + p("After it.")
    data = letter(body, scan=encoded(scan(), "PNG"), logo=encoded(Image.new("L", (90, 90)), "PNG"), odd=b"\x01\x00EMF")
    (page,) = read(tmp_path / "a.docx", data)
    assert " ".join(page.text.split()) == f"Before it. {SCAN} Between. After it."
    assert (page.warning, page.recognized) == ("", True)


def test_a_scan_in_a_cell_and_a_file_of_nothing_else_are_read(tmp_path: Path) -> None:
    require_tesseract()
    data = letter(table(("Letter", "Date"), (shown("scan"), "May")), scan=encoded(scan(), "PNG"))
    (page,) = read(tmp_path / "a.docx", data)
    assert SCAN in " ".join(page.text.split())
    assert page.recognized
    (page,) = read(tmp_path / "b.docx", letter(shown("scan"), scan=encoded(scan(), "JPEG")))
    assert " ".join(page.text.split()) == SCAN


def test_a_scan_on_a_slide_is_read(tmp_path: Path) -> None:
    require_tesseract()
    first, second = read(tmp_path / "a.pptx", slides(), PPTX)
    assert SCAN not in " ".join(first.text.split())
    assert second.label == "Slide 3"  # the second one is hidden
    assert " ".join(second.text.split()) == f"Fleet of the year Fourteen ships sail. {SCAN}"


def slides() -> bytes:
    """Return two slides, of which the second has a scan."""
    part = "ppt/slides/slide1.xml"
    out = io.BytesIO()
    picture = f'<p:pic><p:blipFill><a:blip {_A} {_R} r:embed="scan"/></p:blipFill></p:pic></p:spTree>'
    with zipfile.ZipFile(io.BytesIO(pptx())) as before, zipfile.ZipFile(out, "w") as archive:
        for name in before.namelist():
            content = before.read(name)
            archive.writestr(name, content.replace(b"</p:spTree>", picture.encode()) if name == part else content)
    return with_pictures(out.getvalue(), part, scan=encoded(scan(), "PNG"))


def test_without_tesseract_pictures_are_warned_of(tmp_path: Path) -> None:
    with without_tesseract(tmp_path):
        mixed = letter(p("Some text.") + shown("scan"), scan=encoded(scan(), "PNG"))
        alone = letter(shown("scan"), scan=encoded(scan(), "PNG"))
        logo = letter(p("Some text.") + shown("scan"), scan=encoded(Image.new("L", (300, 90)), "PNG"))
        (page,) = read(tmp_path / "a.docx", mixed)
        assert (page.text, page.warning, page.recognized) == ("Some text.", "pictures", False)
        assert [page.warning for page in read(tmp_path / "b.docx", alone)] == ["pictures"]
        assert [page.warning for page in read(tmp_path / "c.docx", logo)] == [""]
        assert [page.warning for page in read(tmp_path / "a.pptx", slides(), PPTX)] == ["", "pictures"]


def test_damaged_pictures_and_bombs_cost_only_themselves(tmp_path: Path) -> None:
    require_tesseract()
    cut = encoded(scan(), "PNG")[:2_000]
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    body = p("Before.") + shown("cut") + shown("bomb") + shown("scan") + p("After.")
    (page,) = read(tmp_path / "a.docx", letter(body, cut=cut, bomb=bomb, scan=encoded(scan(), "PNG")))
    assert " ".join(page.text.split()) == f"Before. {SCAN} After."
    assert page.warning == "ocr_failed"


def test_the_number_of_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PICTURES", 1)
    path = tmp_path / "a.docx"
    small = encoded(Image.new("L", (9, 9)), "PNG")
    path.write_bytes(letter(shown("one") + shown("two"), one=small, two=small))
    package, shots = Package(path, "DOCX file"), Pictures(Recognizer("eng", lambda: None))
    found = [shots.blocks(package, f"word/media/{name}.png") for name in ("one", "one", "two", "two")]
    assert found == [[], [], [Block("", warning="pictures")], []]


def test_an_empty_document_is_still_empty(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path / "a.docx", docx(p(""))())
    assert caught.value.reason == "empty"
