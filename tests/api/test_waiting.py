"""The number of waiting jobs of a user, its limit, and keys that no two users share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq.job import Job

from client.rq.ids import new_id
from client.rq.serializer import PlainSerializer
from client.rq.transitions import JobTransitions
from client.rq_client import JobQueue
from client.valkey import keys
from client.valkey.keys import quoted
from errors import TooManyJobs
from schemas import Priority
from webhooks.store import WebhookStore

QUESTION = {"query": "why?"}
ODD = "a:b/%é\u2028 *[x]\\"


def with_queue(url: str, use: Callable[[JobQueue], Awaitable[None]]) -> None:
    async def run() -> None:
        queue = JobQueue(url, job_timeout_seconds=60, result_ttl_seconds=600)
        try:
            await use(queue)
        finally:
            await queue.close()

    asyncio.run(run())


@pytest.mark.parametrize("owner", ["ann", ODD])
def test_waiting_jobs_are_counted_until_they_start_or_are_cancelled(owner: str, valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        assert await queue.count_waiting(owner) == 0
        asked = await queue.submit_many("chat", [QUESTION] * 5, owner=owner)
        await queue.submit_many("chat", [QUESTION] * 3, owner="other")
        await queue.submit("document", {}, owner=owner)
        urgent = await queue.submit("chat", QUESTION, owner=owner, priority=Priority.HIGH)
        late = await queue.submit("chat", QUESTION, owner=owner, after=[asked[4].job_id])
        assert (await queue.count_waiting(owner), await queue.count_waiting("other")) == (8, 3)
        await queue.cancel(asked[2].job_id)
        await queue.cancel(late.job_id)
        assert await queue.count_waiting(owner) == 6
        (taken,) = JobTransitions(valkey, "one").take("rag_queries", ["execution"]).jobs
        assert taken.execution.job_id == urgent.job_id
        assert await queue.count_waiting(owner) == 5
        JobTransitions(valkey, "one").take("rag_queries", [f"more-{n}" for n in range(50)])
        assert (await queue.count_waiting(owner), await queue.count_waiting("other")) == (1, 0)

    with_queue(valkey_url, use)


def test_a_thousand_jobs_are_accepted_together_or_not_at_all(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        await queue.submit_many("chat", [QUESTION] * 1_000, owner="ann", max_waiting=1_500)
        before = set(valkey.keys("*"))
        with pytest.raises(TooManyJobs) as refused:
            await queue.submit_many("chat", [QUESTION] * 501, owner="ann", max_waiting=1_500)
        assert refused.value.status == 429
        assert (refused.value.retry_after_seconds or 0) > 0
        assert set(valkey.keys("*")) == before
        await queue.submit_many("chat", [QUESTION] * 500, owner="ann", max_waiting=1_500)
        with pytest.raises(TooManyJobs):
            await queue.submit("document", {}, owner="ann", max_waiting=1_500)
        await queue.submit("document", {}, owner="bob", max_waiting=1_500)
        assert await queue.count_waiting("ann") == 1_500

    with_queue(valkey_url, use)


def test_requests_at_the_same_time_do_not_get_past_the_limit(valkey_url: str) -> None:
    async def use(queue: JobQueue) -> None:
        calls = [queue.submit_many("chat", [QUESTION] * 7, owner="ann", max_waiting=50) for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, TooManyJobs)]
        assert (len(answers) - len(refused), await queue.count_waiting("ann")) == (7, 49)

    with_queue(valkey_url, use)


def test_a_repeated_request_does_not_count_towards_the_limit(valkey_url: str) -> None:
    async def use(queue: JobQueue) -> None:
        job_id = new_id()
        for _ in range(3):
            await queue.submit("chat", QUESTION, owner="ann", job_id=job_id, max_waiting=1)
        assert await queue.count_waiting("ann") == 1
        with pytest.raises(TooManyJobs):
            await queue.submit("chat", QUESTION, owner="ann", max_waiting=1)

    with_queue(valkey_url, use)


def test_reserved_slots_of_a_failed_request_expire(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        await queue.reserve_slots("ann", [new_id() for _ in range(9)], "chat", max_waiting=10)
        assert await queue.count_waiting("ann") == 9
        key = "rag:turns:rag_queries:of:ann"
        for job_id in cast("list[bytes]", valkey.zrange(key, 0, -1)):
            valkey.zincrby(key, -16, job_id.decode())
        assert await queue.count_waiting("ann") == 0

    with_queue(valkey_url, use)


def test_jobs_name_their_owner_and_stock_rq_reads_them(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        job = await queue.submit("chat", QUESTION, owner=ODD, priority=Priority.HIGH)
        assert valkey.hget(f"rq:job:{job.job_id}", "owner") == ODD.encode()
        assert Job.fetch(job.job_id, connection=valkey, serializer=PlainSerializer).args == (QUESTION,)

    with_queue(valkey_url, use)


def test_owners_without_waiting_jobs_are_forgotten(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        transitions = JobTransitions(valkey, "one")
        for number in range(300):
            await queue.submit("chat", QUESTION, owner=f"owner-{number}")
            await queue.submit("chat", QUESTION, owner="steady")
            transitions.take("rag_queries", [f"{number}-one"])
        assert valkey.zcard("rag:turns:rag_queries") <= 301
        transitions.take("rag_queries", [f"rest-{n}" for n in range(290)])
        await queue.submit("chat", QUESTION, owner="last")
        assert valkey.zcard("rag:turns:rag_queries") == valkey.llen("rq:queue:rag_queries")
        assert valkey.zcard("rag:turns:rag_queries:last") <= 15
        assert 0 < valkey.ttl("rag:turns:rag_queries:of:owner-1") <= 7 * 86_400

    with_queue(valkey_url, use)


def test_keys_of_another_type_lose_no_job(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        for key in ("rag:turns:rag_queries", "rag:turns:rag_queries:last", "rag:turns:rag_queries:of:ann"):
            valkey.set(key, "text")
        job = await queue.submit("chat", QUESTION, owner="ann", max_waiting=5)
        assert valkey.lrange("rq:queue:rag_queries", 0, -1) == [job.job_id.encode()]

    with_queue(valkey_url, use)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(NAMES, NAMES, NAMES, NAMES)
def test_two_owners_never_share_a_key(one: str, other: str, first: str, second: str) -> None:
    assert (keys.conversation_jobs(one, first) == keys.conversation_jobs(other, second)) == (
        (one, first) == (other, second)
    )
    for key in (keys.owner_jobs, keys.endpoints, keys.quoted):
        assert (key(one) == key(other)) == (one == other)
    assert ":" not in quoted(one)


def test_webhook_secrets_of_owners_with_colons_stay_apart(valkey: Redis) -> None:
    store = WebhookStore(valkey, ttl_seconds=60)
    assert store.default_secret("a:b") != store.default_secret("a%3Ab")
    assert valkey.exists("rag:webhook:secret:a%3Ab")


def test_scripts_write_names_as_python_does(valkey_url: str, valkey: Redis) -> None:
    async def use(queue: JobQueue) -> None:
        for owner in (ODD, "x" * 255, "\x00\n", "日本-_.~", "%41", "'\"`$(x)"):
            await queue.submit("chat", QUESTION, owner=owner)
            assert valkey.zcard(f"rag:turns:rag_queries:of:{quoted(owner)}") == 1, owner

    with_queue(valkey_url, use)
