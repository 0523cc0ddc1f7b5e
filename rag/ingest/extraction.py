"""The text of a file, read by child processes: a hostile file may crash, stall or bloat only such a process."""

from __future__ import annotations

import base64
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from errors import DocumentError
from observability import metrics
from rag.ingest.formats.ocr import WALL_SECONDS as OCR_WALL_SECONDS
from rag.ingest.media_types import CONTAINERS, NAMES, PDF
from rag.ingest.reader_pool import ReaderFailed, ReaderProcess, close_readers, reader_process, timeout_error
from schemas import Page

__all__ = ["DocumentPages", "ExtractionLimits", "ResourceUsage", "close_readers", "file_errors", "read_document"]

# Each reader reads files that the other cannot. pdfium is fifteen times as fast.
PDF_READERS: tuple[str, ...] = ("pdfium", "pypdf")
# The CPU seconds that all readers of a file may use together, as a multiple of `cpu_seconds`: 20 s by default. 5,000
# ordinary pages take pdfium 11 s. Without this bound, 5,000 pages that share one slow stream would take 8 minutes.
MAX_CPU_FACTOR = 2
# The seconds by the clock after which a reader that gets no CPU is stalled, and those that a page may take on a busy
# machine, as multiples of `cpu_seconds`: 25 s and 5 minutes by default. At load 14 on two cores a reader, which gives
# way to others, gets the CPU for a fifteenth of the time.
WAIT_FACTOR, PAGE_FACTOR = 2.5, 30.0
# With less CPU than this between two reports a reader is taken for idle.
MIN_CPU_SECONDS = 0.02
# A file that holds files may take this multiple of the time.
CONTAINER_FACTOR = 6
_CPU_SIGNALS: Final = (-24, -9)  # SIGXCPU, and SIGKILL at the hard limit
_FAULT_SIGNALS: Final = (-signal.SIGSEGV, -signal.SIGFPE)
_MiB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """The resources that reading one file may take.

    `cpu_seconds` is the budget that a reader starts with. Each page adds to it, up to `max_total_cpu_seconds`. OCR has
    limits of its own for each page, in formats/ocr.py; `ocr_languages` are tesseract's names, joined by "+".
    """

    max_pages: int = 5_000
    max_text_bytes: int = 50 * _MiB
    memory_bytes: int = 512 * _MiB
    cpu_seconds: int = 10
    ocr_languages: str = "eng"

    @property
    def max_total_cpu_seconds(self) -> int:
        """The CPU seconds that all readers of a file may use together."""
        return self.cpu_seconds * MAX_CPU_FACTOR


