"""`main.py worker` that also notes where its CPU time goes: `python -m bench.questions.profiled_worker FILE`.

A thread looks at all others a thousand times a second. The CPU time that a thread used since the last look belongs to
the part of a question that the thread's stack shows; if the thread waits for its next piece of work, to the part that
the next look finds it at. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import main
from bench.machine import ROOT

LOOK_SECONDS = 0.001
# Many steps of an event loop take 10 µs. With the default of 5 ms, and with the kernel's timers as late as they are by
# default, a look would always come between two of them. The looks make an answer 10 to 20 % dearer: read the shares.
SWITCH_SECONDS = 0.000001
PR_SET_TIMERSLACK = 29
WRITE_SECONDS = 0.2
# The first rule that a frame of the stack matches names the part: what a file's path begins with, then what it holds.
RULES: list[tuple[str, tuple[str, ...]]] = [
    ("citations", ("rag/citations/",)),
    # The writer's thread sends both in one pipeline.
    ("events, outcomes", ("client/rq/event_", "queues/ragworker/job_writer", "queues/ragworker/result_writer")),
    ("embed", ("client/llm/embed", "client/llm/query_embed")),
    ("model", ("client/llm/", "rag/answer/token_stream")),
    ("rerank", ("rag/search/relevance",)),
    ("SQL", ("client/sql/", "lib/sqlalchemy/")),
    ("search", ("client/qdrant/", "rag/search/", "documents/access_filter")),
    ("prompt, links", ("rag/answer/",)),
    ("model", ("lib/aiohttp/", "lib/httpx", "lib/httpcore", "lib/h11", "lib/openai/", "lib/langchain")),
    ("bookkeeping", ("queues/", "client/", "webhooks/", "lib/redis/", "lib/rq/", "schemas")),
]
LOOP = "event loop, threads"
# Where a thread waits for work: the ends of files, and functions.
WAITS = {
    ("selectors.py", "select"),
    ("threading.py", "wait"),
    ("threading.py", "run"),  # the event loop of uvloop, which is no Python
    ("thread.py", "_worker"),
    ("queue.py", "get"),
}


def run(file: Path) -> int:
    """Run the worker; write the CPU seconds of each part, and of the whole process, to a file as they grow."""
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=_look_forever, args=(file,), daemon=True).start()
    return main.main(["worker"])


def _look_forever(file: Path) -> None:
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)
    own = threading.get_ident()
    parts: defaultdict[str, float] = defaultdict(float)
    seen: dict[int, float] = {}
    waiting: defaultdict[int, float] = defaultdict(float)
    written = 0.0
    while True:
        time.sleep(LOOK_SECONDS)
        threads = {thread.ident: thread.native_id for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001
            native = threads.get(ident)
            if ident == own or native is None:
                continue
            used = _cpu_seconds(native)
            passed = used - seen.get(native, 0.0)
            seen[native] = used
            waiting[native] += passed
            if waiting[native] > 0 and not is_waiting(frame):
                parts[part_of(frame)] += waiting.pop(native)
        if time.monotonic() - written >= WRITE_SECONDS:
            written = time.monotonic()
            whole = time.process_time() - time.thread_time()
            part = file.with_suffix(".part")
            part.write_text(json.dumps({"whole": whole, "parts": parts}))
            part.rename(file)


def _cpu_seconds(native_id: int) -> float:
    """Return the CPU time of a thread; 0 when the thread has ended."""
    try:
        return time.clock_gettime((~native_id << 3) | 6)  # the kernel's MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def is_waiting(frame: FrameType) -> bool:
    """Return True if a thread waits for its next piece of work."""
    return (frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name) in WAITS


def part_of(frame: FrameType | None) -> str:
    """Return the part of a question that a stack works on."""
    files = list(_files(frame))
    for part, places in RULES:
        if any(file.startswith(places) for file in files):
            return part
    return LOOP


def _files(frame: FrameType | None) -> Iterator[str]:
    """Yield the files of a stack: relative to the project, and those of packages after `lib/`."""
    while frame is not None:
        file = frame.f_code.co_filename
        _, installed, package = file.rpartition("/site-packages/")
        yield f"lib/{package}" if installed else file.removeprefix(f"{ROOT}/")
        frame = frame.f_back


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
