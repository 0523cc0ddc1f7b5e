"""The parent's side of the reader processes: start one, send requests, read frames, reuse the process."""

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
START_SECONDS = 60.0  # 0.3 s on a machine that has time
_HEAD = struct.Struct(">Ic")
# The reader gets no other variables: the environment of the parent holds secrets.
_ENVIRONMENT: Final = ("PATH", "SYSTEMROOT", "TMPDIR", "LANG", "TESSDATA_PREFIX")


class ReaderFailed(Exception):
    """A reader failed on a file that another reader may be able to read."""

    def __init__(self, error: DocumentError) -> None:
        super().__init__(error.reason)
        self.error = error


class ReaderProcess:
    """A running rag/ingest/reader_process.py, which reads one file at a time.

    `owner` is the id of the process that started the reader. `reusable` is False once the reader failed to start, and
    where the operating system has no fork.
    """

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rag.ingest.reader_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # pdfium and pypdf complain about files there
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("standard input and output must be pipes")
        self._input, self._output = self._process.stdin, self._process.stdout
        self.owner = os.getpid()
        self.pid = self._process.pid
        self.reusable = hasattr(os, "fork")
        self._started = False

    @property
    def is_running(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        """Wait for the process to start, then send a request. The start does not count towards the time of the file.

        Raises ReaderFailed.
        """
        try:
            if not self._started:
                self.read_frame(START_SECONDS)
                self._started = True
            self._input.write(json.dumps(request).encode() + b"\n")
            self._input.flush()
        except (OSError, DocumentError):
            self.reusable = False
            raise ReaderFailed(DocumentError("broken", "the reader of the file did not start")) from None

    def read_frame(self, seconds: float) -> tuple[bytes, bytes]:
        """Return the kind and body of the next frame.

        Raises DocumentError `timeout` when the frame takes longer than `seconds`, DocumentError `too_large` for a page
        with too much text, and ReaderFailed when the process has ended.
        """
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
                raise timeout_error()
            part = os.read(output, count - len(data))
            if not part:
                raise ReaderFailed(DocumentError("broken", "the file is broken: its reader ended"))
            data += part
        return bytes(data)

    def kill(self) -> None:
        """Kill the process and its fork, and wait for the end of the process."""
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, 9)
        self._process.kill()
        self._process.wait()


def timeout_error() -> DocumentError:
    """Return the error of a file that takes too long to read."""
    return DocumentError("timeout", "reading the file takes too long (EXTRACT_SECONDS)")


_lock = threading.Lock()
idle: list[ReaderProcess] = []
_registered = False


@contextmanager
def reader_process() -> Iterator[ReaderProcess]:
    """Lend an idle or a new reader process. The process is killed unless the `with` block ends without an error.

    A reader that another process started is never used: after a fork, parent and child would share its pipes. Nor is
    one that has ended meanwhile, such as one that the system killed for its memory.
    """
    global _registered
    with _lock:
        if not _registered:
            atexit.register(close_readers)
            _registered = True
        started_here = [process for process in idle if process.owner == os.getpid()]
        running = [process for process in started_here if process.is_running]
        idle[:] = running[:-1]
    for ended in started_here:
        if ended not in running:
            ended.kill()
    process = running[-1] if running else ReaderProcess()
    reuse = False
    try:
        yield process
        reuse = process.reusable
    finally:
        if reuse:
            with _lock:
                idle.append(process)
        else:
            process.kill()


def close_readers() -> None:
    """Kill the idle reader processes. A busy process ends with this process, when its standard input is closed."""
    with _lock:
        processes = [process for process in idle if process.owner == os.getpid()]
        idle.clear()
    for process in processes:
        process.kill()
