"""The fair order of a queue in a real Valkey, with every kind of worker."""

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


class Harness:
    """A queue, the owner and priority of each job, and the jobs that were taken."""

    def __init__(self, url: str, admin: Redis) -> None:
        self.url = url
        self.valkey = Redis.from_url(url)
        self.admin = admin
        self.loop = asyncio.new_event_loop()
        self.queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
        self.transitions = JobTransitions(self.valkey, "one")
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
        """Take the job at the head as RagWorker (`ours`) or a stock worker does; return its id."""
        if how == "ours":
            taken = self.transitions.take("rag_queries", [f"{next(self._numbers):032x}"]).jobs
            if not taken:
                return None
            self.held.append(taken[0].execution)
            job_id = taken[0].execution.job_id
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
        """Return the first letter of each job's owner, in upper case for `high`."""
        named = (self.names[job_id] for job_id in job_ids)
        return "".join(owner[0].upper() if priority == "high" else owner[0] for owner, priority in named)

    def queue_status(self, job_id: str) -> str:
        found = self.valkey.hget(f"rq:job:{job_id}", "status")
        assert isinstance(found, bytes)
        return found.decode()

    def check(self) -> None:
        """Check that no job is lost or doubled, each owner's jobs are in order, and the scores follow the list."""
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
def harness(valkey_url: str, valkey: Redis) -> Iterator[Harness]:
    harness = Harness(valkey_url, valkey)
    yield harness
    harness.close()


SUBMIT = st.tuples(
    st.just("submit"), st.sampled_from(OWNERS), st.sampled_from(["normal", "normal", "high", "low"]), st.integers(1, 6)
)
TAKE = st.tuples(st.just("take"), st.sampled_from(["ours", "stock"]))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 30))


def run_steps(harness: Harness, steps: list[Any], after_each: Any = None) -> None:
    for what, *details in steps:
        if what == "submit":
            harness.submit(details[0], details[1], details[2])
        elif what == "take":
            harness.take(details[0])
        elif waiting := harness.waiting():
            harness.run(harness.queue.cancel(waiting[details[0] % len(waiting)]))
        harness.check()
        if after_each is not None:
            after_each()


def test_no_job_is_lost_or_doubled_and_each_owners_jobs_keep_their_order(harness: Harness) -> None:
    @QUICK
    @given(st.lists(st.one_of(SUBMIT, TAKE, CANCEL), max_size=25))
    def run(steps: list[Any]) -> None:
        reset(harness)
        run_steps(harness, steps)
        while harness.take("stock"):
            pass
        cancelled = [j for j in harness.names if harness.valkey.hget(f"rq:job:{j}", "status") == b"canceled"]
        assert Counter(harness.taken + cancelled) == Counter(dict.fromkeys(harness.names, 1))

    run()


@pytest.mark.parametrize(("priorities", "max_slots"), [(["normal", "low"], 2), (["normal", "high"], 4)])
def test_between_two_jobs_of_an_owner_every_other_owner_gets_few_slots(
    priorities: list[str], max_slots: int, harness: Harness
) -> None:
    """A round has a slot of each owner, and one more for `high`. Between two slots lie parts of at most two rounds."""
    submit = st.tuples(st.just("submit"), st.sampled_from(OWNERS), st.sampled_from(priorities), st.integers(1, 6))

    @QUICK
    @given(st.lists(st.one_of(submit, TAKE), max_size=25))
    def run(steps: list[Any]) -> None:
        reset(harness)
        since = {owner: Counter[str]() for owner in OWNERS}  # jobs of others taken while this owner's jobs wait

        def count_taken() -> None:
            for job_id in harness.taken[sum(counted) :]:
                counted.append(1)
                taken_owner = harness.names[job_id][0]
                for owner, others in since.items():
                    if owner == taken_owner:
                        others.clear()
                    else:
                        others[taken_owner] += 1
            waiting = {harness.names[job_id][0] for job_id in harness.waiting()}
            for owner, others in since.items():
                if owner not in waiting:
                    others.clear()
                assert max(others.values(), default=0) <= max_slots, (owner, harness.owners(harness.taken), steps)

        counted: list[int] = []
        run_steps(harness, steps, count_taken)
        while harness.take("stock"):
            count_taken()

    run()


def test_a_late_owner_does_not_wait_for_a_flood(harness: Harness) -> None:
    harness.submit("ann", count=1_000)
    harness.submit("bob", count=3)
    assert harness.owners(harness.waiting()[:8]) == "abababaa"
    for _ in range(100):
        harness.take("ours")
    harness.submit("bob", count=2)
    harness.submit("c:d/é %")
    assert harness.owners(harness.waiting()[:7]) == "bcaabaa"


