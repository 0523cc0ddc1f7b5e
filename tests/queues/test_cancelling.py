"""Cancelling a running job whose worker misses the stop command."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry

from client.rq.serializer import PlainSerializer
from client.rq.transitions import ExecutionRef, JobTransitions
from client.valkey.embedded import EmbeddedValkey
from queues.ragworker.commands import CommandListener
from server import create_app
from settings import Settings
from tests.api.test_api import ask
from tests.conftest import MakeSettings
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.openai_stub import serving
from tests.support.processes import wait_until
from tests.support.valkeys import wait_until_on_disk

QUEUE = "rag_queries"


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server that accepts connections and never replies."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def delete(api: httpx.Client, job_id: str) -> str:
    return str(api.delete(f"/jobs/{job_id}").json()["status"])


def assert_cancelled(valkey: Redis, api: httpx.Client, job_id: str) -> None:
    assert api.get(f"/job-status/{job_id}").json()["status"] == "cancelled"
    assert api.get(f"/result/{job_id}").json()["status"] == "cancelled"
    events = api.get(f"/jobs/{job_id}/events").text
    assert "event: cancelled" in events
    assert valkey.llen(f"rq:queue:{QUEUE}") == valkey.zcard(f"rq:wip:{QUEUE}") == 0
    assert FailedJobRegistry(QUEUE, connection=valkey).get_job_ids() == [job_id]
    assert valkey.xlen(f"rq:results:{job_id}") == 1
    assert 0 < int(valkey.ttl(f"rq:job:{job_id}")) <= 86_400
    assert not valkey.hexists(f"rq:job:{job_id}", "cancel")


def take(valkey: Redis, api: httpx.Client) -> ExecutionRef:
    """Ask a question, and have it taken by a worker that then vanishes."""
    ask(api)
    (taken,) = JobTransitions(valkey, "dead").take(QUEUE, ["first"]).jobs
    return taken.execution


def test_a_cancelled_job_of_a_dead_worker_ends_as_cancelled(valkey: Redis, api: httpx.Client) -> None:
    execution = take(valkey, api)
    assert delete(api, execution.job_id) == "started"
    valkey.hset(f"rq:execution:{execution.job_id}:first", "lease_until", 0)
    assert JobTransitions(valkey, "other").recover_expired(QUEUE) == [(execution.job_id, "cancelled")]
    assert_cancelled(valkey, api, execution.job_id)


def test_a_cancelled_job_that_is_handed_back_ends_as_cancelled(valkey: Redis, api: httpx.Client) -> None:
    execution = take(valkey, api)
    delete(api, execution.job_id)
    assert not JobTransitions(valkey, "dead").hand_back(execution)
    assert_cancelled(valkey, api, execution.job_id)


def test_a_cancelled_job_that_is_on_its_list_again_is_not_run(valkey: Redis, api: httpx.Client) -> None:
    execution = take(valkey, api)
    delete(api, execution.job_id)
    valkey.zrem(f"rq:wip:{QUEUE}", f"{execution.job_id}:first")
    valkey.lpush(f"rq:queue:{QUEUE}", execution.job_id)
    result = JobTransitions(valkey, "other").take(QUEUE, ["second"])
    assert (result.jobs, result.dropped) == ([], [(execution.job_id, "it was cancelled")])
    assert_cancelled(valkey, api, execution.job_id)


def test_a_cancelled_job_that_a_user_requeues_runs(valkey: Redis, api: httpx.Client) -> None:
    """A stock worker that ends a job leaves the cancellation mark behind."""
    execution = take(valkey, api)
    delete(api, execution.job_id)
    valkey.hset(f"rq:job:{execution.job_id}", "status", "stopped")
    valkey.zadd(f"rq:failed:{QUEUE}", {execution.job_id: time.time() + 60})
    valkey.zrem(f"rq:wip:{QUEUE}", f"{execution.job_id}:first")
    FailedJobRegistry(queue=Queue(QUEUE, connection=valkey, serializer=PlainSerializer)).requeue(execution.job_id)
    second = JobTransitions(valkey, "other")
    (taken,) = second.take(QUEUE, ["second"]).jobs
    assert second.heartbeat([taken.execution]).cancelled == []


def test_a_worker_that_misses_the_command_stops_the_job_at_its_heartbeat(
    valkey: Redis, settings: Settings, api: httpx.Client, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(CommandListener, "_receive", lambda _, data: heard.append(data))
    with working(settings):
        job = enqueue(valkey, "hang_in_socket", port)
        other = enqueue(valkey, "wait")
        wait_until(lambda: status(job) == status(other) == "started")
        assert delete(api, job.id) == "cancelled"
        assert heard
        wait_until(lambda: jobs.returned.count(port) == 1, what="the end of the call")
        assert status(other) == "started"
    assert valkey.xlen(f"rq:results:{job.id}") == 1


def test_jobs_cancelled_after_an_outage_are_stopped(tmp_path: Path, port: int, make_settings: MakeSettings) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    process = server._process
    assert process is not None
    settings = make_settings(valkey_url=server.url)
    try:
        with Redis.from_url(server.url) as valkey, working(settings), serving(create_app(settings)) as url:
            held = [enqueue(valkey, "hang_in_socket", port) for _ in range(3)]
            wait_until(lambda: all(status(job) == "started" for job in held))
            wait_until_on_disk(valkey)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_until(server.ensure_running)
            with httpx.Client(base_url=url, timeout=10) as api:
                for job in held:  # most likely none of the first is heard
                    wait_until(lambda job=job: api.delete(f"/jobs/{job.id}").status_code == 200)  # type: ignore[misc]
            assert ended(*held) == ["stopped"] * 3
            assert {len(valkey.xrange(f"rq:results:{job.id}")) for job in held} == {1}
            fetched = Job.fetch(held[0].id, connection=valkey, serializer=PlainSerializer)
            assert fetched.is_stopped
    finally:
        server.stop()
