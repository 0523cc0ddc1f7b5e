"""Fair turns between owners on one queue, as a real Valkey keeps them, whoever takes the jobs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry
from uuid_utils.compat import uuid7

from client.rq import fair_queue
from client.rq import records as job_records
from client.rq.serializer import PlainSerializer
from client.rq.transitions import ExecutionRef, JobOutcome, JobTransitions, encode_exception
from client.rq_client import JobQueue
from schemas import Priority
from tests.conftest import MakeSettings
from tests.support import jobs
from tests.support.processes import wait_until
from webhooks.models import Delivery, EventType
from webhooks.store import WebhookStore

LIST = "rq:queue:rag_queries"
ORDER = "rag:turns:rag_queries"
RANKS = ("high", "normal", "low")
OWNERS = ("ann", "bob", "c:d/é %")
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
Result = TypeVar("Result")


class World:
    """A queue, who owns what on it, and what was taken."""

    def __init__(self, url: str, admin: Redis) -> None:
        self.url = url
        self.valkey = Redis.from_url(url)
        self.admin = admin
        self.loop = asyncio.new_event_loop()
        self.queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
        self.ledger = JobTransitions(self.valkey, "one")
        self.names: dict[str, tuple[str, str]] = {}  # owner and priority of each job, oldest first
        self.taken: list[str] = []
        self.held: list[ExecutionRef] = []
        self._numbers = itertools.count()

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.queue.close())
        self.loop.close()
        self.valkey.close()

    def submit(self, owner: str, priority: str = "normal", count: int = 1) -> list[str]:
        payloads = [{"query": "why?"}] * count
        jobs = self.run(self.queue.submit_many("chat", payloads, owner=owner, priority=Priority(priority)))
        self.names |= {job.job_id: (owner, priority) for job in jobs}
        return [job.job_id for job in jobs]

    def take(self, how: str) -> str | None:
        """Take the job at the head as RagWorker, or a stock worker, does."""
        if how == "ours":
            caught = self.ledger.take("rag_queries", [f"{next(self._numbers):032x}"]).jobs
            if not caught:
                return None
            self.held.append(caught[0].holder)
            job_id = caught[0].holder.job_id
        else:
            head = self.valkey.lpop(LIST)
            if head is None:
                return None
            assert isinstance(head, bytes)
            job_id = head.decode()
            self.valkey.hset(f"rq:job:{job_id}", "status", "started")
        self.taken.append(job_id)
        return job_id

    def waiting(self) -> list[str]:
        return [job_id.decode() for job_id in cast("list[bytes]", self.valkey.lrange(LIST, 0, -1))]

    def owners(self, job_ids: list[str]) -> str:
        """Return the first letter of each job's owner, large for `high`."""
        named = (self.names[job_id] for job_id in job_ids)
        return "".join(owner[0].upper() if priority == "high" else owner[0] for owner, priority in named)

    def queue_status(self, job_id: str) -> str:
        found = self.valkey.hget(f"rq:job:{job_id}", "status")
        assert isinstance(found, bytes)
        return found.decode()

    def check(self) -> None:
        """No job is lost or doubled; each owner's wait in order; the scores are in the order of the list."""
        waiting = self.waiting()
        assert len(set(waiting)) == len(waiting)
        waits = {job_id for job_id in self.names if self.valkey.hget(f"rq:job:{job_id}", "status") == b"queued"}
        assert set(waiting) == waits
        mine = defaultdict(list)
        for job_id in waiting:
            owner, priority = self.names[job_id]
            mine[owner].append((RANKS.index(priority), list(self.names).index(job_id)))
        for owner, places in mine.items():
            assert places == sorted(places), owner
        scores = [self.valkey.zscore(ORDER, job_id) for job_id in waiting]
        assert None not in scores
        assert scores == sorted(scores)  # type: ignore[type-var]
        assert len(set(scores)) == len(scores)


@pytest.fixture
def world(valkey_url: str, valkey: Redis) -> Iterator[World]:
    made = World(valkey_url, valkey)
    yield made
    made.close()


SUBMIT = st.tuples(
    st.just("submit"), st.sampled_from(OWNERS), st.sampled_from(["normal", "normal", "high", "low"]), st.integers(1, 6)
)
TAKE = st.tuples(st.just("take"), st.sampled_from(["ours", "stock"]))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 30))