def test_a_flood_of_high_priority_starves_nobody(harness: Harness) -> None:
    harness.submit("ann", "high", count=50)
    harness.submit("bob", count=3)
    harness.submit("ann", count=2)
    assert harness.owners(harness.waiting()[:9]) == "AbAAbAAbA"
    harness.submit("bob", "high")
    assert harness.owners(harness.waiting()[:6]) == "ABbAAb"
    assert harness.owners(harness.waiting()).endswith("Aaa")
    harness.check()


def test_low_jobs_let_the_jobs_of_their_owner_pass_but_not_those_of_others(harness: Harness) -> None:
    low = harness.submit("ann", "low", count=3)
    harness.submit("bob", count=3)
    before = harness.owners(harness.waiting())
    normal = harness.submit("ann", count=2)
    urgent = harness.submit("ann", "high")
    harness.check()
    assert [job_id for job_id in harness.waiting() if harness.names[job_id][0] == "ann"] == urgent + normal + low
    assert harness.owners(harness.waiting()).lower().startswith("a" + before)


def test_a_taken_job_does_not_confuse_the_order_of_an_owners_high_jobs(harness: Harness) -> None:
    """A job that was taken from the list stays in its owner's set until the next job comes, with any score."""
    harness.submit("a")
    harness.submit("c")
    harness.submit("c", count=2)
    harness.take("ours")
    harness.take("ours")
    harness.submit("a")
    harness.take("ours")
    harness.submit("a", "high")
    high = harness.submit("c", "high", count=3)
    harness.check()
    assert [job_id for job_id in harness.waiting() if job_id in high] == high


def test_among_very_many_low_jobs_a_new_job_moves_only_one(harness: Harness) -> None:
    low = harness.submit("ann", "low", count=fair_queue.MAX_MOVED + 100)
    normal = harness.submit("ann", count=3)
    assert harness.waiting() == normal + low[3:] + low[:3]


def test_an_old_low_job_lets_no_job_pass(harness: Harness) -> None:
    long_ago = str(uuid7(timestamp=int(time.time()) - fair_queue.LOW_SECONDS - 1))
    harness.run(harness.queue.submit("chat", {"query": "why?"}, owner="ann", priority=Priority.LOW, job_id=long_ago))
    low = harness.submit("ann", "low", count=2)
    normal, urgent = harness.submit("ann", count=2), harness.submit("ann", "high", count=2)
    assert harness.waiting() == [long_ago, *urgent, *normal, *low]


def test_a_cancelled_job_costs_its_owner_no_slot(harness: Harness) -> None:
    harness.submit("ann", count=20)
    for job_id in harness.submit("bob", count=10):
        harness.run(harness.queue.cancel(job_id))
    harness.submit("bob", count=2)
    assert harness.owners(harness.waiting()[:6]) == "aababa"
    harness.check()


@pytest.mark.parametrize("at_front", [False, True])
def test_jobs_that_rq_itself_enqueued_get_a_slot(at_front: bool, harness: Harness) -> None:
    harness.submit("ann", count=5)
    foreign = Queue("rag_queries", connection=harness.valkey, serializer=PlainSerializer)
    strange = [foreign.enqueue("tests.support.jobs.nothing", at_front=at_front).id for _ in range(3)]
    harness.names |= dict.fromkeys(strange, ("x", "normal"))
    harness.submit("bob", count=2)
    order = harness.owners(harness.waiting())
    assert order == ("xxxababaaa" if at_front else "axbaxbaxaa")
    assert [job_id for job_id in harness.waiting() if job_id in strange] == strange[:: -1 if at_front else 1]


def test_jobs_handed_back_keep_the_front(harness: Harness) -> None:
    harness.submit("ann", count=6)
    harness.submit("bob", count=2)
    for _ in range(3):
        harness.take("ours")
    for execution in harness.held:
        assert harness.transitions.hand_back(execution)
    front = harness.waiting()[:3]
    harness.submit("c:d/é %", count=2)
    waiting = harness.waiting()
    assert [job_id for job_id in waiting if job_id in front] == front
    assert sorted(waiting) == sorted(harness.names)
    assert harness.owners(waiting).index("c") <= 4  # the jobs that came back, and one job of each owner


def test_a_released_question_gets_its_owners_slot(harness: Harness) -> None:
    """The question comes neither behind the flood nor ahead of everybody, whether `high` or not."""
    first = harness.submit("bob")[0]
    waits = [
        harness.run(
            harness.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first], priority=Priority(priority))
        ).job_id
        for priority in ("normal", "high")
    ]
    harness.names |= {waits[0]: ("bob", "normal"), waits[1]: ("bob", "high")}
    assert [harness.queue_status(job_id) for job_id in waits] == ["deferred"] * 2
    harness.submit("ann", count=30)
    assert harness.take("ours") == first
    Queue("rag_queries", connection=harness.valkey, serializer=PlainSerializer).enqueue_dependents(  # as RQ does
        finished(harness, first)
    )
    assert set(harness.waiting()[-2:]) == set(waits)
    assert fair_queue.adopt(harness.valkey, "rag_queries") == 2
    assert harness.owners(harness.waiting()).startswith("Baaba")
    harness.check()


