"""The states of a job as a state machine: in every order of events an ended job stays as it ended, and any other job
is in exactly one place.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis
from rq import Queue
from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.registry import FailedJobRegistry

from client.rq.cancel import cancel
from client.rq.serializer import PlainSerializer
from client.rq.transitions import (
    MAX_DEATHS,
    ExecutionRef,
    JobOutcome,
    JobTransitions,
    encode_exception,
    encode_result,
)
from client.rq_client import JobQueue
from errors import JobNotFound
from schemas import JobStatus

QUEUE = "rag_queries"
TERMINAL = {"finished", "failed", "stopped", "canceled"}
_numbers = itertools.count()


class JobStates(RuleBasedStateMachine):
    """Submits, takes, finishes, recovers, cancels, retries and expires jobs, through the steps of a worker."""

    url: str
    admin: Redis
    submitted = Bundle("submitted")

    def __init__(self) -> None:
        super().__init__()
        self.valkey = Redis.from_url(self.url)
        self.admin.flushall()
        self.transitions = [JobTransitions(self.valkey, name) for name in ("one", "two")]
        self.loop = asyncio.new_event_loop()
        self.queue = JobQueue(self.url, job_timeout_seconds=60, result_ttl_seconds=600)
        self.held: list[ExecutionRef] = []  # by a live worker
        self.late: list[ExecutionRef] = []  # by a worker that died or lost the job, and may still try to write
        self.terminal: dict[str, tuple[str, Any]] = {}
        self.jobs: set[str] = set()
        self.expired: set[str] = set()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.queue.close())
        self.loop.close()
        self.valkey.close()

    @rule(target=submitted)
    def submit(self) -> str:
        job = self.loop.run_until_complete(self.queue.submit("chat", {"query": "why?"}))
        self.jobs.add(job.job_id)
        return job.job_id

    @rule(worker=st.integers(0, 1), count=st.integers(1, 3))
    def take(self, worker: int, count: int) -> None:
        result = self.transitions[worker].take(QUEUE, [f"{next(_numbers):032x}" for _ in range(count)])
        assert not result.dropped
        assert all(taken.previous_status == "queued" for taken in result.jobs)
        self.held += [taken.execution for taken in result.jobs]

    @rule(data=st.data(), well=st.booleans(), twice=st.booleans())
    def finish(self, data: st.DataObject, well: bool, twice: bool) -> None:
        if not self.held:
            return
        execution = data.draw(st.sampled_from(self.held))
        before = self._status(execution.job_id)
        answers = [self._finish(execution, well=well) for _ in range(1 + twice)]
        assert answers[0] == (1 if before == "started" else 0)
        assert answers[1:] in ([], [2], [0])
        self.held.remove(execution)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A worker dies, so its lease expires."""
        if self.held:
            execution = data.draw(st.sampled_from(self.held))
            self.valkey.hset(f"rq:execution:{execution.job_id}:{execution.execution_id}", "lease_until", 0)
            self.held.remove(execution)
            self.late.append(execution)

    @rule(data=st.data())
    def write_late(self, data: st.DataObject) -> None:
        """A late worker writes an outcome: allowed until another worker has taken over the job, then never."""
        if self.late:
            execution = data.draw(st.sampled_from(self.late))
            pair = f"{execution.job_id}:{execution.execution_id}"
            held = self.valkey.zscore(f"rq:wip:{QUEUE}", pair) is not None
            assert bool(self._finish(execution, well=True)) is held
            assert not self.transitions[0].hand_back(execution)
            assert not self.transitions[0].save_call(execution, "meta", b"").run(self.valkey)
            self.late.remove(execution)

    @rule(worker=st.integers(0, 1))
    def reap(self, worker: int) -> None:
        self.transitions[worker].recover_expired(QUEUE)

    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        if self.held:
            execution = data.draw(st.sampled_from(self.held))
            self.held.remove(execution)
            assert self.transitions[0].hand_back(execution) == (self._status(execution.job_id) == "queued")

    @rule()
    def beat(self) -> None:
        beat = self.transitions[0].heartbeat(self.held)
        lost = beat.lost
        assert beat.cancelled == [execution for execution in self.held if self._is_marked(execution.job_id)]
        assert all(self._status(execution.job_id) != "started" for execution in lost)
        self.held = [execution for execution in self.held if execution not in lost]

    @rule(job_id=submitted)
    def poll(self, job_id: str) -> None:
        try:
            view = self.loop.run_until_complete(self.queue.fetch(job_id))
        except JobNotFound:
            assert job_id in self.expired
            return
        expected = {"canceled": "cancelled", "stopped": "cancelled"}
        stored = self._status(job_id)
        assert view.status is JobStatus(expected.get(stored, stored))
        assert (view.position is not None) == (stored == "queued")

    @rule(job_id=submitted)
    def cancel(self, job_id: str) -> None:
        if self._status(job_id) in {"queued", "started"}:
            Job.fetch(job_id, connection=self.valkey, serializer=PlainSerializer).cancel()

    @rule(job_id=submitted)
    def cancel_through_the_api(self, job_id: str) -> None:
        """A running job is marked, and the next worker to hold it ends it."""
        before = self._status(job_id) if job_id not in self.expired else ""
        self.loop.run_until_complete(cancel(self.queue.valkey, job_id, queue=QUEUE, ttl_seconds=600))
        assert not (before == "queued" and self._status(job_id) != "canceled")
        assert self._is_marked(job_id) == (before == "started")

    @rule(job_id=submitted)
    def retry(self, job_id: str) -> None:
        """A user requeues through RQ's registry, which also holds stopped jobs: the only way back for an ended job."""
        registry = FailedJobRegistry(queue=Queue(QUEUE, connection=self.valkey, serializer=PlainSerializer))
        if self._status(job_id) in {"failed", "stopped"}:
            registry.requeue(job_id)
            self.terminal.pop(job_id, None)
        elif job_id not in self.expired:
            with pytest.raises(InvalidJobOperation):
                registry.requeue(job_id)

    @rule(job_id=submitted)
    def expire(self, job_id: str) -> None:
        if job_id in self.terminal and self.terminal[job_id][0] != "canceled":
            self.valkey.delete(f"rq:job:{job_id}", f"rq:results:{job_id}")
            self.expired.add(job_id)
            self.terminal.pop(job_id)

    @invariant()
    def ended_jobs_stay_as_they_ended(self) -> None:
        for job_id in self.jobs - self.expired:
            stored = self._status(job_id)
            result = self.valkey.xrevrange(f"rq:results:{job_id}", count=1)
            if job_id in self.terminal:
                assert self.terminal[job_id] == (stored, result)
            elif stored in TERMINAL:
                self.terminal[job_id] = (stored, result)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        listed = [_text(value) for value in self.valkey.lrange(f"rq:queue:{QUEUE}", 0, -1)]
        held = [_text(value).partition(":")[0] for value in self.valkey.zrange(f"rq:wip:{QUEUE}", 0, -1)]
        assert len(set(listed + held)) == len(listed + held)
        for job_id in self.jobs - self.expired:
            stored = self._status(job_id)
            assert (job_id in listed) == (stored == "queued")
            assert (job_id in held) == (stored == "started")
            in_registry = {"finished": "finished", "failed": "failed", "stopped": "failed", "canceled": "canceled"}
            assert stored in {"started", "canceled"} or not self.valkey.hexists(f"rq:job:{job_id}", "cancel")
            if stored in TERMINAL:
                assert self.valkey.zscore(f"rq:{in_registry[stored]}:{QUEUE}", job_id) is not None

    def _finish(self, execution: ExecutionRef, *, well: bool) -> int:
        ending = (
            JobOutcome("finished", encode_result({"text": execution.execution_id}), 600)
            if well
            else JobOutcome("failed", encode_exception(execution.execution_id), 600)
        )
        return int(self.transitions[0].finish_call(execution, ending).run(self.valkey))

    def _is_marked(self, job_id: str) -> bool:
        return self._status(job_id) == "started" and bool(self.valkey.hexists(f"rq:job:{job_id}", "cancel"))

    def _status(self, job_id: str) -> str:
        return _text(self.valkey.hget(f"rq:job:{job_id}", "status") or b"")


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()


