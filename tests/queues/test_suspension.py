"""A worker that was stopped for a while takes no answer that it missed for a failure of the model provider."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from redis import Redis

from queues.ragworker.suspension import Suspension
from settings import Settings
from tests.queues.test_chat import variables
from tests.support.jobs import READY_TO_STOP, STOP_SECONDS, ended, enqueue
from tests.support.processes import RQ, running, wait_until


def test_a_time_limit_that_passed_while_the_worker_was_stopped_fails_no_job(
    settings: Settings, valkey: Redis, tmp_path: Path
) -> None:
    command = [RQ, "worker", "-w", "tests.support.jobs.PatientWorker", "--url", settings.queue_url, "rag_queries"]
    with running(command, tmp_path / "worker.log", **variables(settings)) as worker:
        job = enqueue(valkey, "time_out_once_stopped")
        wait_until(lambda: READY_TO_STOP in worker.output, seconds=60, what=lambda: worker.output)
        os.kill(worker.process.pid, signal.SIGSTOP)
        time.sleep(STOP_SECONDS + 1)
        os.kill(worker.process.pid, signal.SIGCONT)
        assert ended(job, seconds=60) == ["finished"]
    assert job.return_value() == 2
    assert "handed back" in worker.output


def test_a_stop_is_seen_before_and_after_the_next_tick() -> None:
    now = [0.0]
    suspension = Suspension(5.0, clock=lambda: now[0])
    for now[0] in (1.0, 3.0, 7.0):
        suspension.tick()
    assert not suspension.happened_since(0.0)
    now[0] = 20.0
    assert suspension.happened_since(6.0)
    assert not suspension.happened_since(18.0)
    suspension.tick()
    now[0] = 21.0
    assert suspension.happened_since(6.0)
    assert not suspension.happened_since(20.5)
