"""The stop times: each process outlives the work that it waits for."""

from __future__ import annotations

import yaml

from queues.ragworker.worker import RagWorker
from settings import stop_times
from tests.support.processes import ROOT


def test_each_stop_time_leaves_room_for_the_shorter_ones() -> None:
    times = [stop_times.API_GRACE_SECONDS, stop_times.WORKER_GRACE_SECONDS, stop_times.PROCESS_STOP_SECONDS]
    times.append(stop_times.ORPHANED_WORKER_SECONDS)
    assert times == sorted(set(times))
    assert times[0] > 0
    assert RagWorker.grace_seconds == stop_times.WORKER_GRACE_SECONDS


def test_docker_waits_for_a_worker_and_for_open_requests() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, seconds in (("worker", stop_times.WORKER_GRACE_SECONDS), ("api", stop_times.API_GRACE_SECONDS)):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > seconds
