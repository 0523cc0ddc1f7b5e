"""The processes that read files, as the worker sees them: started, asked, waited for, kept for the next file."""

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
from pathlib import Path
from typing import Any, Final

from errors import DocumentError
from rag.ingest.reader_process import MAX_FRAME_BYTES

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 20.0
_HEAD = struct.Struct(">Ic")
_ENVIRONMENT: Final = ("PATH", "SYSTEMROOT", "TMPDIR", "LANG")


class ReaderFailed(Exception):
    """A reader gave up on a file that another may read."""

    def __init__(self, error: DocumentError) -> None:
        super().__init__(error.reason)
        self.error = error


class ReaderProcess:
    """A running rag/ingest/reader_process.py. For one file at a time; `spent` once anything went wrong."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rag.ingest.reader_process"],
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
        self.pid = self._process.pid
        self.spent = not hasattr(os, "fork")
        self._started = False

    def ask(self, request: dict[str, Any]) -> None:
        """Have a file read, once the process is up: how long that takes is not the file's doing."""
        try:
            if not self._started:
                self.frame(START_SECONDS)
                self._started = True
            self._input.write(json.dumps(request).encode() + b"\n")
            self._input.flush()
        except (OSError, DocumentError):
            self.spent = True
            raise ReaderFailed(DocumentError("broken", "the reader of the file did not start")) from None

    def frame(self, seconds: float) -> tuple[bytes, bytes]:
        """Return the next frame. Raises DocumentError `timeout` when it takes longer, ReaderFailed."""
        deadline = time.monotonic() + seconds
        length, kind = _HEAD.unpack(self._read(_HEAD.size, deadline))
        if length > MAX_FRAME_BYTES:
            raise DocumentError("too_large", "a page holds too much text")
        return kind, self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes:
        output = self._output.fileno()
        data = bytearray()
        while len(data) < count:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise timed_out()
            part = os.read(output, count - len(data))
            if not part:
                raise ReaderFailed(DocumentError("broken", "the file is broken: its reader ended"))
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


def timed_out() -> DocumentError:
    """Make the error of a file that takes too long."""
    return DocumentError("timeout", "reading the file takes too long (EXTRACT_SECONDS)")


_lock = threading.Lock()
idle: list[ReaderProcess] = []
_registered = False


@contextmanager
def reader_process() -> Iterator[ReaderProcess]:
    """Give a process of this process's own; it is kept for the next file unless anything went wrong."""
    global _registered
    with _lock:
        if not _registered:
            atexit.register(close_readers)
            _registered = True
        mine = [process for process in idle if process.owner == os.getpid()]
        idle[:] = mine[:-1]
    process = mine[-1] if mine else ReaderProcess()
    kept = False
    try:
        yield process
        kept = not process.spent
    finally:
        if kept:
            with _lock:
                idle.append(process)
        else:
            process.end()


def close_readers() -> None:
    """End the idle processes. Others end with this process: their standard input does."""
    with _lock:
        ended = [process for process in idle if process.owner == os.getpid()]
        idle.clear()
    for process in ended:
        process.end()
