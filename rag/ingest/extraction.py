"""Text of a file, read by child processes that a hostile file may crash, stall or bloat without harm here."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from errors import DocumentError
from rag.ingest.reader_pool import ReaderFailed, ReaderProcess, close_readers, reader_process, timed_out
from rag.ingest.readers import PDF
from schemas import Page

__all__ = ["DocumentPages", "ExtractionLimits", "ResourceUsage", "close_readers", "read_document"]

# Each reads files that the other does not; pdfium is fifteen times as fast.
PDF_READERS: tuple[str, ...] = ("pdfium", "pypdf")
# All CPU that a file may take, however much its pages earn, as a multiple of what its reader begins with. By default
# 20 seconds: 5,000 ordinary pages take pdfium 11. Without it 5,000 pages of one slow stream would take eight minutes.
MAX_CPU_FACTOR = 2
# How long the readers of a file are waited for in all, by the same measure. Longer than their CPU, for on a busy
# machine a process gets less of it than time passes. By default 25 seconds.
WAIT_FACTOR = 2.5
_CPU_SIGNALS: Final = (-24, -9)  # SIGXCPU, and SIGKILL at the hard limit
_FAULTS: Final = (-signal.SIGSEGV, -signal.SIGFPE)
_MiB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """What a file may take. `cpu_seconds` is what a reader begins with; it earns more with each page, up to a bound."""

    max_pages: int = 5_000
    max_text_bytes: int = 50 * _MiB
    memory_bytes: int = 512 * _MiB
    cpu_seconds: int = 10

    @property
    def max_total_cpu_seconds(self) -> int:
        """CPU seconds that all readers of a file may take together."""
        return self.cpu_seconds * MAX_CPU_FACTOR


@dataclass(slots=True)
class ResourceUsage:
    """What reading a file has taken, by all its readers together; `peak_bytes` of the one that took the most."""

    cpu_seconds: float = 0.0
    waited_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DocumentPages:
    """A file being read. `pages` can be walked once and holds one page in memory at a time."""

    page_count: int
    pages: Iterator[Page]


def read_document(
    path: Path, *, media_type: str = PDF, limits: ExtractionLimits | None = None, usage: ResourceUsage | None = None
) -> DocumentPages:
    """Open a file and return its pages, each with its text and printed label.

    PDFs are read by pdfium, and from the page on where it fails by pypdf. A file without pages comes in parts.
    `usage`, if given, is kept up to date while the pages are walked.

    Raises:
        DocumentError: `not_found`, `not_a_pdf`, `encrypted`, `broken`, `too_long`, `too_large` or `timeout`; while
            walking, also for a later page.

    """
    limits = limits or ExtractionLimits()
    _check(path, media_type)
    walk = _walk(path, media_type, limits, usage or ResourceUsage())
    count = next(walk)
    if not isinstance(count, int):
        raise TypeError("the number of pages comes first")
    return DocumentPages(page_count=count, pages=_only_pages(walk))


def _walk(path: Path, media_type: str, limits: ExtractionLimits, usage: ResourceUsage) -> Iterator[int | Page]:
    """Yield the number of pages, then each page, with the second reader where the first fails."""
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
                if done == count:  # the second reader sees more pages than the first promised
                    break
                done += 1
                text_bytes += len(item.text.encode())
                if text_bytes > limits.max_text_bytes:
                    limit = limits.max_text_bytes // _MiB
                    raise DocumentError("too_large", f"the file holds more than {limit} MiB of text (MAX_TEXT_MB)")
                yield item
        except ReaderFailed as failed:
            # That a file is too large is worth more than what the second reader stumbles over in it.
            too_large = failure is not None and failure.reason == "too_large"
            failure = failure if too_large else failed.error
        else:
            return
    if failure is not None:
        raise failure


def _read_with(
    reader: str, path: Path, limits: ExtractionLimits, usage: ResourceUsage, *, skip: int
) -> Iterator[int | Page]:
    """Yield the number of pages, then the pages after the first `skip`. Raises ReaderFailed, DocumentError."""
    left = limits.max_total_cpu_seconds - math.ceil(usage.cpu_seconds)
    if left < 1:
        raise timed_out()
    request = {
        "path": str(path),
        "reader": reader,
        "skip": skip,
        "max_pages": limits.max_pages,
        "max_text_bytes": limits.max_text_bytes,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": min(limits.cpu_seconds, left),
        "max_total_cpu_seconds": left,
    }
    number = skip
    ended = False
    failure: DocumentError | None = None
    with reader_process() as process:
        process.ask(request)
        for kind, body in _frames(process, limits, usage):
            if kind == b"H":
                count = int(json.loads(body)["pages"])
                failure = _too_long(count, reader, limits)
                if failure is None:
                    yield count
            elif kind == b"P":
                label, _, text = body.partition(b"\n")
                number += 1
                yield Page(
                    number=number, label=str(json.loads(label)) or str(number), text=text.decode(errors="ignore")
                )
            elif kind == b"F":
                failure = _failure(json.loads(body), limits)
            elif kind == b"E":
                ended = True
            else:
                failure = failure or (None if ended else _crash(int(json.loads(body)["code"]), limits))
    if failure is None:
        return
    if failure.reason in {"encrypted", "timeout", "too_long"}:
        raise failure  # another reader would do no better, or is what such a file is made for
    raise ReaderFailed(failure)


def _frames(process: ReaderProcess, limits: ExtractionLimits, usage: ResourceUsage) -> Iterator[tuple[bytes, bytes]]:
    """Yield frames up to the last, `X`, giving up when the file has been waited for too long. Raises DocumentError."""
    while True:
        began = time.monotonic()
        kind, body = process.frame(limits.cpu_seconds * WAIT_FACTOR - usage.waited_seconds)
        usage.waited_seconds += time.monotonic() - began
        if kind == b"X":
            taken = json.loads(body)
            usage.cpu_seconds += taken["cpu_seconds"]
            usage.peak_bytes = max(usage.peak_bytes, taken["peak_bytes"])
        yield kind, body
        if kind == b"X":
            return


def _too_long(count: int, reader: str, limits: ExtractionLimits) -> DocumentError | None:
    if count <= limits.max_pages or reader not in PDF_READERS:
        return None
    return DocumentError("too_long", f"the file has {count} pages; at most {limits.max_pages} are taken (MAX_PAGES)")


def _failure(said: dict[str, str], limits: ExtractionLimits) -> DocumentError:
    if said["reason"] == "memory":
        return _too_much_memory(limits)
    return DocumentError(said["reason"], said["detail"])


def _crash(code: int, limits: ExtractionLimits) -> DocumentError:
    """Say why a fork ended early. pdfium aborts the process when it gets no more memory."""
    if code in _CPU_SIGNALS:
        return timed_out()
    if code in _FAULTS:
        return DocumentError("broken", "the file is broken: its reader crashed")
    return _too_much_memory(limits) if code < 0 else DocumentError("broken", "the file is broken: its reader failed")


def _too_much_memory(limits: ExtractionLimits) -> DocumentError:
    return DocumentError(
        "too_large",
        f"reading the file takes more than {limits.memory_bytes // _MiB} MiB of memory (EXTRACT_MEMORY_MB)",
    )


def _check(path: Path, media_type: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError:
        raise DocumentError("not_found", "there is no such file") from None
    except OSError as error:
        raise DocumentError("broken", f"the file cannot be read: {error.strerror}") from None
    if not head:
        raise DocumentError("broken", "the file is empty")
    if media_type == PDF and b"%PDF-" not in head:
        raise DocumentError("not_a_pdf", "the file is not a PDF")


def _only_pages(walk: Iterator[int | Page]) -> Iterator[Page]:
    for item in walk:
        if isinstance(item, Page):
            yield item
