"""The most memory that processes below this one have held, as the kernel counts it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tests.support.processes import descendants

EVERY_SECONDS = 0.02
_PEAK = re.compile(r"^VmHWM:\s*(\d+) kB", re.MULTILINE)


@dataclass
class Peak:
    """The largest peak seen of any one process."""

    bytes: int = 0

    def look(self) -> None:
        """Note the peaks of the processes that there are."""
        with suppress(OSError):  # one that ended meanwhile
            for pid in descendants(os.getpid()):
                if b"rag.ingest.reader_process" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    continue
                if found := _PEAK.search(Path(f"/proc/{pid}/status").read_text()):
                    self.bytes = max(self.bytes, int(found[1]) * 1024)


@contextmanager
def peak_of_readers() -> Iterator[Peak]:
    """Watch the readers of files and their forks, also those that are killed before they can tell."""
    peak, over = Peak(), Event()

    def watch() -> None:
        while not over.wait(EVERY_SECONDS):
            peak.look()

    thread = Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
