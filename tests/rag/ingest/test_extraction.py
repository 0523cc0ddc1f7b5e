"""Reading files of each kind in child processes, with limits."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docx import Document as DocxDocument

from errors import DocumentError, UnsupportedFile
from rag.ingest import extraction, reader_pool
from rag.ingest.extraction import ExtractionLimits, ResourceUsage, close_readers, read_document
from rag.ingest.media_types import DOCX, HTML, MARKDOWN, PDF, PLAIN, detect
from rag.ingest.reader_pool import ReaderFailed
from tests.support import hostile
from tests.support.pdfs import write_pdf
from tests.support.processes import descendants, wait_until

MiB = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def outcome(path: Path, *, media_type: str = PDF, limits: ExtractionLimits | None = None) -> str:
    """Read a file to its end; return the reason of the failure, or `read`."""
    try:
        text = read_document(path, media_type=media_type, limits=limits)
        for page in text.pages:
            page.text.encode()
            assert "\x00" not in page.text
    except DocumentError as error:
        return error.reason
    return "read"


def test_pypdf_continues_where_pdfium_fails(monkeypatch: pytest.MonkeyPatch, pdf: Path) -> None:
    expected = [page.text for page in read_document(pdf).pages]
    # A reader that dies on the second page, as pdfium does when it gets no more memory.
    read_with = extraction._read_with

    def dying(
        reader: str, path: Path, limits: ExtractionLimits, usage: ResourceUsage, *, skip: int
    ) -> Iterator[object]:
        for number, item in enumerate(read_with(reader, path, limits, usage, skip=skip)):
            if reader == "pdfium" and number == 2:
                raise ReaderFailed(DocumentError("broken", "died"))
            yield item

    monkeypatch.setattr(extraction, "_read_with", dying)
    text = read_document(pdf)
    pages = list(text.pages)
    assert [page.number for page in pages] == [1, 2, 3]
    assert [" ".join(page.text.split()) for page in pages] == [" ".join(page.split()) for page in expected]


def test_limits_on_pages_and_text(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["Some words on a page. " * 50] * 4)
    assert outcome(path, limits=ExtractionLimits(max_pages=4)) == "read"
    assert outcome(path, limits=ExtractionLimits(max_pages=3)) == "too_long"
    assert outcome(path, limits=ExtractionLimits(max_text_bytes=2_000)) == "too_large"
    text = written(tmp_path / "a.txt", b"word " * 10_000)
    assert outcome(text, media_type=PLAIN, limits=ExtractionLimits(max_text_bytes=60_000)) == "read"
    assert outcome(text, media_type=PLAIN, limits=ExtractionLimits(max_text_bytes=40_000)) == "too_large"
    assert outcome(text, media_type=PLAIN, limits=ExtractionLimits(max_text_bytes=4_000)) == "too_large"


def test_an_abandoned_iteration_leaves_no_process(pdf: Path) -> None:
    text = read_document(pdf)
    next(text.pages)
    close = getattr(text.pages, "close")  # noqa: B009  Iterator has none by type
    close()
    assert reader_pool.idle == []
    assert outcome(pdf) == "read"
    assert len(reader_pool.idle) == 1
    assert outcome(pdf) == "read"
    assert len(reader_pool.idle) == 1, "the process is reused"


def test_the_reader_ends_with_the_worker(tmp_path: Path) -> None:
    path = written(tmp_path / "slow.pdf", hostile.slow_text())
    code = (
        "from pathlib import Path; from rag.ingest.extraction import read_document, ExtractionLimits\n"
        f"read_document(Path({str(path)!r}), limits=ExtractionLimits(cpu_seconds=60)).pages.__next__()"
    )
    from tests.support.processes import PYTHON, ROOT

    with subprocess.Popen([PYTHON, "-c", code], cwd=ROOT) as worker:
        try:
            wait_until(lambda: len(descendants(worker.pid)) == 2, what="the reader and its fork")
            readers = descendants(worker.pid)
        finally:
            worker.kill()
    wait_until(lambda: not any(alive(pid) for pid in readers), seconds=5, what="their end")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_reader_gets_no_secrets(pdf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert outcome(pdf) == "read"
    pid = reader_pool.idle[0].pid
    assert b"sk-very-secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_kernel_enforces_the_cpu_limit(tmp_path: Path) -> None:
    """The kernel kills a fork that exceeds its CPU time, however little memory it uses."""
    path = written(tmp_path / "slow.pdf", hostile.slow_text())
    assert outcome(path, limits=ExtractionLimits(cpu_seconds=1)) == "timeout"
    assert -signal.SIGXCPU in extraction._CPU_SIGNALS


TEXTS = {
    "plain": (PLAIN, "a.txt", "First line.\n\nZweite Zeile: größer.\n".encode()),
    "utf-16": (PLAIN, "a.txt", "First line.\n\nZweite Zeile: größer.\n".encode("utf-16")),
    "latin-1": (PLAIN, "a.txt", "First line.\n\nZweite Zeile: größer, schöner, länger.\n".encode("latin-1")),
    "markdown": (MARKDOWN, "a.md", "# First line.\n\nZweite *Zeile*: [größer](http://x.test).\n".encode()),
    "html": (
        HTML,
        "a.html",
        "<!doctype html><meta charset=utf-8><title>T</title><style>p{}</style><script>x()</script>"
        "<p>First <b>line</b>.<!-- hidden --><p>Zweite\nZeile: größer.".encode(),
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_read(name: str, tmp_path: Path) -> None:
    media_type, file_name, data = TEXTS[name]
    assert detect(io.BytesIO(data), file_name) == media_type
    text = read_document(written(tmp_path / file_name, data), media_type=media_type)
    pages = list(text.pages)
    assert (text.page_count, len(pages)) == (1, 1)
    assert "First line." in pages[0].text
    assert "Zweite Zeile: größer" in pages[0].text
    for unseen in ("x()", "p{}", "hidden", "http://"):
        assert unseen not in pages[0].text


def test_docx_is_read_in_order_with_its_tables(tmp_path: Path) -> None:
    document = DocxDocument()
    document.add_heading("Heating", 1)
    document.add_paragraph("The boiler is from 1998.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Power", "24 kW"
    document.add_paragraph("After the table.")
    path = tmp_path / "a.docx"
    document.save(str(path))
    with path.open("rb") as file:
        assert detect(file, "renamed.bin") == DOCX
    pages = list(read_document(path, media_type=DOCX).pages)
    assert pages[0].text == "Heating\n\nThe boiler is from 1998.\n\nPower | 24 kW\n\nAfter the table."


def test_long_texts_come_in_parts_that_join_to_the_whole(tmp_path: Path) -> None:
    whole = "\n\n".join(f"Paragraph {n} says something." for n in range(5_000))
    text = read_document(written(tmp_path / "a.txt", whole.encode()), media_type=PLAIN)
    pages = list(text.pages)
    assert text.page_count == len(pages) > 3
    assert "".join(page.text for page in pages) == whole


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.bin", b"PK\x03\x04" + bytes(30)),
        ("a.txt", b"\x7fELF" + bytes(60)),
        ("a.rtf", b"{\\rtf1 hello}"),
        ("a.bin", "größer".encode("latin-1")),
        ("a.pdf", b"just words"),
    ],
)
def test_files_of_other_kinds_are_unsupported(name: str, data: bytes) -> None:
    with pytest.raises(UnsupportedFile):
        detect(io.BytesIO(data), name)


def test_a_pdf_by_any_name_is_a_pdf(pdf: Path) -> None:
    with pdf.open("rb") as file:
        assert detect(file, "notes.txt") == PDF
        assert file.tell() == 0


def test_the_kind_of_a_hostile_file_is_detected_in_linear_time() -> None:
    """A pattern that backtracks would take seconds or years for these files, in the process of the API."""
    for data in (b"<!-- -->" * 5_000, b"<!---->" * 9_000 + b"x", b"<p<a<br" * 9_000, b"<!--" * 16_000, b" " * 65_000):
        began = time.process_time()
        assert detect(io.BytesIO(data), "a.html") == PLAIN
        assert time.process_time() - began < 5
    commented = b"<!-- a -->\n<?xml version='1.0'?> <!-- b --> <HTML><p>Hello"
    assert detect(io.BytesIO(commented), "unnamed") == HTML


def test_an_archive_with_too_long_a_list_of_files_is_unsupported() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("[Content_Types].xml", "word/document.xml", *(f"{n:0200}" for n in range(6_000))):
            archive.writestr(name, "")
    with pytest.raises(UnsupportedFile):
        detect(out, "many.docx")
