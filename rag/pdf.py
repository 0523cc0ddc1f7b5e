"""Text of a PDF, page by page."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import DocumentError
from schemas import Page

# Readers look for the header in the first KiB (PDF 1.7, implementation note 13).
HEADER_BYTES = 1024
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PdfText:
    """A PDF being read. `pages` can be walked once and holds one page in memory at a time."""

    page_count: int
    pages: Iterator[Page]


def read_pdf(path: Path) -> PdfText:
    """Open a PDF and return its pages, each with its text and printed label.

    Raises:
        DocumentError: `not_found`, `not_a_pdf`, `encrypted` or `broken`; while walking, also for a later page.

    """
    _check_header(path)
    documents = _documents(path)
    first = next(documents, None)
    if first is None:
        raise DocumentError("broken", "the file has no pages")
    return PdfText(page_count=first.metadata["total_pages"], pages=_pages(first, documents))


def _pages(first: Any, rest: Iterator[Any]) -> Iterator[Page]:
    yield _page(first)
    for document in rest:
        yield _page(document)


def _page(document: Any) -> Page:
    number = document.metadata["page"] + 1
    label = clean_text(str(document.metadata.get("page_label") or number))
    return Page(number=number, label=label, text=clean_text(document.page_content))


def clean_text(text: str) -> str:
    """Drop NUL characters and lone surrogates, which JSON and Qdrant cannot hold."""
    return _UNSTORABLE.sub("", text)


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise DocumentError("not_found", "there is no such file") from None
    except OSError as error:
        raise DocumentError("broken", f"the file cannot be read: {error.strerror}") from None
    if not head:
        raise DocumentError("broken", "the file is empty")
    if b"%PDF-" not in head:
        raise DocumentError("not_a_pdf", "the file is not a PDF")


def _documents(path: Path) -> Iterator[Any]:
    """Yield LangChain documents, one a page, with the reader's many errors turned into ours."""
    # Imported here: 0.8 s that answering a question need not pay.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from langchain_community.document_loaders.parsers.pdf import PyPDFParser
        from langchain_core.documents.base import Blob
        from pypdf.errors import DependencyError, FileNotDecryptedError, WrongPasswordError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each fault it has mended
    try:
        yield from PyPDFParser().lazy_parse(Blob.from_path(path))
    except (FileNotDecryptedError, WrongPasswordError, DependencyError):
        raise DocumentError("encrypted", "the file is encrypted and needs a password") from None
    except RecursionError:
        raise DocumentError("broken", "the PDF is broken: its objects refer to each other in a circle") from None
    except Exception as error:  # noqa: BLE001  pypdf raises many kinds, also KeyError and TypeError, on broken files
        raise DocumentError("broken", f"the PDF is broken: {type(error).__name__}: {error}"[:300]) from None
