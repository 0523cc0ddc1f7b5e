"""The text of files, page by page, one reader for each kind. Runs in the child process of reader_process.py.

Imports only `errors` of this program, so that the child starts fast. Each reader imports its library when it is called.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.ingest.formats.block_pages import pages_of_blocks
from rag.ingest.formats.blocks import Block, File, PageText, parts_with_lines
from rag.ingest.formats.ocr import Recognizer
from rag.ingest.media_types import (
    CONTAINERS,
    CONVERTED,
    CSV,
    DOCX,
    EPUB,
    HTML,
    IMAGES,
    JSON,
    JSON_LINES,
    MARKDOWN,
    ODS,
    PDF,
    PPTX,
    TSV,
    XLS,
    XLSX,
)
from rag.text.invisible import strip_invisible

# A text file may be larger than its text by this factor: UTF-16 doubles the size, markup adds to it.
FILE_BYTES_PER_TEXT_BYTE = 4
# A shorter text is looked at for characters that can be seen.
MAX_BLANK_CHARS = 10_000


def read_pages(
    path: Path, *, reader: str, skip: int, max_text_bytes: int, recognizer: Recognizer
) -> tuple[int, Iterator[PageText]]:
    """Open a file; return the number of its pages, and the pages after the first `skip`.

    `reader` is a media type or, for PDFs, `pdfium` or `pypdf`. Raises DocumentError, also while iterating.
    """
    if reader == "pdfium":
        from rag.ingest.formats.pdf import read_pdfium

        return read_pdfium(path, skip, recognizer)
    if reader == "pypdf":
        return _pypdf(path, skip)
    if reader in CONVERTED:  # a page that somebody looks at
        raise DocumentError("no_page", "the page has no text, or is not kept: index the file again")
    if path.stat().st_size > max_text_bytes * FILE_BYTES_PER_TEXT_BYTE and reader not in _PACKED:
        raise DocumentError("too_large", "the file holds more text than is allowed (MAX_TEXT_MB)")
    if reader in CONTAINERS:
        from rag.ingest.formats.members import Members

        members = Members(lambda kind, file: _member_pages(kind, file, recognizer), size=path.stat().st_size)
        count, streamed = members.open(reader, path)
        return count, islice(streamed, skip, None)
    if reader in IMAGES:
        from rag.ingest.formats.images import read_image

        count, streamed = read_image(path, recognizer)
        return count, islice(streamed, skip, None)
    pages = list(_pages_of(reader, path, recognizer))
    if not any(page.text or page.warning for page in pages):
        raise DocumentError("empty", "the file holds no text")
    if any(page.recognized for page in pages):  # the file is read as a whole
        pages = [replace(page, recognized=True) for page in pages]
    return len(pages), iter(pages[skip:])


def _member_pages(kind: str, file: File, recognizer: Recognizer) -> Iterator[PageText]:
    """Yield the pages of a file inside another."""
    if kind == PDF:
        from rag.ingest.formats.pdf import read_pdfium

        yield from read_pdfium(file, 0, recognizer)[1]
    elif kind in IMAGES:
        from rag.ingest.formats.images import read_image

        yield from read_image(file, recognizer)[1]
    else:
        yield from _pages_of(kind, file, recognizer)


def _pages_of(kind: str, file: File, recognizer: Recognizer) -> Iterator[PageText]:
    if kind == DOCX:
        return pages_of_blocks(_docx(file, recognizer))
    if kind == PPTX:
        return _slides(file, recognizer)
    return pages_of_blocks(_BLOCKS[kind](file)) if kind in _BLOCKS else _PAGES.get(kind, _plain)(file)


def _pypdf(path: Path, skip: int) -> tuple[int, Iterator[PageText]]:
    documents = _langchain_documents(path)
    first = next(documents, None)
    if first is None:
        raise DocumentError("broken", "the file has no pages")
    return int(first.metadata["total_pages"]), _after(first, documents, skip)


def _after(first: Any, others: Iterator[Any], skip: int) -> Iterator[PageText]:
    """Yield the label and text of LangChain documents, without the first `skip`."""
    for document in islice(chain([first], others), skip, None):
        yield PageText(str(document.metadata.get("page_label") or ""), document.page_content)


def _langchain_documents(path: Path) -> Iterator[Any]:
    """Yield one LangChain document for each page; each error of pypdf becomes a DocumentError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.document_loaders.parsers.pdf import PyPDFParser
        from langchain_core.documents.base import Blob
        from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, WrongPasswordError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # pypdf warns of each fault that it repairs
    try:
        yield from PyPDFParser().lazy_parse(Blob.from_path(path))
    except (FileNotDecryptedError, WrongPasswordError, DependencyError):
        raise DocumentError("encrypted", "the file is encrypted and needs a password") from None
    except LimitReachedError as error:
        if "depth" in str(error):
            raise DocumentError("broken", "the PDF is broken: its pages are nested too deeply") from None
        raise DocumentError("too_large", "the PDF unpacks to more than is allowed") from None
    except RecursionError:
        raise DocumentError("broken", "the PDF is broken: its objects refer to each other in a circle") from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  on broken files pypdf raises many kinds, even KeyError and TypeError
        raise DocumentError("broken", "the PDF is broken: its pages cannot be read") from None


def _plain(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.encodings import decode

    text = decode(path.read_bytes())
    if not text.strip() or (len(text) < MAX_BLANK_CHARS and not strip_invisible(text).strip()):
        return iter(())
    return parts_with_lines(text)


def _markdown(path: File) -> list[Block]:
    from rag.ingest.formats.html import read_markdown

    return read_markdown(path)


def _html(path: File) -> list[Block]:
    from rag.ingest.formats.html import read_html

    return read_html(path)


def _docx(path: File, recognizer: Recognizer) -> list[Block]:
    from rag.ingest.formats.docx import read_docx
    from rag.ingest.formats.pictures import Pictures

    return read_docx(path, Pictures(recognizer))


def _workbook(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.sheets import read_workbook

    return read_workbook(path)


def _csv(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.sheets import read_separated

    return read_separated(path)


def _tsv(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.sheets import read_separated

    return read_separated(path, delimiter="\t")


def _slides(path: File, recognizer: Recognizer) -> Iterator[PageText]:
    from rag.ingest.formats.pictures import Pictures
    from rag.ingest.formats.slides import read_slides

    return read_slides(path, Pictures(recognizer))


def _epub(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.epub import read_epub

    return read_epub(path)


def _json(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.records import read_json

    return read_json(path)


def _json_lines(path: File) -> Iterator[PageText]:
    from rag.ingest.formats.records import read_json_lines

    return read_json_lines(path)


_PACKED = (DOCX, XLSX, XLS, ODS, PPTX, EPUB, *CONTAINERS, *IMAGES)
_PAGES: dict[str, Callable[[File], Iterator[PageText]]] = {
    XLSX: _workbook,
    XLS: _workbook,
    ODS: _workbook,
    CSV: _csv,
    TSV: _tsv,
    EPUB: _epub,
    JSON: _json,
    JSON_LINES: _json_lines,
}
_BLOCKS: dict[str, Callable[[File], list[Block]]] = {HTML: _html, MARKDOWN: _markdown}
