"""A document's way into the vector store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from errors import DocumentError, StoreError
from rag.ingest.chunking import chunk_pages
from rag.ingest.extraction import ExtractionLimits, read_document
from schemas import Chunk, Document, Indexed, Page, Progress, SearchFilter

# Texts embedded in one call: OpenAI takes 2,048 texts and 300,000 tokens; 64 chunks are about 15,000 tokens.
BATCH_CHUNKS = 64

# Receives the progress of a job as it changes.
ProgressCallback = Callable[[Progress], None]


class ChunkStore(Protocol):
    """Where chunks are kept. Writing a chunk with a known id replaces it."""

    model: str

    def upsert(self, chunks: list[Chunk]) -> None: ...
    def missing(self, chunks: list[Chunk]) -> list[Chunk]: ...
    def delete(self, upload_id: str, *, user_id: str, from_index: int = 0) -> None: ...
    def count(self, chosen: SearchFilter) -> int: ...


def index_document(
    document: Document,
    store: ChunkStore,
    report: ProgressCallback,
    *,
    limits: ExtractionLimits | None = None,
    check: Callable[[], None] = lambda: None,
    fresh: bool = False,
) -> Indexed:
    """Read, split and store a document, and drop what an earlier, longer version of it left behind.

    Chunks that are stored already, word for word, are not embedded again: so a run that was cut short is resumed.
    `check` is called after each batch, and stops the run by raising. `fresh` says that nothing of the document is
    stored yet, which saves looking.

    Raises:
        DocumentError: the file cannot be read or holds no text.
        StoreError: the store does not hold every chunk afterwards.
        ProviderError: the text could not be embedded.

    """
    report(Progress(stage="reading"))
    text = read_document(Path(document.path), media_type=document.media_type, limits=limits)
    chosen = SearchFilter(user_id=document.user_id, upload_ids=(document.upload_id,))
    resumed = not fresh and store.count(chosen) > 0
    pages = _reported(text.pages, text.page_count, report)
    stored = 0
    for batch in _batches(chunk_pages(document, pages, model=store.model)):
        store.upsert(store.missing(batch) if resumed else batch)
        stored += len(batch)
        check()
    if not stored:
        raise DocumentError("no_text", "no text was found: the pages may be scanned images")
    if resumed:
        store.delete(document.upload_id, user_id=document.user_id, from_index=stored)
    found = store.count(chosen)
    if found != stored:
        raise StoreError(f"{stored} chunks were made but {found} are stored; index the file again")
    return Indexed(upload_id=document.upload_id, name=document.name, pages=text.page_count, chunks=stored)


def _reported(pages: Iterable[Page], total: int, report: ProgressCallback) -> Iterator[Page]:
    """Pass pages on, reporting each when the next is asked for, that is, when it has been dealt with."""
    for done, page in enumerate(pages):
        report(Progress(stage="indexing", done=done, total=total))
        yield page
    report(Progress(stage="indexing", done=total, total=total))


def _batches(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    while batch := list(islice(chunks, BATCH_CHUNKS)):
        yield batch