@pytest.fixture
def machine(valkey_url: str, valkey: Redis) -> type[JobStates]:
    return type("Machine", (JobStates,), {"url": valkey_url, "admin": valkey})


def test_ended_jobs_never_change_and_other_jobs_are_in_one_place(machine: type[JobStates]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_the_third_dead_worker_makes_a_dead_letter(valkey: Redis) -> None:
    transitions = JobTransitions(valkey, "one")
    job = Queue(QUEUE, connection=valkey, serializer=PlainSerializer).enqueue("tests.support.jobs.nothing")
    for attempt in range(1, MAX_DEATHS + 1):
        (taken,) = transitions.take(QUEUE, [f"execution-{attempt}"]).jobs
        valkey.hset(f"rq:execution:{taken.execution.job_id}:{taken.execution.execution_id}", "lease_until", 0)
        assert transitions.recover_expired(QUEUE) == [(job.id, "dead" if attempt == MAX_DEATHS else "requeued")]
    assert FailedJobRegistry(QUEUE, connection=valkey).get_job_ids() == [job.id]
    assert 0 < valkey.ttl(job.key) <= 86_400


def test_jobs_taken_by_a_call_whose_reply_was_lost_are_handed_back(valkey: Redis) -> None:
    transitions = JobTransitions(valkey, "one")
    queue = Queue(QUEUE, connection=valkey, serializer=PlainSerializer)
    jobs = [queue.enqueue("tests.support.jobs.nothing") for _ in range(3)]
    transitions.take(QUEUE, ["lost-1", "lost-2"])  # the reply is lost
    assert queue.get_job_ids() == [jobs[2].id]
    assert transitions.hand_back_unconfirmed(QUEUE, {"lost-1", "lost-2", "never-taken"}) == 2
    assert set(queue.get_job_ids()) == {job.id for job in jobs}
    assert not valkey.hexists(jobs[0].key, "deaths")