def play(world: World, steps: list[Any], after_each: Any = None) -> None:
    for what, *details in steps:
        if what == "submit":
            world.submit(details[0], details[1], details[2])
        elif what == "take":
            world.take(details[0])
        elif waiting := world.waiting():
            world.run(world.queue.cancel(waiting[details[0] % len(waiting)]))
        world.check()
        if after_each is not None:
            after_each()


def test_no_job_is_lost_or_doubled_and_each_owners_jobs_keep_their_order(world: World) -> None:
    @QUICK
    @given(st.lists(st.one_of(SUBMIT, TAKE, CANCEL), max_size=25))
    def played(steps: list[Any]) -> None:
        fresh(world)
        play(world, steps)
        while world.take("stock"):
            pass
        cancelled = [j for j in world.names if world.valkey.hget(f"rq:job:{j}", "status") == b"canceled"]
        assert Counter(world.taken + cancelled) == Counter(dict.fromkeys(world.names, 1))

    played()


@pytest.mark.parametrize(("priorities", "most"), [(["normal", "low"], 2), (["normal", "high"], 4)])
def test_between_two_jobs_of_an_owner_every_other_gets_few_turns(
    priorities: list[str], most: int, world: World
) -> None:
    """A round has one turn of each owner and one more for `high`; between two turns lie parts of two rounds at most."""
    submit = st.tuples(st.just("submit"), st.sampled_from(OWNERS), st.sampled_from(priorities), st.integers(1, 6))

    @QUICK
    @given(st.lists(st.one_of(submit, TAKE), max_size=25))
    def played(steps: list[Any]) -> None:
        fresh(world)
        since = {owner: Counter[str]() for owner in OWNERS}  # turns of others while this owner's jobs wait

        def look() -> None:
            for job_id in world.taken[sum(seen) :]:
                seen.append(1)
                got = world.names[job_id][0]
                for owner, others in since.items():
                    if owner == got:
                        others.clear()
                    else:
                        others[got] += 1
            waiting = {world.names[job_id][0] for job_id in world.waiting()}
            for owner, others in since.items():
                if owner not in waiting:
                    others.clear()
                assert max(others.values(), default=0) <= most, (owner, world.owners(world.taken), steps)

        seen: list[int] = []
        play(world, steps, look)
        while world.take("stock"):
            look()

    played()


def test_who_comes_late_waits_for_no_flood(world: World) -> None:
    world.submit("ann", count=1_000)
    world.submit("bob", count=3)
    assert world.owners(world.waiting()[:8]) == "abababaa"
    for _ in range(100):
        world.take("ours")
    world.submit("bob", count=2)
    world.submit("c:d/é %")
    assert world.owners(world.waiting()[:7]) == "bcaabaa"


def test_a_flood_of_high_priority_starves_nobody(world: World) -> None:
    world.submit("ann", "high", count=50)
    world.submit("bob", count=3)
    world.submit("ann", count=2)
    assert world.owners(world.waiting()[:9]) == "AbAAbAAbA"
    world.submit("bob", "high")
    assert world.owners(world.waiting()[:6]) == "ABbAAb"
    assert world.owners(world.waiting()).endswith("Aaa")
    world.check()


def test_what_is_of_low_priority_lets_its_owners_other_jobs_pass_and_nobody_elses(world: World) -> None:
    low = world.submit("ann", "low", count=3)
    world.submit("bob", count=3)
    before = world.owners(world.waiting())
    normal = world.submit("ann", count=2)
    urgent = world.submit("ann", "high")
    world.check()
    assert [job_id for job_id in world.waiting() if world.names[job_id][0] == "ann"] == urgent + normal + low
    assert world.owners(world.waiting()).lower().startswith("a" + before)


def test_a_taken_job_does_not_confuse_the_order_of_an_owners_high_jobs(world: World) -> None:
    """A job that was taken from the list stays among its owner's until the next comes, with any score."""
    world.submit("a")
    world.submit("c")
    world.submit("c", count=2)
    world.take("ours")
    world.take("ours")
    world.submit("a")
    world.take("ours")
    world.submit("a", "high")
    high = world.submit("c", "high", count=3)
    world.check()
    assert [job_id for job_id in world.waiting() if job_id in high] == high


