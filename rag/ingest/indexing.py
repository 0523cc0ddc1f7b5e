"""Indexing: a document is read and split into chunks, and the chunks are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from errors import DocumentError, StoreError, StoreUnavailable
from observability.commands import script
from rag.ingest.chunking import chunk_pages
from rag.ingest.conversion import Converter, read_pages
from rag.ingest.extraction import ExtractionLimits
from rag.ingest.formats.ocr import is_installed
from rag.text.page_names import is_place
from schemas import Chunk, Document, Indexed, Page, PageWarning, Progress, SearchFilter

# The number of texts embedded in one call. OpenAI takes 2,048 texts and 300,000 tokens; 64 chunks are about 15,000
# tokens.
BATCH_CHUNKS = 64
# The warnings that are stored of an upload.
MAX_WARNINGS = 500
# The warning of a page, and the reason of a failure when most pages have it.
UNREADABLE = "unreadable_text"

# Receives the progress of a job as it changes.
ProgressCallback = Callable[[Progress], None]
# Called while the store is away: raises to give up, returns to have the write tried again.
OutageCallback = Callable[[StoreUnavailable], object]


def give_up(outage: StoreUnavailable) -> None:
    """Do not wait for a store that is away."""
    raise outage


class ChunkStore(Protocol):
    """Stores chunks by their id. Raises StoreError, and ProviderError when embedding fails."""

    model: str

    def upsert(self, chunks: list[Chunk], *, on_outage: OutageCallback) -> None: ...
    def missing(self, chunks: list[Chunk]) -> list[Chunk]: ...
    def delete(self, upload_id: str, *, user_id: str, from_index: int = 0) -> None: ...
    def count(self, search_filter: SearchFilter) -> int: ...


def index_document(
    document: Document,
    store: ChunkStore,
    report: ProgressCallback,
    *,
    limits: ExtractionLimits | None = None,
    check: Callable[[], None] = lambda: None,
    fresh: bool = False,
    on_outage: OutageCallback = give_up,
    keep: Callable[[Page], object] = lambda _page: None,
    converter: Converter | None = None,
) -> Indexed:
    """Read, split and store a document, and delete the chunks that an earlier, longer version left behind.

    Chunks that are already stored with the same text are not embedded again, so an interrupted run resumes. `check` is
    called after each batch and may raise to stop the run. `fresh`: the caller knows that no chunk of the document is
    stored yet, so that the store is not asked. `on_outage` decides about a store that is away when a batch is embedded:
    the write is tried again with the same vectors. `keep` is called with each page that took OCR or the `converter`.

    Raises:
        DocumentError: the file cannot be read, or holds no text.
        StoreError: the number of stored chunks is wrong afterwards.
        ProviderError: the text could not be embedded.

    """
    report(Progress(stage="reading"))
    document_pages = read_pages(document, limits, converter)
    document_filter = SearchFilter(user_id=document.user_id, upload_ids=(document.upload_id,))
    resuming = not fresh and store.count(document_filter) > 0
    noted = _Noted(_with_progress(document_pages.pages, document_pages.page_count, report), keep)
    stored = 0
    for batch in _batches(chunk_pages(document, noted, model=store.model)):
        store.upsert(store.missing(batch) if resuming else batch, on_outage=on_outage)
        stored += len(batch)
        check()
    noted.check_readable()
    if not stored:
        raise DocumentError("no_text", _no_text(document.upload_id))
    if resuming:
        store.delete(document.upload_id, user_id=document.user_id, from_index=stored)
    count = store.count(document_filter)
    if count != stored:
        raise StoreError(f"{stored} chunks were made but {count} are stored; index the file again")
    return Indexed(
        upload_id=document.upload_id,
        name=document.name,
        pages=max(document_pages.page_count, noted.count),
        chunks=stored,
        warnings=tuple(noted.warnings[:MAX_WARNINGS]),
    )


class _Noted:
    """Pages, of which the warnings are noted while they pass. `keep` is called with those that took OCR."""

    def __init__(self, pages: Iterable[Page], keep: Callable[[Page], object] = lambda _page: None) -> None:
        self._pages, self._keep = pages, keep
        self._readable = 0
        self.count = 0
        self.warnings: list[PageWarning] = []

    def __iter__(self) -> Iterator[Page]:
        for page in self._pages:
            self.count += 1
            if page.recognized:
                self._keep(page)
            if page.warning:
                label = page.label if is_place(page.label) else ""
                self.warnings.append(PageWarning(page=page.number, reason=page.warning, page_label=label))
            self._readable += page.warning != UNREADABLE and bool(page.text.strip())
            yield page

    def check_readable(self) -> None:
        """Raise DocumentError when more pages are unreadable than are read."""
        unreadable = sum(1 for warning in self.warnings if warning.reason == UNREADABLE)
        if unreadable > self._readable:
            raise DocumentError(
                UNREADABLE,
                f"the text of {unreadable} of {unreadable + self._readable} pages with text is not language: "
                "the fonts of the file do not say which letters they draw",
            )


def _no_text(upload_id: str) -> str:
    if is_installed():
        return "no text was found, and OCR recognized none: check OCR_LANGUAGES"
    again = f"{script('main.py')} reindex {upload_id}"
    return f"no text was found: the pages may be scans; install tesseract-ocr for the workers, then run `{again}`"


def _with_progress(pages: Iterable[Page], total: int, report: ProgressCallback) -> Iterator[Page]:
    """Yield the pages; report a page as done when the next page is requested."""
    for done, page in enumerate(pages):
        total = max(total, done + 1)  # a file that holds files has more pages than files
        report(Progress(stage="indexing", done=done, total=total))
        yield page
    report(Progress(stage="indexing", done=total, total=total))


def _batches(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    while batch := list(islice(chunks, BATCH_CHUNKS)):
        yield batch
