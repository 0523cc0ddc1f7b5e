"""Each file of the corpus gives the text that it must give and no other, or the reason why it cannot."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import DocumentError
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import ExtractionLimits, close_readers, read_document
from rag.ingest.indexing import _Noted
from rag.ingest.media_types import detect
from schemas import Document, Page, PageWarning
from tests.support.corpus import Sample, folders, office, pages, pdfs, texts, word

KINDS = {
    "text": texts.SAMPLES,
    "html": pages.SAMPLES,
    "docx": word.SAMPLES,
    "pdf": pdfs.SAMPLES,
    "office": office.SAMPLES,
    "folders": folders.SAMPLES,
}
# test_ocr.py reads scans; here they are what they are on a machine without tesseract.
WITHOUT_OCR = ExtractionLimits(ocr_languages="")


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def read(sample: Sample, path: Path) -> tuple[list[Page], str]:
    """Return the pages of a sample, and the reason of its failure."""
    data = sample.make()
    path.write_bytes(data)
    try:
        media_type = detect(io.BytesIO(data), sample.name)
        return list(read_document(path, media_type=media_type, limits=WITHOUT_OCR).pages), ""
    except DocumentError as error:
        return [], error.reason if error.detail else "no sentence"


def check(sample: Sample, found: list[Page], reason: str) -> None:
    text = " ".join(" ".join(page.text for page in found).split())
    assert reason == sample.reason
    assert [part for part in sample.found if part not in text] == [], text
    assert [part for part in sample.absent if part in text] == [], text
    assert {page.number: page.warning for page in found if page.warning} == sample.warnings
    assert [label for label in sample.labels if label not in {page.label for page in found}] == []
    document = Document(upload_id="u", path="", name=sample.name)
    sections = {piece.text: piece.section for piece in chunk_pages(document, found, model="m")}
    marked = {page.text[at:].partition("\n")[0] for page in found for at in page.headings or ()}
    assert [heading for heading in sample.headings if heading not in {*sections.values(), *marked}] == []


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_the_corpus_give_their_text(kind: str, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for sample in KINDS[kind]:
        with subtests.test(sample.name):
            check(sample, *read(sample, tmp_path / "file"))


def test_names_are_unique() -> None:
    names = [sample.name for samples in KINDS.values() for sample in samples]
    assert len(set(names)) == len(names)


def test_a_file_of_mostly_unreadable_pages_fails_and_a_few_are_warned_of() -> None:
    """Nothing of an unreadable page is stored."""
    good, bad = Page(number=1, label="1", text="Words."), Page(number=2, label="2", text="", warning="unreadable_text")
    noted = _Noted([good, bad])
    assert list(noted) == [good, bad]
    noted.check_readable()
    assert noted.warnings == [PageWarning(page=2, reason="unreadable_text")]
    noted = _Noted([good, bad, bad.model_copy(update={"number": 3})])
    list(noted)
    with pytest.raises(DocumentError) as caught:
        noted.check_readable()
    assert caught.value.reason == "unreadable_text"
