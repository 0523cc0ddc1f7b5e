"""Jobs that wait for others: in order whatever comes at once, and released however what they wait for ends."""

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
    MAX_ATTEMPTS,
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


class World:
    """The queue of questions, and a worker's hands on it."""

    def __init__(self, url: str, valkey: Redis) -> None:
        self.valkey = valkey
        self.loop = asyncio.new_event_loop()
        self.queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
        self.ledger = JobTransitions(Redis.from_url(url), "one")

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.queue.close())
        self.loop.close()
        self.ledger.valkey.close()

    def submit(self, *after: str, turn: str | None = None) -> str:
        return self.run(self.queue.submit("chat", {"query": "why?"}, after=after, conversation_id=turn)).job_id

    def turns(self, count: int) -> list[str]:
        return [self.submit(turn="c") for _ in range(count)]

    def cancel(self, job_id: str) -> None:
        assert self.run(self.queue.cancel(job_id)).status == "cancelled"

    def take(self) -> ExecutionRef:
        (taken,) = self.ledger.take(QUEUE, [f"{self.valkey.incr('tests:n')}"]).jobs
        return taken.holder

    def finish(self, holder: ExecutionRef) -> int:
        ending = JobOutcome("finished", encode_result({"text": "yes"}), 600)
        answer = self.ledger.finish_all([(holder, ending)])[0]
        assert isinstance(answer, int)
        return answer

    def status(self, job_id: str) -> str:
        return (cast("bytes | None", self.valkey.hget(f"rq:job:{job_id}", "status")) or b"").decode()

    def waiting(self) -> list[str]:
        return [job_id.decode() for job_id in cast("list[bytes]", self.valkey.lrange(f"rq:queue:{QUEUE}", 0, -1))]


@pytest.fixture
def world(valkey_url: str, valkey: Redis) -> Iterator[World]:
    made = World(valkey_url, valkey)
    yield made
    made.close()


def test_turns_that_come_at_the_same_moment_run_one_at_a_time(api: httpx.Client, world: World) -> None:
    async def at_once(turn: str) -> set[str]:
        async with httpx.AsyncClient(base_url=api.base_url, timeout=20) as client:
            body = {"query": "why?", "conversation_id": turn}
            answers = await asyncio.gather(*(client.post("/chat", json=body) for _ in range(6)))
        return {answer.json()["job_id"] for answer in answers}

    for number in range(15):
        left = world.run(at_once(f"c-{number}"))
        assert len(left) == 6
        while left:
            (job_id,) = world.waiting()
            world.finish(world.take())
            left.remove(job_id)
        assert world.waiting() == []


def test_what_waits_for_another_has_no_position_yet(api: httpx.Client, world: World) -> None:
    first, second = world.turns(2)
    states = [api.get(f"/job-status/{job_id}").json() for job_id in (first, second)]
    assert [state["status"] for state in states] == ["queued"] * 2
    assert [state.get("position") for state in states] == [1, None]
    world.finish(world.take())
    assert api.get(f"/job-status/{second}").json()["position"] == 1


def test_a_turn_that_is_cancelled_lets_none_overtake(world: World) -> None:
    first, *cancelled, last = world.turns(5)
    holder = world.take()
    for job_id in (cancelled[1], cancelled[0], cancelled[2]):
        world.cancel(job_id)
    assert world.run(world.queue.release_stranded(waiting_seconds=-5)) == 0
    assert (world.status(first), world.status(last)) == ("started", "deferred")
    world.finish(holder)
    assert world.waiting() == [last]
    assert not world.valkey.keys("rq:job:*depende*")


@pytest.mark.parametrize("many", [1, 3, MAX_CONVERSATION_JOBS + 1])
def test_a_turn_that_comes_after_one_was_cancelled_lets_none_overtake(many: int, world: World) -> None:
    world.submit(turn="c")
    holder = world.take()
    for _ in range(many):
        world.cancel(world.submit(turn="c"))
    last = world.submit(turn="c")
    assert world.status(last) == "deferred"
    world.finish(holder)
    assert world.waiting() == [last]
    assert not world.valkey.keys("rq:job:*depende*")


@pytest.mark.parametrize("many", [1, 2])
def test_a_turn_that_rq_itself_cancels_lets_none_overtake(many: int, world: World) -> None:
    """It leaves the turns as they are: the next waits for one that will never run."""
    _, *cancelled, last = world.turns(2 + many)
    holder = world.take()
    for job_id in cancelled:
        Job.fetch(job_id, connection=world.valkey).cancel()
    assert world.run(world.queue.release_stranded(waiting_seconds=-5)) == 0
    assert world.status(last) == "deferred"
    world.finish(holder)
    world.run(world.queue.release_stranded(waiting_seconds=-5))
    assert world.waiting() == [last]