def test_a_job_that_rq_runs_again_does_not_expire_before_its_slot(harness: Harness) -> None:
    failed = harness.submit("bob")[0]
    harness.submit("ann", count=3)
    assert harness.take("ours") == failed
    (execution,) = harness.held
    outcome = JobOutcome("failed", encode_exception("it failed"), 60)
    assert harness.transitions.finish_call(execution, outcome).run(harness.valkey) == 1
    queue = Queue("rag_queries", connection=harness.valkey, serializer=PlainSerializer)
    short = queue.enqueue("tests.support.jobs.nothing", ttl=60)  # this ttl was set by the submitter
    FailedJobRegistry(queue=queue).requeue(failed)
    assert harness.valkey.ttl(f"rq:job:{failed}") > 0
    assert fair_queue.adopt(harness.valkey, "rag_queries") == 2
    assert harness.valkey.ttl(f"rq:job:{failed}") == -1
    assert harness.valkey.ttl(short.key) > 0


def test_stranded_questions_get_their_owners_slot(harness: Harness) -> None:
    first = harness.submit("bob")[0]
    late = harness.run(harness.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first])).job_id
    harness.names[late] = ("bob", "normal")
    harness.submit("ann", count=30)
    harness.take("ours")
    harness.valkey.hset(f"rq:job:{first}", "status", "finished")  # its worker then died
    assert harness.run(harness.queue.release_stranded(waiting_seconds=-5)) == 1
    assert harness.waiting().index(late) <= 2


def test_a_question_whose_dependency_has_ended_gets_its_slot_at_once(harness: Harness) -> None:
    first = harness.submit("bob")[0]
    harness.take("stock")
    harness.valkey.hset(f"rq:job:{first}", "status", "finished")
    harness.submit("ann", count=30)
    late = harness.run(harness.queue.submit("chat", {"query": "why?"}, owner="bob", after=[first])).job_id
    assert harness.waiting().index(late) <= 2


def test_webhooks_are_in_fair_order_too(harness: Harness) -> None:
    store = WebhookStore(harness.valkey, ttl_seconds=600)
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
    waiting = [job_id.decode() for job_id in cast("list[bytes]", harness.valkey.lrange("rq:queue:rag_webhooks", 0, 5))]
    assert [job_id.split("-")[1][:3] for job_id in waiting] == ["ann", "bob", "ann", "bob", "ann", "ann"]


@pytest.mark.parametrize("stock", [False, True], ids=["RagWorker", "SimpleWorker"])
def test_every_kind_of_worker_keeps_to_the_order(
    stock: bool, harness: Harness, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs one job at a time, so that the times of start show the order."""
    monkeypatch.setitem(job_records.FUNCTIONS, "chat", "tests.support.jobs.answer")
    harness.submit("ann", count=12)
    harness.submit("bob", count=3)
    harness.submit("c:d/é %", "high", count=2)
    expected = harness.waiting()
    assert harness.owners(expected).startswith("CabCab")
    if stock:
        SimpleWorker(["rag_queries"], connection=harness.valkey, serializer=PlainSerializer).work(burst=True)
    else:
        made = make_settings(valkey_url=harness.url, worker_concurrency=1)
        jobs.Worker(["rag_queries"], connection=harness.valkey, settings=made).work(burst=True)
    started = {job_id: harness.valkey.hget(f"rq:job:{job_id}", "started_at") or b"" for job_id in expected}
    assert sorted(expected, key=lambda job_id: started[job_id]) == expected
    assert {harness.queue_status(job_id) for job_id in expected} == {"finished"}


def test_a_ragworker_gives_released_questions_their_slot(
    harness: Harness, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(job_records.FUNCTIONS, "chat", "tests.support.jobs.answer")
    first = harness.run(harness.queue.submit("chat", {"wait": True}, owner="bob")).job_id
    late = harness.run(harness.queue.submit("chat", {}, owner="bob", after=[first])).job_id
    harness.names |= dict.fromkeys([first, late], ("bob", "normal"))
    harness.submit("ann", count=30)
    with jobs.working(make_settings(valkey_url=harness.url, worker_concurrency=1)):
        wait_until(lambda: harness.queue_status(first) == "started")
        jobs.release()
        wait_until(lambda: harness.queue_status(late) == "finished" and not harness.waiting())
    started = sorted(harness.names, key=lambda job_id: harness.valkey.hget(f"rq:job:{job_id}", "started_at") or b"")
    assert started.index(late) <= 5


def reset(harness: Harness) -> None:
    harness.admin.flushall()
    harness.names.clear()
    harness.taken.clear()
    harness.held.clear()


def finished(harness: Harness, job_id: str) -> Job:
    harness.valkey.hset(f"rq:job:{job_id}", "status", "finished")
    return Job.fetch(job_id, connection=harness.valkey, serializer=PlainSerializer)
