"""Valkey goes away while jobs run, and comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from client.rq import transitions as ledger
from client.valkey.embedded import EmbeddedValkey
from queues.ragworker import maintenance as caretaker
from tests.conftest import MakeSettings
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.processes import wait_until


@pytest.fixture
def own_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedValkey]:
    """A Valkey that the test may kill."""
    for name in ("BEAT_SECONDS", "REAP_SECONDS", "CALM_SECONDS", "UNSTARTED_SECONDS", "VALKEY_UPTIME_SECONDS"):
        monkeypatch.setattr(caretaker, name, getattr(caretaker, name))
    monkeypatch.setattr(ledger, "LEASE_SECONDS", ledger.LEASE_SECONDS)
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("how", ["killed", "stopped for a while"])
def test_what_ran_during_an_outage_is_written_once_it_is_over(
    how: str, own_valkey: EmbeddedValkey, make_settings: MakeSettings
) -> None:
    process = own_valkey._process
    assert process is not None
    runs: list[float] = []
    with Redis.from_url(own_valkey.url) as valkey, working(make_settings(valkey_url=own_valkey.url)):
        during = [enqueue(valkey, "sleep", 0.5) for _ in range(5)]
        across = enqueue(valkey, "wait")
        wait_until(lambda: all(status(job) == "started" for job in [*during, across]))
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        time.sleep(jobs.LEASE_SECONDS + 1)  # every lease has run out
        if how == "killed":
            process.wait()
            assert own_valkey.ensure_running()
        else:
            process.send_signal(signal.SIGCONT)
        back = time.monotonic()
        after = enqueue(valkey, "nothing")
        assert ended(*during, after, seconds=5) == ["finished"] * 6
        runs.append(time.monotonic() - back)
        time.sleep(jobs.LEASE_SECONDS + 1)  # the reaper has looked
        assert status(across) == "started"
        jobs.release()
        assert ended(across) == ["finished"]
        executions = {len(valkey.xrange(f"rq:results:{job.id}")) for job in [*during, across]}
        assert executions == {1}
        assert all(not valkey.hexists(job.key, "deaths") for job in [*during, across])
    assert runs[0] < 5
