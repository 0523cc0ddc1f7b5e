"""Every hostile file ends in time, within its memory and with a reason, and the next file is read as usual.

Here the corpus is read with a tenth of the default time. tests/api/test_hostile_uploads.py tests the defaults, and
`make bench-hostile` measures the whole corpus with the defaults, file by file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from errors import DocumentError
from rag.ingest import extraction
from rag.ingest.extraction import (
    MAX_CPU_FACTOR,
    PAGE_FACTOR,
    WAIT_FACTOR,
    ExtractionLimits,
    Patience,
    ResourceUsage,
    close_readers,
    frames_of,
    read_document,
)
from rag.ingest.media_types import PDF
from rag.ingest.reader_pool import timeout_error
from settings import Settings
from tests.support.hostile_pdfs import STRUCTURES, actions
from tests.support.hostile_streams import STREAMS, shared, shared_work
from tests.support.hostile_texts import TEXTS, docx_elsewhere, docx_entities, html_entities
from tests.support.peak_memory import peak_of_readers
from tests.support.processes import ROOT

SECONDS = 30
MEMORY = 768 << 20
QUICK = ExtractionLimits(cpu_seconds=1)
REASONS = {"read", "broken", "encrypted", "too_long", "too_large", "timeout", "empty", "unknown_encoding"}
# pypdf reads these when pdfium fails, so they are tried on pypdf, too. Most of them meet a limit of pypdf itself.
FOR_PYPDF = (
    *("page tree of a trillion", "many updates", "tables of many parts", "object streams in a circle"),
    *("deep dictionary", "deep trailer", "reference chain", "label tree loop", "roman labels of two billion"),
    *("gibibyte", "fifty filters", "LZW bomb", "run-length bomb", "predictor of rows", "forms in a circle"),
    *("billion laughs", "type 3 loop", "map of everything", "map to novels", "absurd widths", "shared bomb"),
)


@pytest.fixture(autouse=True, scope="module")
def _no_reader_left() -> Iterator[None]:
    yield
    close_readers()


def outcome(
    path: Path, *, media_type: str = PDF, limits: ExtractionLimits | None = None, usage: ResourceUsage | None = None
) -> str:
    """Read a file to its end; return the reason of the failure, or `read`."""
    try:
        for page in read_document(path, media_type=media_type, limits=limits, usage=usage).pages:
            page.text.encode()
            assert "\x00" not in page.text
    except DocumentError as error:
        return error.reason
    return "read"


def assert_bounded(path: Path, outcomes: set[str], *, media_type: str = PDF) -> None:
    """Read a file; fail when it takes too many resources or its outcome is not among `outcomes`."""
    usage = ResourceUsage()
    began = time.monotonic()
    with peak_of_readers() as peak:
        reason = outcome(path, media_type=media_type, limits=QUICK, usage=usage)
    assert time.monotonic() - began <= SECONDS
    assert 0 < max(usage.peak_bytes, peak.bytes) <= MEMORY
    assert usage.cpu_seconds <= QUICK.max_total_cpu_seconds + 3  # the kernel counts whole seconds, for each reader
    # With so little time a second reader may not get to its end.
    assert reason in outcomes | ({"timeout"} if outcomes != {"read"} else set()) <= REASONS


@pytest.mark.parametrize("name", STRUCTURES | STREAMS)
def test_a_hostile_pdf_is_bounded(name: str, tmp_path: Path, pdf: Path) -> None:
    make, outcomes = (STRUCTURES | STREAMS)[name]
    path = tmp_path / "hostile.pdf"
    path.write_bytes(make())
    assert_bounded(path, outcomes)
    assert outcome(pdf) == "read", "the next file is read as usual"


@pytest.mark.parametrize("name", FOR_PYPDF)
def test_a_hostile_pdf_is_bounded_in_the_second_reader(
    name: str, tmp_path: Path, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hostile.pdf"
    path.write_bytes((STRUCTURES | STREAMS)[name][0]())
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "PDF_READERS", ("pypdf",))
        assert_bounded(path, REASONS)
    assert outcome(pdf) == "read"


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_file_of_another_kind_is_bounded(name: str, tmp_path: Path, pdf: Path) -> None:
    media_type, make, outcomes = TEXTS[name]
    path = tmp_path / "hostile"
    path.write_bytes(make())
    assert_bounded(path, outcomes, media_type=media_type)
    assert outcome(pdf) == "read"


def test_the_corpus_is_large_enough() -> None:
    assert len(STRUCTURES | STREAMS) >= 80
    assert len(STRUCTURES | STREAMS) == len(STRUCTURES) + len(STREAMS)


def test_the_defaults_leave_room_below_the_bounds() -> None:
    defaults = ExtractionLimits()
    for seconds in (defaults.cpu_seconds * WAIT_FACTOR, defaults.max_total_cpu_seconds):
        assert seconds <= SECONDS - 5, "room for a process to start and to end"
    assert defaults.memory_bytes <= MEMORY - (128 << 20), "room for the reader itself"
    fields = Settings.model_fields
    assert fields["extract_seconds"].default == defaults.cpu_seconds
    assert fields["extract_memory_mb"].default << 20 == defaults.memory_bytes
    assert fields["max_pages"].default == defaults.max_pages
    assert fields["max_text_mb"].default << 20 == defaults.max_text_bytes


def test_pages_do_not_add_time_without_end(tmp_path: Path) -> None:
    """Each of 5,000 slow pages would add more time than it takes; reading ends at the total limit."""
    path = tmp_path / "shared.pdf"
    path.write_bytes(shared_work())
    usage = ResourceUsage()
    assert outcome(path, limits=QUICK, usage=usage) == "timeout"
    assert usage.cpu_seconds <= MAX_CPU_FACTOR * QUICK.cpu_seconds + 1


def test_both_readers_share_the_time_of_a_file(tmp_path: Path) -> None:
    """A file that both readers fail on does not get twice the time."""
    path = tmp_path / "slow.pdf"
    path.write_bytes(shared_work())
    usage = ResourceUsage(cpu_seconds=QUICK.max_total_cpu_seconds)
    assert outcome(path, limits=QUICK, usage=usage) == "timeout"
    assert usage.peak_bytes == 0, "no reader is started once the time is used up"


ScriptedFrame = tuple[float, bytes, dict[str, float | None]]


class ScriptedReader:
    """A reader of which each frame comes after some seconds of a clock that stands still otherwise."""

    def __init__(self, *frames: ScriptedFrame) -> None:
        self._frames = iter(frames)
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def read_frame(self, seconds: float) -> tuple[bytes, bytes]:
        after, kind, body = next(self._frames)
        if after > seconds:
            raise timeout_error()
        self.now += after
        return kind, json.dumps(body).encode()


def time_until_the_end(*frames: ScriptedFrame, page_factor: float = PAGE_FACTOR) -> str:
    """Read the frames; return after how many seconds the reader ended, or was given up."""
    reader = ScriptedReader(*frames, (0, b"X", {"cpu_seconds": 0, "peak_bytes": 0}))
    limits = ExtractionLimits()
    patience = Patience(limits, page_factor=page_factor, clock=reader.clock)
    try:
        for _ in frames_of(reader, limits, ResourceUsage(), patience):  # type: ignore[arg-type]
            pass
    except DocumentError as error:
        return f"{error.reason} after {reader.now:.0f} s"
    return f"ended after {reader.now:.0f} s"


def test_a_reader_is_given_up_when_it_stalls_and_not_when_the_machine_is_busy() -> None:
    pages: list[ScriptedFrame] = [(20.0, b"P", {})] * 100
    assert time_until_the_end(*pages) == "ended after 2000 s"
    starved: list[ScriptedFrame] = [(1.0, b"A", {"cpu_seconds": second / 20}) for second in range(200)]
    assert time_until_the_end(*starved) == "ended after 200 s"
    assert time_until_the_end(*starved, page_factor=WAIT_FACTOR) == "timeout after 25 s"
    stopped: list[ScriptedFrame] = [(1.0, b"A", {"cpu_seconds": min(second, 10.0)}) for second in range(200)]
    assert time_until_the_end(*stopped) == "timeout after 36 s"
    untold: list[ScriptedFrame] = [(1.0, b"A", {"cpu_seconds": None})] * 1_000
    assert time_until_the_end(*untold) == "timeout after 300 s"
    assert time_until_the_end((26.0, b"P", {})) == "timeout after 0 s"
    assert time_until_the_end((0.0, b"O", {"ocr_seconds": 0.0}), (140.0, b"P", {})) == "ended after 140 s"


def test_ordinary_pages_add_the_time_that_they_take(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(shared(b"<< /Length 44 >>\nstream\nBT /A 12 Tf 10 10 Td (Words of a page.) Tj ET\nendstream"))
    usage = ResourceUsage()
    assert outcome(path, usage=usage) == "read"
    assert 0 < usage.cpu_seconds < ExtractionLimits().cpu_seconds


class _Canary(BaseHTTPRequestHandler):
    """Counts the requests."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  named so in the interface
        pass


@pytest.fixture
def canary() -> Iterator[str]:
    """The URL of a server that must get no request."""
    _Canary.requests = 0
    with HTTPServer(("127.0.0.1", 0), _Canary) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_nothing_in_a_file_is_run_or_fetched(canary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = canary.encode()
    kinds = {kind: media_type for kind, (media_type, _, _) in TEXTS.items()}
    files = (
        (PDF, actions(url)),
        (kinds["docx entities"], docx_entities(url)),
        (kinds["docx elsewhere"], docx_elsewhere(url)),
        (kinds["HTML entities"], html_entities(url)),
    )
    for number, (media_type, data) in enumerate(files):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        for readers in (("pdfium",), ("pypdf",)):
            monkeypatch.setattr(extraction, "PDF_READERS", readers)
            try:
                text = "".join(page.text for page in read_document(path, media_type=media_type).pages)
            except DocumentError:
                assert data.startswith(b"PK")
            else:
                assert "Hello" in text
                assert "root:" not in text, "no file of the machine is taken in"
    assert _Canary.requests == 0
    assert not (ROOT / "launched").exists()
