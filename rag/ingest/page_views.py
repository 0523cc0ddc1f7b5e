"""The parent's side of page_view.py: the picture of a page, and its text with boxes, from a reader process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from errors import DocumentError
from rag.ingest.boxes import Run
from rag.ingest.extraction import PDF_READERS, ExtractionLimits, ResourceUsage, frames_of, to_error
from rag.ingest.media_types import PDF
from rag.ingest.reader_pool import ReaderFailed, reader_process
from schemas import Frozen

PictureKind = Literal["webp", "png"]
# The answer about one page. A picture of 8 million pixels of noise takes 24 MB as PNG.
MAX_VIEW_BYTES = 32 * 1024 * 1024


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


def _ask(path: Path, question: Mapping[str, Any], limits: ExtractionLimits) -> bytes:
    """Return the answer of a reader process. Raises ReaderFailed where another reader may succeed, DocumentError."""
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
        for kind, body in frames_of(process, limits, ResourceUsage()):
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
