"""The child process that reads files for rag/ingest/extraction.py, one at a time.

The process forks for each file. The fork sets its own limits, reads the file, writes the pages and exits. So a file
costs a fork (3 ms) instead of an interpreter start (100 ms), and no damage by one file reaches the next. Without fork
(Windows) the process reads one file without limits and exits.

Protocol: the process writes an `R` frame when it is ready. Then it takes one line of JSON per file on standard input
and answers with frames on standard output. A frame is a length of four bytes, a letter and a body:

- `H` the number of pages
- `O` the next page is read by OCR, which takes longer; the CPU seconds of OCR so far
- `P` a page
- `V` a part of the answer about one page: its picture, or its text with boxes
- `E` the end of the pages or parts; the CPU seconds of OCR
- `F` why the file cannot be read
- `A` from the parent of the fork, where no other frame came for a second: the fork is alive; its CPU seconds so far,
  null where the system does not tell
- `X` last, from the parent of the fork: its exit code, CPU seconds and peak memory
"""

from __future__ import annotations

import base64
import json
import os
import select
import struct
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.ingest.formats.blocks import PageText, clean_text
from rag.ingest.formats.ocr import Recognizer
from rag.ingest.readers import read_pages
from rag.text.word_boxes import pack

# Reading yields the CPU to answering: with as many readers as cores, answers took twice as long.
NICENESS = 10

# The text of 250 ordinary pages. The worker holds nine pages at a time, and one of the nine also as an object for each
# line and sentence.
MAX_PAGE_BYTES = 1024 * 1024
# A page of nothing but headings has an offset for every two characters.
MAX_FRAME_BYTES = MAX_PAGE_BYTES + 128 * 1024
MAX_LABEL_CHARS = 100
# The CPU seconds that each page adds to the budget of its reader.
CPU_SECONDS_PER_PAGE = 0.1
# Without any frame, the reader says how much it works this often.
ALIVE_SECONDS = 1.0
_HEAD = struct.Struct(">Ic")
_READ_BYTES = 256 * 1024


def serve() -> None:
    """Read files until standard input ends."""
    import pypdfium2  # noqa: F401  imported once, before the forks that use it

    _write(sys.stdout.fileno(), b"R", {})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if "task" in request:
            import rag.ingest.page_view  # noqa: F401  with Pillow, which a fork would import again for each page
        if not hasattr(os, "fork"):
            _answer(request, sys.stdout.fileno())
            _write(sys.stdout.fileno(), b"X", {"code": 0, "cpu_seconds": 0.0, "peak_bytes": 0})
            return
        _read_in_fork(request)


