"""`main.py top`: what it shows of a service at work, in any width, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

import main
from client.valkey import keys
from settings import Settings
from tests.support.jobs import ended, enqueue, working
from tests.support.processes import PYTHON, ROOT, environment, free_port, wait_until


@pytest.fixture(autouse=True)
def _our_valkey(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_URL", settings.queue_url)
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("RESULT_TTL_SECONDS", "600")  # as `enqueue` has it


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, width: int = 120) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main.main(["top", "--once"]) == 0
    return capsys.readouterr().out


def test_what_runs_waits_ended_and_failed_is_shown(
    valkey: Redis, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(settings) as worker:
        done, failed = enqueue(valkey, "nothing"), enqueue(valkey, "fail", "a word")
        assert ended(done, failed) == ["finished", "failed"]
        enqueue(valkey, "wait")
        wait_until(lambda: valkey.zcard(keys.registry("wip", "rag_queries")) == 1)
        enqueue(valkey, "nothing", queue="rag_documents")
        screen = shown(capsys, monkeypatch)
        lines = {line.split()[0]: line.split() for line in screen.splitlines() if line.strip()}
        assert lines["rag_queries"][1:3] == ["0", "1"]
        assert lines["rag_queries"][-1] == "1"
        assert lines["rag_documents"][1:3] == ["1", "0"]
        assert lines["rag_documents"][-1] == "0"
        assert "1 worker" in screen
        assert worker.name[:20] in screen
        assert failed.id[:20] in screen
        assert "internal: the job failed" in screen


def test_rates_latencies_and_the_oldest_job_are_those_of_the_last_minute(
    valkey: Redis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    for seconds in (1, 2, 30):
        job_id = _id_of(now - timedelta(seconds=40 + seconds))
        valkey.zadd(keys.registry("finished", "rag_queries"), {job_id: now.timestamp() - 40 + 600})
    valkey.zadd(keys.registry("finished", "rag_queries"), {"old": now.timestamp() - 120 + 600})
    valkey.zadd(keys.registry("failed", "rag_queries"), {"gone": now.timestamp() - 1 + 600})
    valkey.rpush(keys.queue("rag_queries"), _id_of(now - timedelta(minutes=5)))
    cells = re.split(r" {2,}", next(line for line in shown(capsys, monkeypatch).splitlines() if "rag_queries" in line))
    name, waiting, running, oldest, finished, failed, median, p95, workers = (cell.strip() for cell in cells[:9])
    assert (name, waiting, running, finished, failed, workers) == ("rag_queries", "1", "0", "3", "1", "0")
    assert oldest.startswith("5 min")
    assert (median, p95) == ("2.0 s", "30.0 s")


def _id_of(moment: datetime) -> str:
    """Return an id as of a job that was made then: a UUID of version 7."""
    milliseconds = int(moment.timestamp() * 1000)
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{os.urandom(1).hex()}0-8000-{os.urandom(6).hex()}"


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_longer_than_the_terminal(
    width: int, valkey: Redis, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with working(settings):
        failed = enqueue(valkey, "fail", "a word")
        assert ended(failed) == ["failed"]
        lines = shown(capsys, monkeypatch, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("rag_webhooks" in line for line in lines)


def test_a_suspended_queue_and_a_valkey_that_is_away_are_said(
    valkey: Redis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey.set(keys.SUSPENDED, 1)
    screen = shown(capsys, monkeypatch)
    assert "suspended" in screen
    assert "no worker runs" in screen
    monkeypatch.setenv("VALKEY_URL", f"redis://127.0.0.1:{free_port()}")
    assert main.main(["top"]) == 2
    assert "does not answer" in capsys.readouterr().err


class Terminal:
    """`main.py top` in a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process = process
        self._handle = handle
        self.output = ""

    def read(self) -> str:
        with suppress(OSError):
            self.output += os.read(self._handle, 65_536).decode(errors="replace")
        return self.output

    def press(self, key: bytes) -> None:
        os.write(self._handle, key)


@contextmanager
def terminal(settings: Settings) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    variables = environment(VALKEY_URL=settings.queue_url, DATA_DIR=str(settings.data_dir), TERM="xterm", COLUMNS="100")
    command = [PYTHON, "main.py", "top", "--interval", "0.1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_it_follows_until_it_is_told_to_end(key: bytes, valkey: Redis, settings: Settings) -> None:
    with terminal(settings) as top:
        wait_until(lambda: "rag_queries" in top.read(), what=lambda: top.output)
        enqueue(valkey, "nothing")
        wait_until(lambda: re.search(r"rag_queries\s+1 ", top.read()), what=lambda: top.output)
        if key == b"q":
            top.press(key)
        else:  # the terminal of this test is nobody's controlling terminal, which would turn the key into the signal
            top.process.send_signal(2)
        wait_until(lambda: top.read() is not None and top.process.poll() is not None, what="the end")
        assert top.process.returncode == 0
        assert "Traceback" not in top.read()
        assert "\x1b[?1049l" in top.output  # the screen as it was before
