"""A key of the wrong type, or a senseless value, among the jobs of a worker: other jobs are not affected."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import pytest
from redis import Redis

from client.rq import transitions
from settings import Settings
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.processes import wait_until

QUEUE = "rag_queries"
Break = Callable[[Redis, str, str], object]


def execution_of(valkey: Redis, job_id: str) -> str:
    pairs = [pair.decode() for pair in cast("list[bytes]", valkey.zrange(f"rq:wip:{QUEUE}", 0, -1))]
    return next(pair for pair in pairs if pair.startswith(job_id))


def as_text(valkey: Redis, key: str) -> None:
    valkey.delete(key)
    valkey.set(key, "text")


# The damage to a running job, and to its worker.
WRONG: dict[str, Break] = {
    "text for the job": lambda valkey, job_id, _: as_text(valkey, f"rq:job:{job_id}"),
    "text for its execution": lambda valkey, job_id, _: as_text(valkey, f"rq:execution:{execution_of(valkey, job_id)}"),
    "text for its executions": lambda valkey, job_id, _: as_text(valkey, f"rq:executions:{job_id}"),
    "text for its results": lambda valkey, job_id, _: as_text(valkey, f"rq:results:{job_id}"),
    "a lease that is no number": lambda valkey, job_id, _: valkey.hset(
        f"rq:execution:{execution_of(valkey, job_id)}", "lease_until", "soon"
    ),
    "text for the worker": lambda valkey, _, key: as_text(valkey, key),
    "a schedule that is text": lambda valkey, _, __: as_text(valkey, f"rq:scheduled:{QUEUE}"),
    "a list of workers that is text": lambda valkey, _, __: as_text(valkey, f"rq:workers:{QUEUE}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_jobs_keep_their_leases_despite_a_wrong_key(
    name: str, valkey: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with working(settings) as worker:
        victim = enqueue(valkey, "wait")
        neighbour = enqueue(valkey, "count", settings.queue_url, "rag:run", 2 * jobs.LEASE_SECONDS + 1.0)
        wait_until(lambda: valkey.get("rag:run:begun") and status(victim) == "started")
        WRONG[name](valkey, victim.id, worker.key)
        assert ended(neighbour) == ["finished"]
        assert valkey.get("rag:run:begun") == b"1"
        assert ended(enqueue(valkey, "nothing")) == ["finished"]
    assert "Valkey is away" not in caplog.text


# The damage beside a job that a dead worker held.
IN_THE_WAY: dict[str, Callable[[Redis], object]] = {
    "text for an execution": lambda valkey: valkey.set("rq:execution:evil:1", "x"),
    "a lease that is no number": lambda valkey: valkey.hset("rq:execution:evil:1", "lease_until", "soon"),
    "a lease without end": lambda valkey: valkey.hset("rq:execution:evil:1", "lease_until", "inf"),
    "text for its executions": lambda valkey: valkey.set("rq:executions:evil", "x"),
    "a job that is text": lambda valkey: valkey.set("rq:job:evil", "x"),
    "a job whose times make no sense": lambda valkey: valkey.hset(
        "rq:job:evil", mapping={"status": "started", "deaths": "2", "failure_ttl": "1.5"}
    ),
    "a job whose deaths are no whole number": lambda valkey: valkey.hset(
        "rq:job:evil", mapping={"status": "started", "deaths": "2.5", "failure_ttl": "9" * 400}
    ),
    "a schedule that is text": lambda valkey: valkey.set(f"rq:scheduled:{QUEUE}", "x"),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_the_job_of_a_dead_worker_runs_again_despite_a_wrong_key(name: str, valkey: Redis, settings: Settings) -> None:
    dead = enqueue(valkey, "nothing")
    transitions.JobTransitions(valkey, "dead").take(QUEUE, ["dead"])
    valkey.hset(f"rq:execution:{dead.id}:dead", "lease_until", 0)
    valkey.zadd(f"rq:wip:{QUEUE}", {"evil:1": 1e12, "nonsense": 1e12})
    IN_THE_WAY[name](valkey)
    with working(settings):
        assert ended(dead) == ["finished"]
        wait_until(lambda: not valkey.zscore(f"rq:wip:{QUEUE}", "evil:1"))
    assert valkey.hget(dead.key, "deaths") is None


def test_a_refusal_by_valkey_is_logged_once(
    valkey: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    as_text(valkey, f"rq:scheduled:{QUEUE}")
    with working(settings):
        wait_until(lambda: "WRONGTYPE" in caplog.text)
        assert ended(enqueue(valkey, "nothing")) == ["finished"]
    assert f"the schedule of {QUEUE} failed: Valkey refused it" in caplog.text
    assert caplog.text.count("WRONGTYPE") == 1