def test_turns_that_wait_for_each_other_are_asked_once(world: World) -> None:
    first, second, third = world.turns(3)
    for job_id in (first, second):
        world.valkey.hset(f"rq:job:{job_id}", "status", "canceled")
        world.valkey.sadd(f"rq:job::{job_id}:dependencies", first, second)
    assert world.run(world.queue.release_stranded(waiting_seconds=-5)) == 1
    assert world.status(third) == "queued"


def test_what_waited_for_a_cancelled_question_waits_for_its_upload(world: World) -> None:
    other = world.submit()
    first = world.run(world.queue.submit("chat", {"query": "a"}, after=[other], conversation_id="c")).job_id
    second, third = world.turns(2)
    world.cancel(first)
    assert world.status(second) == "deferred"
    world.finish(world.take())
    assert world.waiting() == [second]
    world.cancel(second)  # which waits for nothing
    assert world.waiting() == [third]


def test_what_is_cancelled_is_forgotten_with_its_events(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    api.delete(f"/jobs/{job_id}")
    assert 0 < valkey.ttl(f"rq:job:{job_id}") <= 86_400
    assert 0 < valkey.ttl(f"rag:events:{job_id}") <= 86_400


def test_an_end_whose_answer_was_lost_has_released_what_waited(world: World) -> None:
    _, second = world.turns(2)
    holder = world.take()
    assert world.finish(holder) == 1
    assert world.waiting() == [second]
    assert world.finish(holder) == 2


def test_what_waited_for_a_dead_letter_is_released(world: World) -> None:
    first, second = world.turns(2)
    for _ in range(MAX_ATTEMPTS):
        assert world.status(second) == "deferred"
        holder = world.take()
        world.valkey.hset(f"rq:execution:{holder.job_id}:{holder.execution_id}", "lease_until", 0)
        world.ledger.recover_expired(QUEUE)
    assert world.status(first) == "failed"
    assert world.waiting() == [second]


def test_what_waited_for_a_quarantined_job_is_released(world: World, settings: Settings) -> None:
    first, second = world.turns(2)
    world.valkey.hset(f"rq:job:{first}", "data", b"nonsense")
    with working(settings, kind=RagWorker):
        wait_until(lambda: world.status(second) != "deferred", seconds=5)
    assert world.status(first) == "failed"


def test_what_a_stock_worker_leaves_when_it_stops_a_job_is_released_by_who_cancels(world: World) -> None:
    first, second = world.turns(2)
    world.valkey.lpop(f"rq:queue:{QUEUE}")
    world.valkey.hset(f"rq:job:{first}", mapping={"status": "started", "worker_name": "stock"})

    async def cancelled() -> None:
        call = asyncio.create_task(world.queue.cancel(first))
        await asyncio.sleep(0.1)
        world.valkey.hset(f"rq:job:{first}", "status", "stopped")
        world.valkey.publish("rag:wake", first)
        await call

    world.run(cancelled())
    assert world.waiting() == [second]


def test_one_that_waits_for_nothing_is_found_behind_many_that_wait_for_something(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rq_client, "STRANDED_PAGE", 3)
    monkeypatch.setattr(rq_client, "MAX_STRANDED_PAGES", 2)
    open_one, ended = world.submit(), world.submit()
    for _ in range(10):
        world.submit(open_one)
    stranded = [world.submit(ended) for _ in range(2)]
    # As a worker that knows nothing of those who wait leaves it.
    world.valkey.zadd(f"rq:deferred:{QUEUE}", dict.fromkeys(stranded, world.valkey.time()[0] + 1))
    world.valkey.lrem(f"rq:queue:{QUEUE}", 1, ended)
    world.valkey.hset(f"rq:job:{ended}", "status", "failed")
    assert [world.run(world.queue.release_stranded(waiting_seconds=-5)) for _ in range(3)] == [0, 2, 0]
    assert set(world.waiting()) == {open_one, *stranded}


def test_a_failed_turn_lets_the_next_run(world: World) -> None:
    _, second = world.turns(2)
    assert world.ledger.finish_all([(world.take(), JobOutcome("failed", encode_exception("no"), 600))]) == [1]
    assert world.waiting() == [second]
