"""The drafts that a worker keeps on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from queues.ragworker import draft_spool
from queues.ragworker.draft_spool import DraftSpool
from tests.support.processes import wait_until

CALL, DRAFT = b"the call", b"line 1\nline 2"
NEVER, AT_ONCE = 3_600.0, 0.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "drafts"


@contextmanager
def started(folder: Path, *, delay_seconds: float = AT_ONCE) -> Iterator[DraftSpool]:
    spool = DraftSpool(folder, delay_seconds=delay_seconds)
    spool.start()
    yield spool
    spool.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_later_worker_finds_a_draft_for_the_same_call_alone(folder: Path) -> None:
    with started(folder) as spool:
        spool.keep("a", CALL, DRAFT)
        assert spool.find("b", CALL) is None
    with started(folder) as later:
        assert later.find("a", CALL) == DRAFT
        assert later.find("a", b"another call") is None
        later.discard("a")  # the job has ended
    assert names(folder) == set()


def test_a_draft_that_valkey_takes_soon_is_never_written(folder: Path) -> None:
    with started(folder, delay_seconds=NEVER) as spool:
        spool.keep("a", CALL, DRAFT)
        spool.discard("a")
    assert not folder.exists()


def test_a_draft_that_waits_is_written_when_the_worker_stops(folder: Path) -> None:
    with started(folder, delay_seconds=NEVER) as spool:
        spool.keep("a", CALL, DRAFT)
        assert not folder.exists()
    assert DraftSpool(folder).find("a", CALL) == DRAFT


def test_drafts_of_ended_jobs_and_old_drafts_are_removed(folder: Path, valkey: Redis) -> None:
    statuses = {"waits": "queued", "runs": "started", "old": "queued", "ended": "finished", "cancelled": "canceled"}
    for job_id, status in statuses.items():
        valkey.hset(f"rq:job:{job_id}", "status", status)
    with started(folder) as spool:
        for job_id in [*statuses, "gone"]:
            spool.keep(job_id, CALL, DRAFT)
        wait_until(lambda: len(names(folder)) == 6)
        long_ago = time.time() - draft_spool.MAX_AGE_SECONDS - 60
        os.utime(folder / "old", (long_ago, long_ago))
        spool.prune(valkey)
    assert names(folder) == {"waits", "runs"}


def test_the_folder_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_spool, "MAX_DRAFTS", 3)
    with started(folder) as spool:
        spool.keep("large", CALL, bytes(draft_spool.MAX_DRAFT_BYTES + 1))
        for number in range(5):
            spool.keep(str(number), CALL, DRAFT)
    assert names(folder) == {"0", "1", "2"}


def test_a_folder_that_cannot_be_written_is_reported_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file")
    with started(folder) as spool:
        spool.keep("a", CALL, DRAFT)
        spool.keep("b", CALL, DRAFT)
    assert spool.find("a", CALL) is None
    assert len(caplog.messages) == 1
    assert "cannot be kept" in caplog.messages[0]