def test_low_priority_passes_few_where_very_many_wait(world: World) -> None:
    low = world.submit("ann", "low", count=fair_queue.MAX_MOVED + 100)
    normal = world.submit("ann", count=3)
    assert world.waiting() == normal + low[3:] + low[:3]


def test_what_is_of_low_priority_is_not_passed_for_ever(world: World) -> None:
    long_ago = str(uuid7(timestamp=int(time.time()) - fair_queue.LOW_SECONDS - 1))
    world.run(world.queue.submit("chat", {"query": "why?"}, owner="ann", priority=Priority.LOW, job_id=long_ago))
    low = world.submit("ann", "low", count=2)
    normal, urgent = world.submit("ann", count=2), world.submit("ann", "high", count=2)
    assert world.waiting() == [long_ago, *urgent, *normal, *low]


def test_what_is_cancelled_costs_its_owner_no_turn(world: World) -> None:
    world.submit("ann", count=20)
    for job_id in world.submit("bob", count=10):
        world.run(world.queue.cancel(job_id))
    world.submit("bob", count=2)
    assert world.owners(world.waiting()[:6]) == "aababa"
    world.check()


@pytest.mark.parametrize("at_front", [False, True])
def test_jobs_that_came_in_another_way_get_a_turn(at_front: bool, world: World) -> None:
    world.submit("ann", count=5)
    foreign = Queue("rag_queries", connection=world.valkey, serializer=PlainSerializer)
    strange = [foreign.enqueue("tests.support.jobs.nothing", at_front=at_front).id for _ in range(3)]
    world.names |= dict.fromkeys(strange, ("x", "normal"))
    world.submit("bob", count=2)
    order = world.owners(world.waiting())
    assert order == ("xxxababaaa" if at_front else "axbaxbaxaa")
    assert [job_id for job_id in world.waiting() if job_id in strange] == strange[:: -1 if at_front else 1]


def test_jobs_handed_back_or_retried_do_not_upset_the_order(world: World) -> None:
    world.submit("ann", count=6)
    world.submit("bob", count=2)
    for _ in range(3):
        world.take("ours")
    for holder in world.held:
        assert world.ledger.hand_back(holder)
    front = world.waiting()[:3]
    world.submit("c:d/é %", count=2)
    waiting = world.waiting()
    assert [job_id for job_id in waiting if job_id in front] == front
    assert sorted(waiting) == sorted(world.names)
    assert world.owners(waiting).index("c") <= 4  # what came back, and one job of each


def test_a_question_that_waited_for_another_takes_its_owners_turn(world: World) -> None:
    """Neither behind the flood nor, `high` or not, ahead of everybody: in its owner's turn."""
    first = world.submit("bob")[0]
    waits = [
        world.run(
            world.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first], priority=Priority(priority))
        ).job_id
        for priority in ("normal", "high")
    ]
    world.names |= {waits[0]: ("bob", "normal"), waits[1]: ("bob", "high")}
    assert [world.queue_status(job_id) for job_id in waits] == ["deferred"] * 2
    world.submit("ann", count=30)
    assert world.take("ours") == first
    Queue("rag_queries", connection=world.valkey, serializer=PlainSerializer).enqueue_dependents(  # as RQ does
        finished(world, first)
    )
    assert set(world.waiting()[-2:]) == set(waits)
    assert fair_queue.adopt(world.valkey, "rag_queries") == 2
    assert world.owners(world.waiting()).startswith("Baaba")
    world.check()


def test_what_rq_runs_again_does_not_expire_before_its_turn(world: World) -> None:
    failed = world.submit("bob")[0]
    world.submit("ann", count=3)
    assert world.take("ours") == failed
    (holder,) = world.held
    assert world.ledger.finish_all([(holder, JobOutcome("failed", encode_exception("it failed"), 60))]) == [1]
    queue = Queue("rag_queries", connection=world.valkey, serializer=PlainSerializer)
    short = queue.enqueue("tests.support.jobs.nothing", ttl=60)  # asked for, unlike the other
    FailedJobRegistry(queue=queue).requeue(failed)
    assert world.valkey.ttl(f"rq:job:{failed}") > 0
    assert fair_queue.adopt(world.valkey, "rag_queries") == 2
    assert world.valkey.ttl(f"rq:job:{failed}") == -1
    assert world.valkey.ttl(short.key) > 0


