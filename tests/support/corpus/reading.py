"""The corpus by kind, and what became of each of its files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePath

from errors import DocumentError
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import ExtractionLimits, read_document
from rag.ingest.media_types import detect
from schemas import Document, Page
from tests.support.corpus import Sample, folders, office, pages, pdfs, programs, texts, unusual, word, workbooks

KINDS = {
    "text": texts.SAMPLES,
    "html": pages.SAMPLES,
    "docx": word.SAMPLES,
    "pdf": pdfs.SAMPLES,
    "office": office.SAMPLES,
    "folders": folders.SAMPLES,
    "unusual": unusual.SAMPLES,
    "programs": programs.SAMPLES,
    "workbooks": workbooks.SAMPLES,
}
# test_ocr.py reads scans; here they are what they are on a machine without tesseract.
WITHOUT_OCR = ExtractionLimits(ocr_languages="")


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
    """Fail unless a sample gives its text and no other, or its reason."""
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


OUTCOMES = ("right", "warned", "refused", "wrong")


def expected(sample: Sample) -> str:
    """Return what must become of a sample."""
    if sample.reason:
        return "refused"
    return "warned" if sample.warnings else "right"


def table_of(outcome: Callable[[Sample], str]) -> str:
    """Return what becomes of the files of each ending, as a table of docs/uploads.md."""
    counts: dict[str, Counter[str]] = {}
    for sample in (one for samples in KINDS.values() for one in samples):
        ending = PurePath(sample.name).suffix.lower()
        counts.setdefault(ending, Counter())[outcome(sample)] += 1
    rows = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    rows.append(("all", sum(counts.values(), Counter())))
    lines = [f"| ending | files | {' | '.join(OUTCOMES)} |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {one.total()} | {' | '.join(str(one[key]) for key in OUTCOMES)} |" for name, one in rows]
    return "\n".join(lines)
