"""The pages of uploads as people see them: drawn or read once by a reader process, then kept in a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from client.files.page_cache import PageCache
from client.files.store import FileStore
from client.sql.recognized_pages import RecognizedPageRepository
from documents.threads import InThread
from errors import DocumentError, PageNotFound, ServerBusy
from rag.ingest.boxes import Box, boxes_of, find_quote
from rag.ingest.extraction import ExtractionLimits
from rag.ingest.media_types import IMAGES, PDF
from rag.ingest.page_views import PageView as PageView  # noqa: PLC0414  for api, which imports nothing of rag
from rag.ingest.page_views import page_picture, page_view, prepare_reader, recognized_view
from schemas import Upload
from settings import VERSION, Settings

PictureKind = Literal["webp", "png"]
# CPU seconds for one page. Printed pages take 0.1 s.
PAGE_SECONDS = 5


class PageViews:
    """Pictures, texts and boxes of the pages of uploads.

    Methods raise PageNotFound, DocumentError for a file that cannot be read, FilesUnavailable, UploadsUnavailable and
    ServerBusy.
    """

    def __init__(
        self,
        settings: Settings,
        files: FileStore,
        recognized: RecognizedPageRepository,
        *,
        in_sql_thread: InThread = asyncio.to_thread,
        in_files_thread: InThread = asyncio.to_thread,
        in_pages_thread: InThread = asyncio.to_thread,
    ) -> None:
        """`in_files_thread` runs the calls of the cache, `in_pages_thread` the work of the reader processes."""
        self._files, self._recognized = files, recognized
        self._in_sql_thread = in_sql_thread
        self._cache = PageCache(settings.pages_dir, max_bytes=settings.page_cache_mb * 1024 * 1024)
        self._limits = ExtractionLimits(
            max_text_bytes=settings.max_text_mb * 1024 * 1024,
            memory_bytes=settings.extract_memory_mb * 1024 * 1024,
            cpu_seconds=min(settings.extract_seconds, PAGE_SECONDS),
            ocr_languages=settings.ocr_languages,
        )
        self._in_files_thread = in_files_thread
        self._in_pages_thread = in_pages_thread

    async def prepare(self) -> None:
        """Make ready to draw: somebody has opened the page."""
        with suppress(ServerBusy):
            await self._in_pages_thread(prepare_reader)

    def has_pictures(self, upload: Upload) -> bool:
        """Return True if pages of the upload can be drawn."""
        return upload.media_type in (PDF, *IMAGES)

    def picture_name(self, upload: Upload, number: int, *, width: int, kind: PictureKind) -> str:
        """Return a name that no other picture of the upload has, and that changes with the picture."""
        return f"{upload.sha256[:16]}-{VERSION}-{number}-{width}.{kind}"

    def text_name(self, upload: Upload, number: int) -> str:
        """Return a name that changes with the text of the page: indexing again may read it in another way."""
        indexed_at = f"{upload.indexed_at:%Y%m%d%H%M%S}" if upload.indexed_at else "0"
        return f"{upload.sha256[:16]}-{VERSION}-{indexed_at}-{upload.index_version or 0}-{number}.json"

    async def picture(self, upload: Upload, number: int, *, width: int, kind: PictureKind) -> bytes:
        """Return the picture of a page, `width` pixels wide, or less for a page of extreme shape."""
        if not self.has_pictures(upload):
            raise PageNotFound("there are pictures of PDFs and images only: ask for …/text, the text of the page")
        name = self.picture_name(upload, number, width=width, kind=kind)
        data = await self._in_files_thread(self._cache.get, upload.upload_id, name)
        if data is not None:
            return data
        return await self._in_pages_thread(self._draw, upload, number, width, kind, name)

    async def text(self, upload: Upload, number: int) -> PageView:
        """Return the text of a page, and where its characters stand."""
        name = self.text_name(upload, number)
        data = await self._in_files_thread(self._cache.get, upload.upload_id, name)
        if data is not None:
            return PageView.model_validate_json(data)
        page = await self._in_sql_thread(self._recognized.get, upload.upload_id, number)
        if page is not None:
            return recognized_view(page, upload.pages or number)
        return await self._in_pages_thread(self._read, upload, number, name)

    async def forget(self, upload: Upload) -> None:
        """Remove what is kept of an upload that is deleted."""
        await self._in_files_thread(self._cache.forget, upload.upload_id)

    async def trim(self) -> None:
        """Keep the cache within its bounds, also while nobody looks at pages."""
        await self._in_files_thread(self._cache.trim_if_due)

    def _draw(self, upload: Upload, number: int, width: int, kind: PictureKind, name: str) -> bytes:
        with _missing_pages(), self._files.local_path(upload.file_id) as path:
            data = page_picture(path, number, media_type=upload.media_type, width=width, kind=kind, limits=self._limits)
        self._cache.put(upload.upload_id, name, data)
        return data

    def _read(self, upload: Upload, number: int, name: str) -> PageView:
        with _missing_pages(), self._files.local_path(upload.file_id) as path:
            view = page_view(path, number, media_type=upload.media_type, limits=self._limits)
        self._cache.put(upload.upload_id, name, view.model_dump_json().encode())
        return view


def locate(view: PageView, start: int | None, end: int | None, quote: str | None) -> tuple[int, int] | None:
    """Return the span of a quote in the text of its page; None if the text has no such span.

    The offsets win if the text between them is the quote, or if no quote is given.
    """
    inside = start is not None and end is not None and start < end <= len(view.text)
    if inside and (quote is None or view.text[start:end] == quote):
        return (start or 0), (end or 0)
    return find_quote(view.text, quote, start or 0) if quote else None


def boxes(view: PageView, start: int, end: int) -> list[Box]:
    """Return the boxes of a part of the page's text, one for each line, in points from the top left corner."""
    return boxes_of(view.runs, start, end)


@contextmanager
def _missing_pages() -> Iterator[None]:
    """Turn the error for a page that the file does not have into PageNotFound."""
    try:
        yield
    except DocumentError as error:
        if error.reason in {"no_page", "no_picture"}:
            raise PageNotFound(error.detail) from None
        raise
