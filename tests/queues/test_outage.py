"""Valkey goes away while jobs run, and comes back."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ValkeyConnectionError
from redis.retry import Retry

from client.rq.transitions import JobTransitions
from client.valkey.embedded import EmbeddedValkey
from queues import run
from queues.ragworker.job_writer import JobWriter
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_job_writer import run_new
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.processes import wait_until
from tests.support.valkeys import answers, wait_until_on_disk

OUTAGE_SECONDS = jobs.LEASE_SECONDS + 0.5  # every lease has run out by then


@pytest.fixture
def valkey_to_kill(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of this test alone."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("how", ["killed", "stopped for a while"])
def test_jobs_that_ran_during_an_outage_are_written_after_it(
    how: str, valkey_to_kill: EmbeddedValkey, make_settings: MakeSettings
) -> None:
    process, url = valkey_to_kill._process, valkey_to_kill.url
    assert process is not None
    with ExitStack() as keep_running, Redis.from_url(url) as valkey, working(make_settings(valkey_url=url)):
        during = [enqueue(valkey, "sleep", 0.5) for _ in range(5)]
        across = enqueue(valkey, "wait")
        wait_until(lambda: all(status(job) == "started" for job in [*during, across]))
        wait_until_on_disk(valkey)
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        time.sleep(OUTAGE_SECONDS)
        if how == "killed":
            keep_running.enter_context(valkey_to_kill.keep_running())
            wait_until(lambda: answers(valkey))
        else:
            process.send_signal(signal.SIGCONT)
        after = enqueue(valkey, "nothing")
        assert ended(*during, after) == ["finished"] * 6
        time.sleep(OUTAGE_SECONDS)  # time for the worker to recover jobs of dead workers
        assert status(across) == "started"
        jobs.release()
        assert ended(across) == ["finished"]
        executions = {len(valkey.xrange(f"rq:results:{job.id}")) for job in [*during, across]}
        assert executions == {1}
        assert all(not valkey.hexists(job.key, "deaths") for job in [*during, across])


@pytest.mark.parametrize("command", ["CLIENT SETNAME", "EXISTS", "EXEC"])
def test_a_worker_starts_though_valkey_goes_away_meanwhile(
    command: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands with which RQ makes a worker, and registers it."""
    left, thread = [command], threading.current_thread()
    monkeypatch.setattr(run, "RETRY_SECONDS", 0.01)

    def fail_once(name: str) -> None:
        if left == [name]:
            left.clear()
            raise ValkeyConnectionError("Valkey is gone")

    class Server(Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            if threading.current_thread() is thread:
                fail_once(args[0])
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

        def pipeline(self, *args: Any, **options: Any) -> Any:
            pipeline = super().pipeline(*args, **options)
            execute = pipeline.execute

            def execute_or_fail(**how: Any) -> Any:
                fail_once("EXEC")
                return execute(**how)

            pipeline.execute = execute_or_fail  # type: ignore[method-assign, assignment]
            return pipeline

    with Server.from_url(settings.queue_url) as connection, Redis.from_url(settings.queue_url) as valkey:
        worker = run._make_worker(connection, settings, ["rag_queries"])
        working = threading.Thread(target=worker.work, kwargs={"logging_level": "INFO"}, daemon=True)
        thread = working
        working.start()
        try:
            wait_until(lambda: valkey.hget(worker.key, "birth"))
            assert left == []
        finally:
            worker.request_stop(15, None)
            working.join(20)


@pytest.mark.parametrize("how", ["killed", "stopped for a while"])
def test_events_are_written_once_and_in_order_after_an_outage(
    how: str, valkey_to_kill: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    process, url = valkey_to_kill._process, valkey_to_kill.url
    assert process is not None
    results: list[bool] = []
    with ExitStack() as keep_running, Redis.from_url(url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as impatient:
        valkey = keep_running.enter_context(Redis.from_url(url))
        valkey.config_set("appendfsync", "always")
        writer = JobWriter(JobTransitions(impatient, "w"), lambda _ref, _outcome, well: results.append(well))
        writer.start()
        running = [run_new(valkey, writer) for _ in range(20)]
        for job in running:
            job.write("started")
        wait_until(lambda: all(job.written() for job in running))
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        for number in range(50):
            for job in running:
                job.write("token", text=number)
        wait_until(lambda: "Valkey cannot be written" in caplog.text)
        for job in running:
            job.write("token", text=50)
            job.finish()
        if how == "killed":
            keep_running.enter_context(valkey_to_kill.keep_running())
        else:
            process.send_signal(signal.SIGCONT)
        writer.close(discard=False)
        assert results == [True] * len(running)
        assert [job.written() for job in running] == [[{"attempt": 1}, *range(51)]] * len(running)