def test_stranded_questions_take_their_owners_turn(world: World) -> None:
    first = world.submit("bob")[0]
    late = world.run(world.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first])).job_id
    world.names[late] = ("bob", "normal")
    world.submit("ann", count=30)
    world.take("ours")
    world.valkey.hset(f"rq:job:{first}", "status", "finished")  # and its worker died
    assert world.run(world.queue.release_stranded(waiting_seconds=-5)) == 1
    assert world.waiting().index(late) <= 2


def test_a_question_after_one_that_has_ended_takes_its_turn_at_once(world: World) -> None:
    first = world.submit("bob")[0]
    world.take("stock")
    world.valkey.hset(f"rq:job:{first}", "status", "finished")
    world.submit("ann", count=30)
    late = world.run(world.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first])).job_id
    assert world.waiting().index(late) <= 2


def test_webhooks_take_turns_too(world: World) -> None:
    store = WebhookStore(world.valkey, keep_seconds=600)
    now = datetime.now(UTC)
    for owner, count in (("ann", 20), ("bob", 2)):
        for number in range(count):
            delivery = Delivery(
                delivery_id=f"{owner}{number}",
                owner=owner,
                endpoint_id="",
                url="https://example.com",
                message_id="m",
                job_id="j",
                type=EventType.FINISHED,
                created_at=now,
                next_attempt_at=now,
            )
            store.add_deliveries([delivery], now=now.timestamp())
    waiting = [job_id.decode() for job_id in cast("list[bytes]", world.valkey.lrange("rq:queue:rag_webhooks", 0, 5))]
    assert [job_id.split("-")[1][:3] for job_id in waiting] == ["ann", "bob", "ann", "bob", "ann", "ann"]


@pytest.mark.parametrize("stock", [False, True], ids=["RagWorker", "SimpleWorker"])
def test_every_kind_of_worker_keeps_to_the_turns(
    stock: bool, world: World, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time, so that the jobs begin in the order in which they end."""
    monkeypatch.setitem(job_records.FUNCTIONS, "chat", "tests.support.jobs.answer")
    world.submit("ann", count=12)
    world.submit("bob", count=3)
    world.submit("c:d/é %", "high", count=2)
    expected = world.waiting()
    assert world.owners(expected).startswith("CabCab")
    if stock:
        SimpleWorker(["rag_queries"], connection=world.valkey, serializer=PlainSerializer).work(burst=True)
    else:
        made = make_settings(valkey_url=world.url, worker_concurrency=1)
        jobs.Worker(["rag_queries"], connection=world.valkey, settings=made).work(burst=True)
    started = {job_id: world.valkey.hget(f"rq:job:{job_id}", "started_at") or b"" for job_id in expected}
    assert sorted(expected, key=lambda job_id: started[job_id]) == expected
    assert {world.queue_status(job_id) for job_id in expected} == {"finished"}


def test_a_ragworker_gives_released_questions_their_turn(
    world: World, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job_records.FUNCTIONS, "chat", "tests.support.jobs.answer")
    first = world.run(world.queue.submit("chat", {"wait": True}, owner="bob")).job_id
    late = world.run(world.queue.submit("chat", {}, owner="bob", after=[first])).job_id
    world.names |= dict.fromkeys([first, late], ("bob", "normal"))
    world.submit("ann", count=30)
    with jobs.working(make_settings(valkey_url=world.url, worker_concurrency=1)):
        wait_until(lambda: world.queue_status(first) == "started")
        jobs.release()
        wait_until(lambda: world.queue_status(late) == "finished" and not world.waiting())
    started = sorted(world.names, key=lambda job_id: world.valkey.hget(f"rq:job:{job_id}", "started_at") or b"")
    assert started.index(late) <= 5


def fresh(world: World) -> None:
    world.admin.flushall()
    world.names.clear()
    world.taken.clear()
    world.held.clear()


def finished(world: World, job_id: str) -> Job:
    world.valkey.hset(f"rq:job:{job_id}", "status", "finished")
    return Job.fetch(job_id, connection=world.valkey, serializer=PlainSerializer)
