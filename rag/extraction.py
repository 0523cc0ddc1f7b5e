"""Text of a file, read by child processes that a hostile file may crash, stall or bloat without harm here."""

from __future__ import annotations

import atexit
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from errors import DocumentError
from rag.reader_process import MAX_FRAME_BYTES, SECONDS_PER_PAGE
from rag.readers import PDF
from schemas import Page

ROOT = Path(__file__).resolve().parent.parent
# A process whose machine is busy gets less CPU than time passes.
WALL_PER_CPU = 2.5
START_SECONDS = 10.0
_HEAD = struct.Struct(">Ic")
_ENVIRONMENT: Final = ("PATH", "SYSTEMROOT", "TMPDIR", "LANG")
_CPU_SIGNALS: Final = (-24, -9)  # SIGXCPU, and SIGKILL at the hard limit
_MiB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may take. `cpu_seconds` is what a reader begins with; it earns more with each page."""

    max_pages: int = 5_000
    max_text_bytes: int = 50 * _MiB
    memory_bytes: int = 512 * _MiB
    cpu_seconds: int = 10


@dataclass(frozen=True, slots=True)
class DocumentText:
    """A file being read. `pages` can be walked once and holds one page in memory at a time."""

    page_count: int
    pages: Iterator[Page]


def read_document(path: Path, *, media_type: str = PDF, limits: Limits | None = None) -> DocumentText:
    """Open a file and return its pages, each with its text and printed label.

    PDFs are read by pdfium, and from the page on where it fails by pypdf. A file without pages comes in parts.

    Raises:
        DocumentError: `not_found`, `not_a_pdf`, `encrypted`, `broken`, `too_long`, `too_large` or `timeout`; while
            walking, also for a later page.

    """
    limits = limits or Limits()
    _check(path, media_type)
    walk = _walk(path, media_type, limits)
    count = next(walk)
    if not isinstance(count, int):
        raise TypeError("the number of pages comes first")
    return DocumentText(page_count=count, pages=_only_pages(walk))


def _walk(path: Path, media_type: str, limits: Limits) -> Iterator[int | Page]:
    """Yield the number of pages, then each page, with the second reader where the first fails."""
    readers = ["pdfium", "pypdf"] if media_type == PDF else [media_type]
    count: int | None = None
    done = 0
    text_bytes = 0
    failure: DocumentError | None = None
    for reader in readers:
        try:
            for item in _read_with(reader, path, limits, skip=done):
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
        except _ReaderFailed as failed:
            # That a file is too large is worth more than what the second reader stumbles over in it.
            too_large = failure is not None and failure.reason == "too_large"
            failure = failure if too_large else failed.error
        else:
            return
    if failure is not None:
        raise failure


def _read_with(reader: str, path: Path, limits: Limits, *, skip: int) -> Iterator[int | Page]:
    """Yield the number of pages, then the pages after the first `skip`. Raises _ReaderFailed, DocumentError."""
    request = {
        "path": str(path),
        "reader": reader,
        "skip": skip,
        "max_pages": limits.max_pages,
        "max_text_bytes": limits.max_text_bytes,
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
    }
    number = skip
    ended = False
    failure: DocumentError | None = None
    with _process() as process:
        process.ask(request)
        for kind, body in process.frames(limits.cpu_seconds * WALL_PER_CPU):
            if kind == b"H":
                yield _page_count(json.loads(body)["pages"], reader, limits)
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
    if failure.reason in {"encrypted", "timeout"}:
        raise failure  # another reader would do no better, or is what such a file is made for
    raise _ReaderFailed(failure)


def _page_count(count: int, reader: str, limits: Limits) -> int:
    if count > limits.max_pages and reader in {"pdfium", "pypdf"}:
        raise DocumentError("too_long", f"the file has {count} pages; at most {limits.max_pages} are taken (MAX_PAGES)")
    return count


def _failure(said: dict[str, str], limits: Limits) -> DocumentError:
    if said["reason"] == "memory":
        return _too_much_memory(limits)
    return DocumentError(said["reason"], said["detail"])


def _crash(code: int, limits: Limits) -> DocumentError:
    """Say why a fork ended early. pdfium aborts the process when it gets no more memory."""
    if code in _CPU_SIGNALS:
        return _timeout()
    return _too_much_memory(limits) if code < 0 else DocumentError("broken", "the file is broken: its reader failed")


def _too_much_memory(limits: Limits) -> DocumentError:
    return DocumentError(
        "too_large",
        f"reading the file takes more than {limits.memory_bytes // _MiB} MiB of memory (EXTRACT_MEMORY_MB)",
    )


def _timeout() -> DocumentError:
    return DocumentError("timeout", "reading the file takes too long (EXTRACT_SECONDS)")


class _ReaderFailed(Exception):
    """A reader gave up on a file that another may read."""

    def __init__(self, error: DocumentError) -> None:
        super().__init__(error.reason)
        self.error = error


class _Process:
    """A running rag/reader_process.py. For one file at a time; `spent` once anything went wrong."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rag.reader_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # pdfium's and pypdf's complaints about files
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("both are pipes")
        self._input, self._output = self._process.stdin, self._process.stdout
        self.owner = os.getpid()
        self.spent = not hasattr(os, "fork")

    def ask(self, request: dict[str, Any]) -> None:
        try:
            self._input.write(json.dumps(request).encode() + b"\n")
            self._input.flush()
        except OSError:
            self.spent = True
            raise _ReaderFailed(DocumentError("broken", "the reader of the file did not start")) from None

    def frames(self, wall_seconds: float) -> Iterator[tuple[bytes, bytes]]:
        """Yield frames up to the last, `X`, giving up when it has waited too long for them. Raises DocumentError."""
        left = wall_seconds + START_SECONDS
        while True:
            kind, body, waited = self._frame(left)
            left += SECONDS_PER_PAGE * WALL_PER_CPU - waited
            yield kind, body
            if kind == b"X":
                return

    def _frame(self, seconds: float) -> tuple[bytes, bytes, float]:
        began = time.monotonic()
        length, kind = _HEAD.unpack(self._read(_HEAD.size, began + seconds))
        if length > MAX_FRAME_BYTES:
            raise DocumentError("too_large", "a page holds too much text")
        return kind, self._read(length, began + seconds), time.monotonic() - began

    def _read(self, count: int, deadline: float) -> bytes:
        output = self._output.fileno()
        data = bytearray()
        while len(data) < count:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise _timeout()
            part = os.read(output, count - len(data))
            if not part:
                raise _ReaderFailed(DocumentError("broken", "the file is broken: its reader ended"))
            data += part
        return bytes(data)

    def end(self) -> None:
        """End the process and its fork."""
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, 9)
        self._process.kill()
        self._process.wait()


_lock = threading.Lock()
_idle: list[_Process] = []
_registered = False


@contextmanager
def _process() -> Iterator[_Process]:
    """Give a process of this process's own; it is kept for the next file unless anything went wrong."""
    global _registered
    with _lock:
        if not _registered:
            atexit.register(close_readers)
            _registered = True
        mine = [process for process in _idle if process.owner == os.getpid()]
        _idle[:] = mine[:-1]
    process = mine[-1] if mine else _Process()
    kept = False
    try:
        yield process
        kept = not process.spent
    finally:
        if kept:
            with _lock:
                _idle.append(process)
        else:
            process.end()


def close_readers() -> None:
    """End the idle processes. Others end with this process: their standard input does."""
    with _lock:
        idle = [process for process in _idle if process.owner == os.getpid()]
        _idle.clear()
    for process in idle:
        process.end()


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