def _read_in_fork(request: dict[str, Any]) -> None:
    """Fork, let the fork read the file, forward its frames, and write the `X` frame."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            _set_limits(request)
            _answer(request, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    try:
        _forward_frames(reading, child)
    finally:
        os.close(reading)
    _, status, usage = os.wait4(child, 0)
    end = {
        "code": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),  # macOS counts bytes, Linux KiB
    }
    _write(sys.stdout.fileno(), b"X", end)


def _forward_frames(reading: int, child: int) -> None:
    """Forward whole frames from the fork to standard output until the fork closes its pipe.

    Kills the fork and exits when the worker is gone, and when a frame is too long.
    """
    buffer = bytearray()
    try:
        while True:
            ready, _, _ = select.select([reading, sys.stdin.fileno()], [], [], ALIVE_SECONDS)
            if not ready:
                _write(sys.stdout.fileno(), b"A", {"cpu_seconds": _cpu_seconds(child)})
                continue
            if reading not in ready:  # standard input has ended: no request comes while a file is read
                raise BrokenPipeError
            data = os.read(reading, _READ_BYTES)
            if not data:
                return
            buffer += data
            while len(buffer) >= _HEAD.size:
                end = _HEAD.size + _HEAD.unpack_from(buffer)[0]
                if end > MAX_FRAME_BYTES:
                    raise BrokenPipeError
                if len(buffer) < end:
                    break
                _write_all(sys.stdout.fileno(), bytes(buffer[:end]))
                del buffer[:end]
    except OSError:
        os.kill(child, 9)
        os.waitpid(child, 0)
        if os.getpgrp() == os.getpid():
            os.killpg(0, 9)  # the fork's own processes, and this one
        os._exit(1)


def _cpu_seconds(child: int) -> float | None:
    """Return the CPU seconds of a process and of the processes that it has waited for; None where that is not known."""
    try:
        # Behind the name of the program, which may hold anything, fields 14 to 17 of proc(5): ticks.
        fields = Path(f"/proc/{child}/stat").read_bytes().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def _set_limits(request: dict[str, Any]) -> None:
    """Limit the memory and CPU time of this process for good, and forbid it to write files."""
    import resource

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _has_proc() else 0
    memory = in_use + request["memory_bytes"]
    with suppress(OSError):  # when the machine runs out of memory, the kernel kills this process before the worker
        Path("/proc/self/oom_score_adj").write_text("1000")
    for which, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, request["cpu_seconds"], request["max_total_cpu_seconds"] + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        try:
            resource.setrlimit(which, (soft, hard))
        except (ValueError, OSError):  # macOS does not support RLIMIT_AS
            continue
    if "task" not in request:  # somebody waits to see a page
        os.nice(NICENESS)


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def _answer(request: dict[str, Any], output: int) -> None:
    """Answer a request for a page or a file, or write an `F` frame that says why that cannot be done."""
    try:
        if "task" in request:
            _write_view(request, output)
        else:
            _read_file(request, output)
    except DocumentError as error:
        _write(output, b"F", {"reason": error.reason, "detail": error.detail})
    except MemoryError:
        _write(output, b"F", {"reason": "memory", "detail": ""})
    except RecursionError:
        _write(output, b"F", {"reason": "broken", "detail": "the file is broken: it is nested without end"})


def _write_view(request: dict[str, Any], output: int) -> None:
    """Write the `V` frames and the `E` frame for one page."""
    from rag.ingest.page_view import answer

    view = answer(request, _recognizer(request, output))
    for start in range(0, len(view), MAX_PAGE_BYTES):
        part = view[start : start + MAX_PAGE_BYTES]
        _write_all(output, _HEAD.pack(len(part), b"V") + part)
    _write(output, b"E", {"ocr_seconds": _ocr_seconds()})


def _read_file(request: dict[str, Any], output: int) -> None:
    """Read the file of a request and write its frames `H`, `P` and `E`. Raises DocumentError."""
    count, pages = read_pages(
        Path(request["path"]),
        reader=request["reader"],
        skip=request["skip"],
        max_text_bytes=request["max_text_bytes"],
        recognizer=_recognizer(request, output),
    )
    _write(output, b"H", {"pages": count})
    if request["reader"] in {"pdfium", "pypdf"} and count > request["max_pages"]:
        return
    for done, page in enumerate(pages, start=1):
        _write_page(output, page)
        budget = request["cpu_seconds"] + CPU_SECONDS_PER_PAGE * done
        _raise_cpu_limit(min(budget, request["max_total_cpu_seconds"]))
    _write(output, b"E", {"ocr_seconds": _ocr_seconds()})


def _recognizer(request: dict[str, Any], output: int) -> Recognizer:
    return Recognizer(request["ocr_languages"], lambda: _write(output, b"O", {"ocr_seconds": _ocr_seconds()}))


def _raise_cpu_limit(cpu_seconds: float) -> None:
    """Raise the soft CPU limit of this process."""
    if not hasattr(os, "fork"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (min(int(cpu_seconds), hard), hard))


def _write_page(output: int, page: PageText) -> None:
    """Write a `P` frame: what is known of the page as JSON, a line feed, the text.

    Raises DocumentError for too much text.
    """
    body = clean_text(page.text).encode()
    if len(body) > MAX_PAGE_BYTES:
        raise DocumentError("too_large", f"a page holds more than {MAX_PAGE_BYTES >> 20} MiB of text")
    head: dict[str, Any] = {"label": clean_text(page.label)[:MAX_LABEL_CHARS]}
    if page.headings is not None:
        head["headings"] = page.headings
    if page.lines:
        head["lines"] = page.lines
    if page.warning:
        head["warning"] = page.warning
    if page.begins:
        head["begins"] = True
    if page.words:
        head["words"] = base64.b64encode(pack(page.words)).decode()
    if page.size is not None:
        head["size"] = page.size
    if page.recognized:
        head["recognized"] = True
    if page.tables:
        head["tables"] = [asdict(table) for table in page.tables]
    data = json.dumps(head).encode()
    _write_all(output, _HEAD.pack(len(data) + 1 + len(body), b"P") + data + b"\n" + body)


def _ocr_seconds() -> float:
    """Return the CPU seconds of the processes that this process started for OCR."""
    if not hasattr(os, "fork"):
        return 0.0
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _write(output: int, kind: bytes, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    _write_all(output, _HEAD.pack(len(data), kind) + data)


def _write_all(output: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(output, view) :]


if __name__ == "__main__":
    serve()