@dataclass(slots=True)
class ResourceUsage:
    """The resources that all readers of a file used together; `peak_bytes` is the largest peak among them.

    `ocr_seconds` are the CPU seconds of OCR, which are no part of `cpu_seconds`.
    """

    cpu_seconds: float = 0.0
    ocr_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DocumentPages:
    """The pages of an open file. `pages` can be iterated once and holds one page in memory at a time.

    Of a file that holds files, `page_count` is the number of these: there are at least as many pages.
    """

    page_count: int
    pages: Iterator[Page]


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn an OSError in the block into a DocumentError, `not_found` or `broken`."""
    try:
        yield
    except FileNotFoundError:
        raise DocumentError("not_found", "there is no such file") from None
    except OSError as error:
        raise DocumentError("broken", f"the file cannot be read: {error.strerror}") from None


def read_document(
    path: Path,
    *,
    media_type: str = PDF,
    limits: ExtractionLimits | None = None,
    usage: ResourceUsage | None = None,
) -> DocumentPages:
    """Open a file and return its pages, each with its text and printed label.

    pdfium reads a PDF; pypdf continues from the first page that pdfium cannot read. A file without pages
    (DOCX, HTML, text) is split into parts that count as pages. `usage`, if given, is updated during the iteration.

    Raises:
        DocumentError: `not_found`, `not_a_pdf`, `encrypted`, `broken`, `too_long`, `too_large` or `timeout`; for a
            later page while iterating.

    """
    limits = limits or ExtractionLimits()
    if media_type in CONTAINERS:
        limits = replace(limits, cpu_seconds=limits.cpu_seconds * CONTAINER_FACTOR)
    _check_head(path, media_type)
    items = _read(path, media_type, limits, usage or ResourceUsage())
    count = next(items)
    if not isinstance(count, int):
        raise TypeError("the first item is the number of pages")
    return DocumentPages(page_count=count, pages=_pages_only(items))


def _read(path: Path, media_type: str, limits: ExtractionLimits, usage: ResourceUsage) -> Iterator[int | Page]:
    """Yield the number of pages, then each page. The second reader continues where the first one fails."""
    readers = PDF_READERS if media_type == PDF else (media_type,)
    count: int | None = None
    done = 0
    text_bytes = 0
    failure: DocumentError | None = None
    for reader in readers:
        try:
            for item in _read_with(reader, path, limits, usage, skip=done):
                if isinstance(item, int):
                    if count is None:
                        count = item
                        yield count
                    continue
                if done == count and reader == "pypdf":  # the second reader finds more pages than the first one counted
                    break
                done += 1
                text_bytes += len(item.text.encode())
                _check_size(done, text_bytes, limits, media_type)
                metrics.count(metrics.PAGES, "ocr" if item.words else NAMES.get(reader, reader))
                yield item
        except ReaderFailed as failed:
            # `too_large` tells the user more than the error of the second reader.
            too_large = failure is not None and failure.reason == "too_large"
            failure = failure if too_large else failed.error
        else:
            return
    if failure is not None:
        raise failure


def _check_size(pages: int, text_bytes: int, limits: ExtractionLimits, media_type: str) -> None:
    """Raise DocumentError for too many pages so far, or too much text."""
    if media_type in CONTAINERS and pages > limits.max_pages:
        raise _too_long(f"more than {limits.max_pages}", limits)
    if text_bytes > limits.max_text_bytes:
        limit = limits.max_text_bytes // _MiB
        raise DocumentError("too_large", f"the file holds more than {limit} MiB of text (MAX_TEXT_MB)")


def _read_with(
    reader: str, path: Path, limits: ExtractionLimits, usage: ResourceUsage, *, skip: int
) -> Iterator[int | Page]:
    """Yield the number of pages, then the pages after the first `skip`.

    Raises ReaderFailed where another reader may succeed, DocumentError otherwise.
    """
    cpu_seconds_left = limits.max_total_cpu_seconds - math.ceil(usage.cpu_seconds)
    if cpu_seconds_left < 1:
        raise timeout_error()
    number = skip
    ended = False
    failure: DocumentError | None = None
    with reader_process() as process:
        process.send(_request(reader, path, limits, skip=skip, cpu_seconds_left=cpu_seconds_left))
        for kind, body in frames_of(process, limits, usage):
            if kind == b"H":
                count = int(json.loads(body)["pages"])
                failure = _too_many_pages(count, reader, limits)
                if failure is None:
                    yield count
            elif kind == b"P":
                number += 1
                yield _page(number, body)
            elif kind == b"E":
                ended = True
            elif kind == b"F" or not ended:
                failure = failure or to_error(kind, json.loads(body), limits)
    if failure is None:
        return
    if failure.reason in {"encrypted", "timeout", "too_long", "xfa_form"}:
        raise failure  # another reader would fail, too, or would be stalled by the same file
    raise ReaderFailed(failure)


def _request(
    reader: str, path: Path, limits: ExtractionLimits, *, skip: int, cpu_seconds_left: int
) -> dict[str, str | int]:
    """Return the request for a reader process, documented in rag/ingest/reader_process.py."""
    return {
        "path": str(path),
        "reader": reader,
        "skip": skip,
        "max_pages": limits.max_pages,
        "max_text_bytes": limits.max_text_bytes,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": min(limits.cpu_seconds, cpu_seconds_left),
        "max_total_cpu_seconds": cpu_seconds_left,
        "ocr_languages": limits.ocr_languages,
    }


def _page(number: int, body: bytes) -> Page:
    """Return the page of a `P` frame: what is known of the page as JSON, a line feed, the text."""
    head, _, text = body.partition(b"\n")
    known = json.loads(head)
    return Page(
        number=number,
        label=str(known["label"]) or str(number),
        text=text.decode(errors="ignore"),
        headings=known.get("headings"),
        lines=known.get("lines", ()),
        tables=known.get("tables", ()),
        warning=str(known.get("warning", "")),
        begins=bool(known.get("begins")),
        words=base64.b64decode(known.get("words", "")),
        size=known.get("size"),
        recognized=bool(known.get("recognized")),
    )


class Patience:
    """How long to wait for the next frame of a reader.

    A busy machine may take long for a page; what it grants of its CPU shows that the reader works. So a reader is given
    up when it gets no CPU for a while, or needs very long for one page. The CPU limits end a reader that works in vain.
    """

    def __init__(
        self, limits: ExtractionLimits, *, page_factor: float = PAGE_FACTOR, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._idle_seconds = limits.cpu_seconds * WAIT_FACTOR
        self._page_seconds = limits.cpu_seconds * page_factor
        self._clock = clock
        self._cpu_seconds = 0.0
        self.progressed()

    @property
    def seconds(self) -> float:
        """The seconds to wait for the next frame."""
        return min(self._idle_until, self._page_until) - self._clock()

    def progressed(self, *, by_ocr: bool = False) -> None:
        """A frame has come. `by_ocr`: OCR reads the next page, for which it has seconds of its own."""
        now = self._clock() + (OCR_WALL_SECONDS if by_ocr else 0.0)
        self._idle_until, self._page_until = now + self._idle_seconds, now + self._page_seconds

    def is_alive(self, cpu_seconds: float | None) -> None:
        """The reader has used so many CPU seconds; None where the system does not tell."""
        if cpu_seconds is None or cpu_seconds - self._cpu_seconds >= MIN_CPU_SECONDS:
            self._cpu_seconds = cpu_seconds or 0.0
            self._idle_until = max(self._idle_until, self._clock() + self._idle_seconds)


def frames_of(
    process: ReaderProcess, limits: ExtractionLimits, usage: ResourceUsage, patience: Patience | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and body of each frame up to the last, `X`, and add the frame's figures to the usage.

    Raises DocumentError `timeout` when the reader is stalled.
    """
    patience = patience or Patience(limits)
    ocr_seconds = 0.0
    while True:
        kind, body = process.read_frame(patience.seconds)
        if kind == b"A":
            patience.is_alive(json.loads(body)["cpu_seconds"])
            continue
        patience.progressed(by_ocr=kind == b"O")
        if kind in {b"O", b"E"}:
            ocr_seconds = float(json.loads(body)["ocr_seconds"])
        if kind == b"O":
            continue
        if kind == b"X":
            used = json.loads(body)
            usage.cpu_seconds += max(used["cpu_seconds"] - ocr_seconds, 0.0)
            usage.ocr_seconds += ocr_seconds
            usage.peak_bytes = max(usage.peak_bytes, used["peak_bytes"])
        yield kind, body
        if kind == b"X":
            return


