"""The child process that reads files for rag/ingest/extraction.py, one at a time.

It forks for each file: the fork sets its own limits, reads the file, writes what it found, and ends, whatever the
file did to it. So a file costs a fork (3 ms) and not the start of an interpreter (100 ms), and nothing of one file
is left for the next. Where there is no fork (Windows) it reads one file, without limits, and ends.

It says `R` when it is ready, takes a line of JSON per file on standard input and answers with frames on standard
output, each a length of four bytes, a letter and a body: `H` the number of pages, `P` a page, `E` the end, `F` why the
file cannot be read, and last, from the parent of the fork, `X` how the fork ended and what it took.
"""

from __future__ import annotations

import json
import os
import select
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from errors import DocumentError
from rag.ingest.readers import clean_text, read_pages

# Reading files waits for whoever answers questions: with as many readers as cores those waited twice as long.
NICENESS = 10

# 250 ordinary pages. The worker holds nine pages at a time, and for one of them each line and sentence as an object.
MAX_PAGE_BYTES = 1024 * 1024
MAX_FRAME_BYTES = MAX_PAGE_BYTES + 4096
# CPU seconds a reader earns with each page it has read, on top of those it begins with.
SECONDS_PER_PAGE = 0.1
_HEAD = struct.Struct(">Ic")
_READ_BYTES = 256 * 1024


def serve() -> None:
    """Read files until standard input ends."""
    import pypdfium2  # noqa: F401  loaded once, so that no fork has to

    _write(sys.stdout.fileno(), b"R", {})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if not hasattr(os, "fork"):
            _read_file(request, sys.stdout.fileno())
            _write(sys.stdout.fileno(), b"X", {"code": 0, "cpu_seconds": 0.0, "peak_bytes": 0})
            return
        _fork_for(request)


def _fork_for(request: dict[str, Any]) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            _limit(request)
            _read_file(request, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    try:
        _relay(reading, child)
    finally:
        os.close(reading)
    _, status, used = os.wait4(child, 0)
    end = {
        "code": os.waitstatus_to_exitcode(status),
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    _write(sys.stdout.fileno(), b"X", end)


def _relay(reading: int, child: int) -> None:
    """Pass on whole frames until the fork ends. Ends the fork, and this process, once nobody listens any more."""
    buffer = bytearray()
    try:
        while True:
            ready, _, _ = select.select([reading, sys.stdin.fileno()], [], [])
            if reading not in ready:  # standard input: it ended, since nothing is asked while a file is read
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
        os._exit(1)


def _limit(request: dict[str, Any]) -> None:
    """Bound what this process may take, for good: memory, CPU, and no file written."""
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _has_proc() else 0
    memory = taken + request["memory_bytes"]
    with suppress(OSError):  # where memory runs out after all, this process goes first, and not the worker
        Path("/proc/self/oom_score_adj").write_text("1000")
    for which, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, request["cpu_seconds"], request["max_total_cpu_seconds"] + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        try:
            resource.setrlimit(which, (soft, hard))
        except (ValueError, OSError):  # macOS takes no RLIMIT_AS
            continue
    os.nice(NICENESS)


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def _read_file(request: dict[str, Any], output: int) -> None:
    try:
        count, pages = read_pages(
            Path(request["path"]),
            reader=request["reader"],
            skip=request["skip"],
            max_text_bytes=request["max_text_bytes"],
        )
        _write(output, b"H", {"pages": count})
        if request["reader"] in {"pdfium", "pypdf"} and count > request["max_pages"]:
            return
        for done, (label, text) in enumerate(pages, start=1):
            body = clean_text(text).encode()
            if len(body) > MAX_PAGE_BYTES:
                raise DocumentError("too_large", f"a page holds more than {MAX_PAGE_BYTES >> 20} MiB of text")
            head = json.dumps(clean_text(label)[:100]).encode()
            _write_all(output, _HEAD.pack(len(head) + 1 + len(body), b"P") + head + b"\n" + body)
            _earn(min(request["cpu_seconds"] + SECONDS_PER_PAGE * done, request["max_total_cpu_seconds"]))
        _write(output, b"E", {})
    except DocumentError as error:
        _write(output, b"F", {"reason": error.reason, "detail": error.detail})
    except MemoryError:
        _write(output, b"F", {"reason": "memory", "detail": ""})
    except RecursionError:
        _write(output, b"F", {"reason": "broken", "detail": "the file is broken: it is nested without end"})


def _earn(cpu_seconds: float) -> None:
    """Raise the CPU limit of this process."""
    if not hasattr(os, "fork"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_CPU, (min(int(cpu_seconds), hard), hard))


def _write(output: int, kind: bytes, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    _write_all(output, _HEAD.pack(len(data), kind) + data)


def _write_all(output: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(output, view) :]


if __name__ == "__main__":
    serve()
