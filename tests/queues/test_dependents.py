"""Jobs that wait for other jobs: they keep their order, and are released however the other jobs end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

import httpx
import pytest
from redis import Redis
from rq.job import Job

from client import rq_client
from client.rq.submit import MAX_CONVERSATION_JOBS
from client.rq.transitions import (
    MAX_DEATHS,
    ExecutionRef,
    JobOutcome,
    JobTransitions,
    encode_exception,
    encode_result,
)
from client.rq_client import JobQueue
from queues.ragworker.worker import RagWorker
from settings import Settings
from tests.api.test_api import ask
from tests.support.jobs import working
from tests.support.processes import wait_until

QUEUE = "rag_queries"
Result = TypeVar("Result")


class Harness:
    """The queue of questions, and the steps of a worker."""

    def __init__(self, url: str, valkey: Redis) -> None:
        self.valkey = valkey
        self.loop = asyncio.new_event_loop()
        self.queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
        self.transitions = JobTransitions(Redis.from_url(url), "one")

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.queue.close())
        self.loop.close()
        self.transitions.valkey.close()

    def submit(self, *after: str, turn: str | None = None) -> str:
        return self.run(self.queue.submit("chat", {"query": "why?"}, after=after, conversation_id=turn)).job_id

    def turns(self, count: int) -> list[str]:
        return [self.submit(turn="c") for _ in range(count)]

    def cancel(self, job_id: str) -> None:
        assert self.run(self.queue.cancel(job_id)).status == "cancelled"

    def take(self) -> ExecutionRef:
        (taken,) = self.transitions.take(QUEUE, [f"{self.valkey.incr('tests:n')}"]).jobs
        return taken.execution

    def finish(self, execution: ExecutionRef) -> int:
        ending = JobOutcome("finished", encode_result({"text": "yes"}), 600)
        return int(self.transitions.finish_call(execution, ending).run(self.valkey))

    def status(self, job_id: str) -> str:
        return (cast("bytes | None", self.valkey.hget(f"rq:job:{job_id}", "status")) or b"").decode()

    def waiting(self) -> list[str]:
        return [job_id.decode() for job_id in cast("list[bytes]", self.valkey.lrange(f"rq:queue:{QUEUE}", 0, -1))]


@pytest.fixture
def harness(valkey_url: str, valkey: Redis) -> Iterator[Harness]:
    harness = Harness(valkey_url, valkey)
    yield harness
    harness.close()


def test_turns_of_a_conversation_submitted_at_once_run_one_at_a_time(api: httpx.Client, harness: Harness) -> None:
    async def at_once(turn: str) -> set[str]:
        async with httpx.AsyncClient(base_url=api.base_url, timeout=20) as client:
            body = {"query": "why?", "conversation_id": turn}
            answers = await asyncio.gather(*(client.post("/chat", json=body) for _ in range(6)))
        return {answer.json()["job_id"] for answer in answers}

    for number in range(15):
        unfinished = harness.run(at_once(f"c-{number}"))
        assert len(unfinished) == 6
        while unfinished:
            (job_id,) = harness.waiting()
            harness.finish(harness.take())
            unfinished.remove(job_id)
        assert harness.waiting() == []


def test_a_deferred_job_has_no_position(api: httpx.Client, harness: Harness) -> None:
    first, second = harness.turns(2)
    states = [api.get(f"/job-status/{job_id}").json() for job_id in (first, second)]
    assert [state["status"] for state in states] == ["queued"] * 2
    assert [state.get("position") for state in states] == [1, None]
    harness.finish(harness.take())
    assert api.get(f"/job-status/{second}").json()["position"] == 1


def test_cancelled_turns_let_no_later_turn_overtake(harness: Harness) -> None:
    first, *cancelled, last = harness.turns(5)
    execution = harness.take()
    for job_id in (cancelled[1], cancelled[0], cancelled[2]):
        harness.cancel(job_id)
    assert harness.run(harness.queue.release_stranded(waiting_seconds=-5)) == 0
    assert (harness.status(first), harness.status(last)) == ("started", "deferred")
    harness.finish(execution)
    assert harness.waiting() == [last]
    assert not harness.valkey.keys("rq:job:*depende*")


@pytest.mark.parametrize("many", [1, 3, MAX_CONVERSATION_JOBS + 1])
def test_a_turn_after_cancelled_ones_waits_for_the_turn_before_them(many: int, harness: Harness) -> None:
    harness.submit(turn="c")
    execution = harness.take()
    for _ in range(many):
        harness.cancel(harness.submit(turn="c"))
    last = harness.submit(turn="c")
    assert harness.status(last) == "deferred"
    harness.finish(execution)
    assert harness.waiting() == [last]
    assert not harness.valkey.keys("rq:job:*depende*")


@pytest.mark.parametrize("many", [1, 2])
def test_turns_that_rq_cancels_let_no_later_turn_overtake(many: int, harness: Harness) -> None:
    """RQ leaves the dependencies as they are: the next turn waits for a turn that will never run."""
    _, *cancelled, last = harness.turns(2 + many)
    execution = harness.take()
    for job_id in cancelled:
        Job.fetch(job_id, connection=harness.valkey).cancel()
    assert harness.run(harness.queue.release_stranded(waiting_seconds=-5)) == 0
    assert harness.status(last) == "deferred"
    harness.finish(execution)
    harness.run(harness.queue.release_stranded(waiting_seconds=-5))
    assert harness.waiting() == [last]


def test_a_circle_of_cancelled_turns_is_walked_once(harness: Harness) -> None:
    first, second, third = harness.turns(3)
    for job_id in (first, second):
        harness.valkey.hset(f"rq:job:{job_id}", "status", "canceled")
        harness.valkey.sadd(f"rq:job::{job_id}:dependencies", first, second)
    assert harness.run(harness.queue.release_stranded(waiting_seconds=-5)) == 1
    assert harness.status(third) == "queued"


def test_a_dependent_of_a_cancelled_question_waits_for_its_dependencies(harness: Harness) -> None:
    other = harness.submit()
    first = harness.run(harness.queue.submit("chat", {"query": "a"}, after=[other], conversation_id="c")).job_id
    second, third = harness.turns(2)
    harness.cancel(first)
    assert harness.status(second) == "deferred"
    harness.finish(harness.take())
    assert harness.waiting() == [second]
    harness.cancel(second)  # it has no dependency left
    assert harness.waiting() == [third]


def test_a_cancelled_job_expires_with_its_events(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    api.delete(f"/jobs/{job_id}")
    assert 0 < valkey.ttl(f"rq:job:{job_id}") <= 86_400
    assert 0 < valkey.ttl(f"rag:events:{job_id}") <= 86_400


def test_an_end_whose_reply_was_lost_has_released_the_dependents(harness: Harness) -> None:
    _, second = harness.turns(2)
    execution = harness.take()
    assert harness.finish(execution) == 1
    assert harness.waiting() == [second]
    assert harness.finish(execution) == 2


def test_a_dead_letter_releases_its_dependents(harness: Harness) -> None:
    first, second = harness.turns(2)
    for _ in range(MAX_DEATHS):
        assert harness.status(second) == "deferred"
        execution = harness.take()
        harness.valkey.hset(f"rq:execution:{execution.job_id}:{execution.execution_id}", "lease_until", 0)
        harness.transitions.recover_expired(QUEUE)
    assert harness.status(first) == "failed"
    assert harness.waiting() == [second]


def test_a_quarantined_job_releases_its_dependents(harness: Harness, settings: Settings) -> None:
    first, second = harness.turns(2)
    harness.valkey.hset(f"rq:job:{first}", "data", b"nonsense")
    with working(settings, kind=RagWorker):
        wait_until(lambda: harness.status(second) != "deferred")
    assert harness.status(first) == "failed"


def test_cancelling_a_job_of_a_stock_worker_releases_its_dependents(harness: Harness) -> None:
    first, second = harness.turns(2)
    harness.valkey.lpop(f"rq:queue:{QUEUE}")
    harness.valkey.hset(f"rq:job:{first}", mapping={"status": "started", "worker_name": "stock"})

    async def cancelled() -> None:
        call = asyncio.create_task(harness.queue.cancel(first))
        await asyncio.sleep(0.1)
        harness.valkey.hset(f"rq:job:{first}", "status", "stopped")
        harness.valkey.publish("rag:wake", first)
        await call

    harness.run(cancelled())
    assert harness.waiting() == [second]


def test_stranded_jobs_are_found_behind_many_deferred_ones(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rq_client, "STRANDED_PAGE", 3)
    monkeypatch.setattr(rq_client, "MAX_STRANDED_PAGES", 2)
    unended, ended = harness.submit(), harness.submit()
    for _ in range(10):
        harness.submit(unended)
    stranded = [harness.submit(ended) for _ in range(2)]
    # As a worker leaves them that does not know of dependents.
    harness.valkey.zadd(f"rq:deferred:{QUEUE}", dict.fromkeys(stranded, harness.valkey.time()[0] + 1))
    harness.valkey.lrem(f"rq:queue:{QUEUE}", 1, ended)
    harness.valkey.hset(f"rq:job:{ended}", "status", "failed")
    assert [harness.run(harness.queue.release_stranded(waiting_seconds=-5)) for _ in range(3)] == [0, 2, 0]
    assert set(harness.waiting()) == {unended, *stranded}


def test_a_failed_turn_releases_the_next(harness: Harness) -> None:
    _, second = harness.turns(2)
    failed = JobOutcome("failed", encode_exception("no"), 600)
    assert harness.transitions.finish_call(harness.take(), failed).run(harness.valkey) == 1
    assert harness.waiting() == [second]
