"""Streams of the client package that are cut: by a proxy at any byte, and by the death of the API."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from ragq import AsyncClient, Client, Event, Failed, Finished, JobFailed, Started, Token
from tests.ragq.conftest import QUESTION, Served
from tests.support.cutting_proxy import CuttingProxy
from tests.support.processes import wait_until

LONG_ANSWER = " ".join(f"word{number}" for number in range(40)) + " takes three hours and twenty minutes [1]."
# Within the head of a response, within the first event, within a token, after many events.
CUTS = [1, 250, 330, 700, 1500]


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


def tokens(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


def test_the_answer_arrives_while_it_is_written(client: Client, served: Served) -> None:
    served.model.pause_seconds = 0.05
    stream = client.ask(QUESTION, stream=True, cache=False)
    written = []
    for event in stream:
        if isinstance(event, Token):
            assert stream.answer is None
            written.append(stream.text)
    assert len(written) > 1
    assert stream.answer is not None
    assert written[-1] == stream.answer.text == served.model.answer


def test_a_stream_that_is_cut_goes_on_without_a_lost_or_doubled_event(served: Served, proxy: CuttingProxy) -> None:
    served.model.answer, served.model.pause_seconds = LONG_ANSWER, 0.02
    with Client(proxy.url) as client:
        job_id = client.submit(QUESTION, cache=False)
        proxy.cuts.extend(CUTS)
        seen = list(client.watch(job_id))
        assert proxy.made == len(CUTS)
        assert seen == list(client.watch(job_id))
    assert tokens(seen) == LONG_ANSWER
    assert isinstance(seen[-1], Finished)


def test_so_does_an_asynchronous_one(served: Served, proxy: CuttingProxy) -> None:
    served.model.answer, served.model.pause_seconds = LONG_ANSWER, 0.02

    async def follow() -> tuple[list[Event], list[Event]]:
        async with AsyncClient(proxy.url) as client:
            job_id = await client.submit(QUESTION, cache=False)
            proxy.cuts.extend(CUTS)
            first = [event async for event in client.watch(job_id)]
            return first, [event async for event in client.watch(job_id)]

    seen, again = asyncio.run(follow())
    assert proxy.made == len(CUTS)
    assert seen == again
    assert tokens(seen) == LONG_ANSWER


def test_a_stream_outlives_the_api(client: Client, served: Served) -> None:
    served.model.answer, served.model.pause_seconds = LONG_ANSWER, 0.1
    stream = client.ask(QUESTION, stream=True, cache=False)
    seen = []
    for event in stream:
        seen.append(event)
        if len([one for one in seen if isinstance(one, Token)]) == 3:
            os.kill(served.service.children()["api"], signal.SIGKILL)
    assert tokens(seen) == LONG_ANSWER
    assert len(set(ids(seen))) == len(seen)
    assert seen == list(client.watch(stream.job_id))
    wait_until(served.service.ready, seconds=40)


def test_tokens_of_an_answer_that_begins_again_are_forgotten(client: Client, served: Served) -> None:
    served.model.break_next = 1
    stream = client.ask(QUESTION, stream=True, cache=False)
    seen = list(stream)
    assert len([event for event in seen if isinstance(event, Started)]) == 2
    assert tokens(seen) != served.model.answer
    assert stream.text == served.model.answer


def test_a_stream_goes_on_after_an_event_that_a_caller_kept(client: Client) -> None:
    stream = client.ask(QUESTION, stream=True, cache=False)
    seen = list(stream)
    assert list(client.watch(stream.job_id, last_event_id=seen[2].id)) == seen[3:]


def test_a_closed_stream_leaves_the_job_alone(client: Client, served: Served) -> None:
    served.model.pause_seconds = 0.1
    stream = client.ask(QUESTION, stream=True, cache=False)
    next(iter(stream))
    stream.close()
    assert client.result(stream.job_id).text == served.model.answer


def test_a_job_that_fails_raises_after_its_last_event(client: Client, served: Served) -> None:
    served.model.always_fail = 400
    events = iter(client.ask(QUESTION, stream=True, cache=False))
    failed = next(event for event in events if isinstance(event, Failed))
    with pytest.raises(JobFailed) as failure:
        next(events)
    assert (failure.value.status, failure.value.detail) == ("failed", failed.error)
