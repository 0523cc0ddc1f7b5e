"""Pages and files that our readers cannot read, converted by another service where one is set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from errors import DocumentError
from rag.ingest.extraction import DocumentPages, ExtractionLimits, read_document
from rag.ingest.formats.docling import CONVERSION_FAILED, DoclingPage
from rag.ingest.formats.ocr import OCR_FAILED, is_installed
from rag.ingest.formats.pdf import NO_TEXT, UNREADABLE
from rag.ingest.media_types import CONVERTED, IMAGES, PDF
from rag.ingest.page_views import page_picture
from schemas import Document, Page

# A4 at 200 dpi, as for our own OCR.
PICTURE_WIDTH = 1_654


class Converter(Protocol):
    """Returns the pages of a file. Raises DocumentError `conversion_failed`."""

    def convert(self, data: bytes, name: str) -> list[DoclingPage]: ...


def read_pages(document: Document, limits: ExtractionLimits | None, converter: Converter | None) -> DocumentPages:
    """Return the pages of a document, by our readers first. Raises DocumentError, also while iterating."""
    path, limits = Path(document.path), limits or ExtractionLimits()
    if document.media_type in CONVERTED:
        return _whole(document, limits, converter)
    read = read_document(path, media_type=document.media_type, limits=limits)
    if converter is None or document.media_type not in (PDF, *IMAGES):
        return read
    return DocumentPages(read.page_count, _with_conversions(read.pages, document, limits, converter))


def _whole(document: Document, limits: ExtractionLimits, converter: Converter | None) -> DocumentPages:
    """Return the pages of a file of a kind that only the converter reads."""
    if converter is None:
        raise DocumentError("unsupported", "files of this kind are read with DOCUMENT_CONVERTER_URL only: set it")
    converted = converter.convert(Path(document.path).read_bytes(), document.name)
    if not converted:
        raise DocumentError("empty", "the file holds no text")
    if sum(len(page.text.text.encode()) for page in converted) > limits.max_text_bytes:
        raise DocumentError(
            "too_large", f"the file holds more than {limits.max_text_bytes >> 20} MiB of text (MAX_TEXT_MB)"
        )
    if len(converted) > limits.max_pages:
        raise DocumentError("too_long", f"the file has {len(converted)} pages (MAX_PAGES)")
    pages = (
        _page(Page(number=page.number or place, label=str(page.number or place), text=""), page)
        for place, page in enumerate(converted, start=1)
    )
    return DocumentPages(max(converted[-1].number, len(converted)), pages)


def _with_conversions(
    pages: Iterator[Page], document: Document, limits: ExtractionLimits, converter: Converter
) -> Iterator[Page]:
    """Yield the pages; those without text that should have text are converted from their pictures.

    A page that cannot be converted has a warning. Raises the last DocumentError if no page at all has text.
    """
    # Where tesseract is installed, a page without text is a photograph.
    unread = {UNREADABLE, OCR_FAILED, *(() if is_installed() else (NO_TEXT,))}
    has_text, failure = False, None
    for page in pages:
        made = page
        if page.warning in unread:
            try:
                made = _converted(page, document, limits, converter)
            except DocumentError as error:
                made, failure = page.model_copy(update={"warning": CONVERSION_FAILED}), error
        has_text = has_text or bool(made.text.strip())
        yield made
    if failure is not None and not has_text:
        raise failure


def _converted(page: Page, document: Document, limits: ExtractionLimits, converter: Converter) -> Page:
    """Return a page as the converter reads its picture. Raises DocumentError."""
    path, kind = Path(document.path), document.media_type
    picture = page_picture(path, page.number, media_type=kind, width=PICTURE_WIDTH, kind="png", limits=limits)
    found = converter.convert(picture, f"page-{page.number}.png")
    return _page(page, found[0]) if found else page


def _page(page: Page, converted: DoclingPage) -> Page:
    text = converted.text
    changes = {"text": text.text, "headings": text.headings, "warning": text.warning, "words": b"", "tables": ()}
    return page.model_copy(update={**changes, "recognized": True})