def _too_many_pages(count: int, reader: str, limits: ExtractionLimits) -> DocumentError | None:
    if count <= limits.max_pages or reader not in PDF_READERS:
        return None
    return _too_long(str(count), limits)


def _too_long(count: str, limits: ExtractionLimits) -> DocumentError:
    return DocumentError("too_long", f"the file has {count} pages; at most {limits.max_pages} are taken (MAX_PAGES)")


def to_error(kind: bytes, body: dict[str, Any], limits: ExtractionLimits) -> DocumentError:
    """Return the error that an `F` frame reports, or that an `X` frame without an `E` frame before it means."""
    if kind == b"X":
        return _crash(int(body["code"]), limits)
    if body["reason"] == "memory":
        return _too_much_memory(limits)
    return DocumentError(body["reason"], body["detail"])


def _crash(exit_code: int, limits: ExtractionLimits) -> DocumentError:
    """Return the error for a fork that ended early. pdfium aborts its process when it gets no more memory."""
    if exit_code in _CPU_SIGNALS:
        return timeout_error()
    if exit_code in _FAULT_SIGNALS:
        return DocumentError("broken", "the file is broken: its reader crashed")
    if exit_code < 0:
        return _too_much_memory(limits)
    return DocumentError("broken", "the file is broken: its reader failed")


def _too_much_memory(limits: ExtractionLimits) -> DocumentError:
    return DocumentError(
        "too_large",
        f"reading the file takes more than {limits.memory_bytes // _MiB} MiB of memory (EXTRACT_MEMORY_MB)",
    )


def _check_head(path: Path, media_type: str) -> None:
    """Check the first KiB of a file before a reader process is started. Raises DocumentError."""
    with file_errors(), path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise DocumentError("broken" if media_type == PDF else "empty", "the file is empty")
    if media_type == PDF and b"%PDF-" not in head and b" obj" not in head:
        raise DocumentError("not_a_pdf", "the file is not a PDF")


def _pages_only(items: Iterator[int | Page]) -> Iterator[Page]:
    for item in items:
        if isinstance(item, Page):
            yield item
