"""Reading PDFs, and the ids of their chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import DocumentError
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import read_document
from rag.ingest.formats.blocks import clean_text
from rag.ingest.media_types import XLSX
from samples import make_handbook
from schemas import Document, Page
from tests.support.corpus.office import Rows, xlsx
from tests.support.pdfs import write_pdf


def document(path: Path) -> Document:
    return Document(upload_id="u", path=str(path), name=path.name)


def test_pages_have_their_number_label_and_text(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["First page.", "Second page."], labels="ROMAN_LOWER")
    pdf = read_document(path)
    assert pdf.page_count == 2
    assert [(page.number, page.label, page.text) for page in pdf.pages] == [
        (1, "i", "First page."),
        (2, "ii", "Second page."),
    ]


def failure_reason(path: Path) -> str:
    """Read a file that fails; return the reason."""
    with pytest.raises(DocumentError) as caught:
        list(read_document(path).pages)
    return caught.value.reason


def test_each_unreadable_file_has_its_reason(tmp_path: Path) -> None:
    def written(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    good = write_pdf(tmp_path / "good.pdf", ["Text."]).read_bytes()
    assert failure_reason(tmp_path / "missing.pdf") == "not_found"
    assert failure_reason(written("empty.pdf", b"")) == "broken"
    assert failure_reason(written("page.pdf", b"<html></html>")) == "not_a_pdf"
    assert failure_reason(written("half.pdf", good[: len(good) // 3])) == "broken"
    assert failure_reason(write_pdf(tmp_path / "locked.pdf", ["Secret."], password="open sesame")) == "encrypted"


def test_a_pdf_that_opens_without_a_password_is_read(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "owner.pdf", ["May be read."], password="", labels="ARABIC")
    assert [page.text for page in read_document(path).pages] == ["May be read."]


def test_the_caption_of_a_sheet_is_the_section_of_its_rows_alone(tmp_path: Path) -> None:
    """A figure far below the caption is found by what the caption says, such as the year."""
    rows: Rows = [("Fees of 2019",), (), ("Berth", "Fee"), *((f"B{n}", float(n)) for n in range(90))]
    path = tmp_path / "fees.xlsx"
    path.write_bytes(xlsx({"Old": rows, "Crew": [("Name", "Post"), ("Ida", "keeper")]})())
    pages = list(read_document(path, media_type=XLSX).pages)
    sections = {chunk.page_label: chunk.section for chunk in chunk_pages(document(path), pages, model="m")}
    assert sections == {
        "Sheet Old, rows 4–43": "Fees of 2019",
        "Sheet Old, rows 44–83": "Fees of 2019",
        "Sheet Old, rows 84–93": "Fees of 2019",
        "Sheet Crew, rows 2–2": "",
    }


def test_characters_that_json_cannot_hold_are_dropped() -> None:
    assert clean_text("a\x00b\ud800c\x1b[1m\r\nd") == "abc[1m\nd"


def test_chunks_keep_their_page_and_place(tmp_path: Path) -> None:
    pages = [Page(number=n, label=f"p{n}", text=f"Sentence {n} goes on. " * 100) for n in (1, 2)]
    chunks = list(chunk_pages(document(tmp_path), pages, model="m"))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.page for chunk in chunks} == {1, 2}
    for chunk in chunks:
        assert pages[chunk.page - 1].text[chunk.start : chunk.end] == chunk.text
        assert chunk.page_label == f"p{chunk.page}"


def test_chunk_ids_follow_from_upload_number_and_model(tmp_path: Path) -> None:
    pages = [Page(number=1, label="1", text="One. " * 400)]
    first = [chunk.id for chunk in chunk_pages(document(tmp_path), pages, model="m")]
    again = [chunk.id for chunk in chunk_pages(document(tmp_path), pages, model="m")]
    other = [chunk.id for chunk in chunk_pages(document(tmp_path), pages, model="n")]
    assert first == again
    assert not set(first) & set(other)
    assert len(set(first)) == len(first) > 1


def test_the_sample_handbook_equals_the_output_of_its_script(tmp_path: Path) -> None:
    make_handbook.make(tmp_path / "handbook.pdf")
    assert (tmp_path / "handbook.pdf").read_bytes() == make_handbook.OUTPUT.read_bytes()
    labels = [page.label for page in read_document(make_handbook.OUTPUT).pages]
    assert labels == ["i", "ii", "1", "2", "3", "4", "5", "6", "7", "8"]
