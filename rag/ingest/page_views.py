"""The parent's side of page_view.py: the picture of a page, and its text with boxes, from a reader process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from errors import DocumentError, ServerBusy
from rag.ingest.boxes import Run, word_runs
from rag.ingest.extraction import (
    PDF_READERS,
    ExtractionLimits,
    Patience,
    ResourceUsage,
    frames_of,
    to_error,
)
from rag.ingest.media_types import PDF
from rag.ingest.reader_pool import ReaderFailed, ReaderProcess, reader_process
from rag.text.word_boxes import unpack
from schemas import Frozen, Page

PictureKind = Literal["webp", "png"]
# The answer about one page. A picture of 8 million pixels of noise takes 24 MB as PNG.
MAX_VIEW_BYTES = 32 * 1024 * 1024
# What a page may take by the clock, as a multiple of its CPU seconds: somebody waits for it.
PAGE_FACTOR = 8.0


class PageView(Frozen):
    """The text of a page as it is indexed, and where its characters stand.

    `width` and `height` are the size of the page in points; None for a file without pictures of its pages.
    """

    pages: int
    label: str
    text: str
    width: float | None = None
    height: float | None = None
    runs: tuple[Run, ...] = ()


def prepare_reader() -> None:
    """Start a reader process and load its libraries, so that the first page does not wait 0.3 s for them."""
    with suppress(ReaderFailed, DocumentError):
        _ask(Path(), {"task": "prepare"}, ExtractionLimits())


def page_picture(
    path: Path, number: int, *, media_type: str, width: int, kind: PictureKind, limits: ExtractionLimits
) -> bytes:
    """Return the picture of a page of a PDF or an image, at most `width` pixels wide. Raises DocumentError."""
    question = {"task": "picture", "page": number, "reader": media_type, "width": width, "kind": kind}
    try:
        return _ask(path, question, limits)
    except ReaderFailed as failed:
        raise failed.error from None


def page_view(path: Path, number: int, *, media_type: str, limits: ExtractionLimits) -> PageView:
    """Return the text of a page, by the same readers as for the index. Raises DocumentError."""
    failure: DocumentError | None = None
    for reader in PDF_READERS if media_type == PDF else (media_type,):
        try:
            view = json.loads(_ask(path, {"task": "text", "page": number, "reader": reader}, limits))
        except ReaderFailed as failed:
            failure = failure or failed.error
        else:
            runs = [Run(int(run[0]), run[1], run[2], tuple(run[3:])) for run in view.pop("runs", ())]
            return PageView(**view, runs=tuple(runs))
    raise failure or DocumentError("broken", "the file cannot be read")


def recognized_view(page: Page, pages: int) -> PageView:
    """Return what `page_view` returns of a page that took OCR, from what was kept of the page."""
    if page.size is None:
        return PageView(pages=pages, label=page.label, text=page.text)
    width, height = (round(side, 1) for side in page.size)
    runs = tuple(word_runs(unpack(page.words), width, height))
    return PageView(pages=pages, label=page.label, text=page.text, width=width, height=height, runs=runs)


def _ask(path: Path, question: Mapping[str, Any], limits: ExtractionLimits) -> bytes:
    """Return the answer of a reader process.

    Raises ReaderFailed where another reader may succeed, DocumentError, and ServerBusy when the machine has no time.
    """
    request = {
        "path": str(path),
        "max_text_bytes": limits.max_text_bytes,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "max_total_cpu_seconds": limits.cpu_seconds,
        "ocr_languages": limits.ocr_languages,
    }
    answer = bytearray()
    failure: DocumentError | None = None
    ended = False
    with reader_process() as process:
        process.send({**request, **question})
        for kind, body in _frames(process, limits):
            if kind == b"V":
                answer += body
                if len(answer) > MAX_VIEW_BYTES:
                    raise DocumentError("too_large", "the picture of the page is too large: ask for a smaller width")
            elif kind == b"E":
                ended = True
            elif kind != b"X" or not ended:
                failure = failure or to_error(kind, json.loads(body), limits)
    if failure is None:
        return bytes(answer)
    if failure.reason in {"encrypted", "timeout", "no_page", "no_picture"}:
        raise failure
    raise ReaderFailed(failure)


def _frames(process: ReaderProcess, limits: ExtractionLimits) -> Iterator[tuple[bytes, bytes]]:
    """Yield the frames of an answer that somebody waits for. Raises ServerBusy when they take too long by the clock.

    A page that takes too much CPU is another matter: that is told by the last frame, and is the fault of the file.
    """
    patience = Patience(limits, page_factor=PAGE_FACTOR)
    try:
        yield from frames_of(process, limits, ResourceUsage(), patience)
    except DocumentError as error:
        if error.reason != "timeout":
            raise
        raise ServerBusy(
            "the server is too busy to read the page now: try again in 5 s", retry_after_seconds=5
        ) from None
