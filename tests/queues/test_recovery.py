"""Jobs of workers that died: how soon they run again, and which deaths count against them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from redis import Redis
from rq.job import Job

from client.rq import holder
from client.rq.transitions import LONGEST_LEASE_SECONDS, MAX_DEATHS, SUSPECT_LOSSES, JobTransitions
from settings import Settings
from tests.support import jobs
from tests.support.jobs import ended, enqueue, status, working
from tests.support.processes import RQ, Running, running, wait_until
from tests.support.tables import each

QUEUE = "rag_queries"


def worker_command(url: str, kind: str = "Worker") -> list[str]:
    return [RQ, "worker", "-w", f"tests.support.jobs.{kind}", QUEUE, "--url", url]


def test_a_process_is_dead_once_it_has_ended_and_also_before_its_parent_asks() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = holder.name_of(child.pid)
        assert not holder.is_dead(name)
        assert not holder.is_dead(holder.current())
        child.kill()
        wait_until(lambda: holder.is_dead(name), what="the end of the process")  # a zombie: nobody has waited for it
    assert holder.is_dead(name)
    assert holder.name_of(child.pid) == ""


@each(
    "name",
    ["", "/", "x/1/1", f"{holder.host()}/x/1", f"{holder.host()}/", f"other-boot:pid:[1]/{2**22 + 1}/1", "not a name"],
)
def test_a_process_that_is_not_of_this_host_is_never_dead(name: str) -> None:
    assert not holder.is_dead(name)


def test_a_process_with_a_reused_id_is_dead() -> None:
    host, pid, start = holder.current().split("/")
    assert holder.is_dead(f"{host}/{pid}/{int(start) - 1}")


def test_the_jobs_of_a_killed_process_of_this_host_are_taken_before_their_leases_end(
    valkey: Redis, settings: Settings, tmp_path: Path
) -> None:
    job = enqueue(valkey, "count", settings.queue_url, "rag:run", 1.0)
    with running(worker_command(settings.queue_url), tmp_path / "a.log", DATA_DIR=str(settings.data_dir)) as worker:
        wait_until(lambda: valkey.exists("rag:run:begun"), what=lambda: worker.output)
        worker.process.kill()
        worker.process.wait()
    (pair,) = cast("list[bytes]", valkey.zrange(f"rq:wip:{QUEUE}", 0, -1))
    valkey.hset(f"rq:execution:{pair.decode()}", "lease_until", time.time() + LONGEST_LEASE_SECONDS - 1)
    with working(settings, kind=jobs.PatientWorker):
        assert ended(job) == ["finished"]
    assert valkey.get("rag:run:begun") == b"2"


def test_a_job_of_a_living_process_is_not_taken(valkey: Redis, settings: Settings) -> None:
    job = enqueue(valkey, "nothing")
    transitions = JobTransitions(valkey, "mine")
    transitions.take(QUEUE, ["one"])
    assert transitions.find_dead_processes(QUEUE) == []
    assert transitions.find_held_by(QUEUE, holder.current()) == [(job.id, "one")]
    with working(settings, kind=jobs.PatientWorker) as other:
        marker = enqueue(valkey, "nothing")
        assert ended(marker) == ["finished"]
        assert other.name != "mine"
        assert status(job) == "started"


def test_a_lease_far_ahead_is_not_believed_after_the_clock_was_set_back(valkey: Redis) -> None:
    job = enqueue(valkey, "nothing")
    transitions = JobTransitions(valkey, "one")
    transitions.take(QUEUE, ["one"])
    assert transitions.find_expired(QUEUE) == []
    valkey.hset(f"rq:execution:{job.id}:one", "lease_until", time.time() + 1_800)
    assert transitions.find_expired(QUEUE) == [(job.id, "one")]
    assert transitions.recover_expired(QUEUE) == [(job.id, "requeued")]


def test_deaths_with_others_do_not_count_and_make_a_suspect_that_runs_alone(valkey: Redis) -> None:
    transitions = JobTransitions(valkey, "one")
    suspect, other = enqueue(valkey, "nothing"), enqueue(valkey, "nothing")
    for n in range(SUSPECT_LOSSES):
        assert len(transitions.take(QUEUE, [f"a{n}", f"b{n}"]).jobs) == 2
        executions = transitions.find_held_by(QUEUE, holder.current())
        for execution in executions:
            valkey.hset(f"rq:execution:{':'.join(execution)}", "lease_until", 0)
        transitions.recover(QUEUE, sorted(executions, key=lambda pair: pair[0] == suspect.id), alone=False)
    assert not valkey.hexists(suspect.key, "deaths")
    assert valkey.hget(suspect.key, "losses") == str(SUSPECT_LOSSES).encode()
    busy = transitions.take(QUEUE, ["c", "d"], idle=False)
    assert (busy.jobs, busy.suspect_waits) == ([], True)
    idle = transitions.take(QUEUE, ["e", "f"], idle=True)
    assert [taken.execution.job_id for taken in idle.jobs] == [suspect.id]
    assert status(other) == "queued"


def keep_working(url: str, log: Path, until: Sequence[Job], **variables: str) -> int:
    """Run a worker, and another one whenever it dies, until jobs have ended. Returns how many died."""
    for deaths in range(20):
        with running(worker_command(url), log.with_suffix(f".{deaths}"), **variables) as worker:
            wait_until(lambda: _has_ended(worker, until), seconds=60, what=lambda: worker.output)
            if worker.process.poll() is None:
                return deaths
    raise AssertionError("the workers died twenty times")


def _has_ended(worker: Running, until: Sequence[Job]) -> bool:
    return worker.process.poll() is not None or all(status(job) in {"finished", "failed"} for job in until)


def test_a_job_that_kills_its_workers_takes_no_other_job_with_it(
    valkey: Redis, settings: Settings, tmp_path: Path
) -> None:
    before = [enqueue(valkey, "sleep", 0.5) for _ in range(3)]
    poison = enqueue(valkey, "die")
    after = [enqueue(valkey, "sleep", 0.5) for _ in range(3)]
    everything = [*before, poison, *after]
    variables = {"DATA_DIR": str(settings.data_dir), "WORKER_CONCURRENCY": "8"}
    deaths = keep_working(settings.queue_url, tmp_path / "worker.log", everything, **variables)
    assert [status(job) for job in everything] == [*["finished"] * 3, "failed", *["finished"] * 3]
    assert MAX_DEATHS <= deaths <= SUSPECT_LOSSES + MAX_DEATHS
    assert "AbandonedJobError" in str(poison.latest_result().exc_string)  # type: ignore[union-attr]
