"""`make bench-hostile`: the seconds and the memory that each hostile file takes, at the default limits.

Each PDF is read as in use, by pdfium and then perhaps by pypdf, and by pypdf alone. The tests read the same files with
a tenth of the time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from errors import DocumentError
from rag.ingest import extraction
from rag.ingest.extraction import ExtractionLimits, ResourceUsage, close_readers, read_document
from rag.ingest.media_types import PDF
from tests.support.hostile_pdfs import STRUCTURES
from tests.support.hostile_streams import STREAMS
from tests.support.hostile_texts import TEXTS
from tests.support.peak_memory import peak_of_readers

SECONDS, MEMORY_MB = 30, 768
WORST = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """The time and the memory that a file took, and how reading it ended."""

    name: str
    kilobytes: float
    seconds: float
    cpu_seconds: float
    peak_mb: float
    outcome: str

    def line(self) -> str:
        figures = f"{self.kilobytes:9.0f} {self.seconds:7.1f} {self.cpu_seconds:7.1f} {self.peak_mb:7.0f}"
        return f"{self.name:45}{figures}  {self.outcome}\n"


def measure(name: str, path: Path, media_type: str) -> Measured:
    """Read a file to its end."""
    usage = ResourceUsage()
    started = time.monotonic()
    with peak_of_readers() as peak:
        try:
            pages = sum(
                1 for _ in read_document(path, media_type=media_type, limits=ExtractionLimits(), usage=usage).pages
            )
            outcome = f"read, {pages} pages"
        except DocumentError as error:
            outcome = error.reason
    seconds = time.monotonic() - started
    peak_mb = max(peak.bytes, usage.peak_bytes) / 2**20
    return Measured(name, path.stat().st_size / 1000, seconds, usage.cpu_seconds, peak_mb, outcome)


def all_measured(folder: Path) -> Iterator[Measured]:
    """Read every hostile file."""
    path = folder / "hostile"
    for readers in (extraction.PDF_READERS, ("pypdf",)):
        extraction.PDF_READERS = readers
        for name, (make, _) in (STRUCTURES | STREAMS).items():
            path.write_bytes(make())
            yield measure(f"{name} ({', '.join(readers)})", path, PDF)
    for name, (media_type, make_text, _) in TEXTS.items():
        path.write_bytes(make_text())
        yield measure(name, path, media_type)


def main() -> int:
    """Measure all; return 1 if a file takes more than it may."""
    write = sys.stdout.write
    write(f"{'file':45}{'KB':>9} {'seconds':>7} {'CPU s':>7} {'peak MB':>7}  outcome\n")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for one in all_measured(Path(folder)):
            measured.append(one)
            write(one.line())
            sys.stdout.flush()
    close_readers()
    for title, key in (("slowest", lambda one: one.seconds), ("largest", lambda one: one.peak_mb)):
        write(f"\nThe {title}:\n")
        for one in sorted(measured, key=key, reverse=True)[:WORST]:
            write(one.line())
    over = [one.name for one in measured if one.seconds > SECONDS or one.peak_mb > MEMORY_MB]
    write(f"\n{len(measured)} files; over {SECONDS} s or {MEMORY_MB} MB: {', '.join(over) or 'none'}\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
