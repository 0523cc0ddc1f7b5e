"""Watching a job: events, waiting, cancelling."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job

from client.rq.event_writer import EventWriter
from client.valkey import keys
from server import create_app
from settings import Settings
from tests.api.test_api import ask, assert_problem
from tests.queues.test_chat import index, variables, workers
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, RQ, free_port, running, wait_until

# 64 of the pool, one that listens, and those of a test.
FEW_CONNECTIONS = 70

Seen = list[tuple[str, str, Any]]


def read(api: httpx.Client, job_id: str, *, after: str | None = None, most: int | None = None) -> Seen:
    """Read a job's events as (id, type, data), to the end or `most` of them."""
    headers = {"Last-Event-ID": after} if after else {}
    seen: Seen = []
    with api.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=30) as response:
        if response.status_code == 204:
            return seen
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
                continue
            if "data" in event:
                seen.append((event["id"], event["event"], json.loads(event["data"])))
            event = {}
            if most is not None and len(seen) >= most:
                break
    return seen


def start(valkey: Redis, job_id: str) -> EventWriter:
    """Take a job as a worker does, and begin its events."""
    valkey.lrem("rq:queue:rag_queries", 0, job_id)
    valkey.hset(f"rq:job:{job_id}", mapping={"status": "started", "worker_name": "w"})
    return EventWriter(valkey, job_id, result_ttl_seconds=60)


def finish(valkey: Redis, job_id: str, writer: EventWriter) -> None:
    """End a job as a stock worker does: the function returns, and a moment later the end is written."""
    writer.close()
    time.sleep(0.05)
    job = Job.fetch(job_id, connection=valkey)
    job._result = {"text": "Because.", "sources": [], "answered": True}
    with valkey.pipeline() as pipeline:
        job._handle_success(60, pipeline)
        pipeline.execute()


@contextmanager
def in_background(work: Any, *arguments: Any) -> Iterator[None]:
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()


def test_a_stream_resumed_at_any_event_is_complete(api: httpx.Client, settings: Settings, valkey: Redis) -> None:
    job_id = ask(api)
    writer = start(valkey, job_id)
    for number in range(5):
        writer.write("progress", {"stage": "indexing", "done": number, "total": 5})
    early = read(api, job_id, most=4)
    with in_background(finish, valkey, job_id, writer):
        whole = read(api, job_id)
    assert [kind for _, kind, _ in whole] == ["queued", *["progress"] * 5, "finished"]
    assert whole[-1][2]["result"] == "Because."
    assert early == whole[:4]
    with serving(create_app(settings)) as url, httpx.Client(base_url=url) as second:
        for client in (api, second):
            for place in range(1, len(whole) + 1):
                head = whole[:place]
                assert head + read(client, job_id, after=head[-1][0]) == whole
            assert read(client, job_id) == whole


def test_events_are_streamed_as_they_happen(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    arrived: list[str] = []

    def work() -> None:
        writer = start(valkey, job_id)
        for number in range(3):
            writer.write("progress", {"n": number})
            wait_until(lambda: len(arrived) > number)  # noqa: B023  before the next is written
        finish(valkey, job_id, writer)

    with in_background(work), api.stream("GET", f"/jobs/{job_id}/events", timeout=30) as response:
        for line in response.iter_lines():
            if line.startswith("event: progress"):
                arrived.append(line)  # noqa: PERF401  one by one, for the thread that writes
    assert len(arrived) == 3


def test_a_second_attempt_starts_the_answer_again_and_the_first_sends_no_more(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    first = start(valkey, job_id)
    first.start()
    assert first.write("token", {"text": "half an ans"})
    second = start(valkey, job_id)
    second.start()
    assert not first.write("token", {"text": "wer"})
    assert second.write("token", {"text": "whole"})
    finish(valkey, job_id, second)
    assert not second.write("token", {"text": "late"})
    assert [(kind, data) for _, kind, data in read(api, job_id)][:-1] == [
        ("queued", {"position": 1}),
        ("started", {"attempt": 1}),
        ("token", {"text": "half an ans"}),
        ("started", {"attempt": 2}),
        ("token", {"text": "whole"}),
    ]


def test_events_are_kept_as_long_as_the_result(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    writer = start(valkey, job_id)
    writer.write("token", {"text": "a"})
    finish(valkey, job_id, writer)
    assert 0 < int(valkey.ttl(keys.events(job_id))) <= 60


def test_streams_of_unknown_jobs_and_events(api: httpx.Client) -> None:
    assert_problem(api.get("/jobs/nonsense/events"), 404)
    job_id = ask(api)
    for invalid_id in ("garbage", f"{10**20 - 1}-0", f"{2**64}-0", f"0-{2**64}", f"{2**64 - 1}-{2**64 - 1}"):
        assert_problem(api.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": invalid_id}), 422)
    api.delete(f"/jobs/{job_id}")
    assert [kind for _, kind, _ in read(api, job_id, after=f"{2**64 - 1}-{2**64 - 2}")] == ["cancelled"]
    assert api.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "end"}).status_code == 204


@pytest.mark.parametrize(
    "command", [[RQ, "worker", "rag_queries"], [PYTHON, "main.py", "worker"]], ids=["rq worker", "main.py worker"]
)
def test_a_real_job_streams_its_events_from_start_to_end(
    command: list[str], api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, settings)
    job_id = ask(api, "When was the lighthouse built?")
    with running(command, tmp_path / "w.log", **variables(settings, RQ_REDIS_URL=settings.queue_url)):
        seen = read(api, job_id)
    assert [kind for _, kind, _ in seen][:3] == ["queued", "started", "progress"]
    assert seen[-1][1] == "finished"
    assert "1887" in seen[-1][2]["result"]
    assert seen[-1][2] == api.get(f"/result/{job_id}").json()


def test_a_result_can_be_waited_for(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)

    def work() -> None:
        time.sleep(0.2)
        finish(valkey, job_id, start(valkey, job_id))

    with in_background(work):
        result = api.get(f"/result/{job_id}", params={"wait": 20}, timeout=30)
    assert result.status_code == 200
    assert result.json()["result"] == "Because."


def test_waiting_ends_when_the_time_is_up(api: httpx.Client) -> None:
    job_id = ask(api)
    assert api.get(f"/result/{job_id}", params={"wait": 0.2}).status_code == 202
    assert api.get(f"/job-status/{job_id}", params={"wait": 0.2}).json()["status"] == "queued"
    assert_problem(api.get(f"/result/{job_id}", params={"wait": 3600}), 422)
    assert_problem(api.get(f"/result/{job_id}", params={"wait": "nan"}), 422)


def test_a_status_can_be_waited_for_until_it_changes(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)

    def work() -> None:
        time.sleep(0.2)
        writer = start(valkey, job_id)
        writer.start()

    with in_background(work):
        state = api.get(f"/job-status/{job_id}", params={"wait": 20}, timeout=30).json()
    assert state["status"] == "started"


async def wait_for_result(client: httpx.AsyncClient, job_id: str) -> int:
    """Return the status of a result. Waits again after a 503, as a busy server asks clients to do."""
    while True:
        answer = await client.get(f"/result/{job_id}", params={"wait": 20})
        if answer.status_code != 503:
            return answer.status_code
        await asyncio.sleep(float(answer.headers["Retry-After"]))


def test_many_watchers_share_few_connections(api: httpx.Client, valkey: Redis) -> None:
    job_ids = [ask(api) for _ in range(40)]

    async def watch() -> int:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.base_url, limits=limits, timeout=30) as client:
            tasks = [asyncio.create_task(wait_for_result(client, job_id)) for job_id in job_ids for _ in range(5)]
            before = await asyncio.to_thread(_count_until_settled, valkey)
            for job_id in job_ids:
                await asyncio.to_thread(finish, valkey, job_id, start(valkey, job_id))
            assert await asyncio.gather(*tasks) == [200] * len(tasks)
        return before

    assert asyncio.run(watch()) <= FEW_CONNECTIONS


def _count_until_settled(valkey: Redis) -> int:
    wait_until(lambda: valkey.pubsub_numsub("rag:wake")[0][1] == 1)
    time.sleep(0.5)
    with suppress(AssertionError):  # connections of earlier requests may still be closing
        wait_until(lambda: len(valkey.client_list()) <= FEW_CONNECTIONS, seconds=10)
    return len(valkey.client_list())


def test_a_waiting_job_that_is_cancelled_never_runs(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    state = api.delete(f"/jobs/{job_id}").json()
    assert state["status"] == "cancelled"
    assert api.delete(f"/jobs/{job_id}").json() == state
    worker = SimpleWorker([Queue("rag_queries", connection=valkey)], connection=valkey)
    assert not worker.work(burst=True)
    assert api.get(f"/job-status/{job_id}").json() == state
    assert [kind for _, kind, _ in read(api, job_id)] == ["queued", "cancelled"]


def test_cancelling_an_ended_or_unknown_job(api: httpx.Client, valkey: Redis) -> None:
    job_id = ask(api)
    finish(valkey, job_id, start(valkey, job_id))
    assert api.delete(f"/jobs/{job_id}").json()["status"] == "finished"
    assert_problem(api.delete("/jobs/nonsense"), 404)


def test_a_watcher_sees_the_cancelled_event(api: httpx.Client) -> None:
    job_id = ask(api)

    def work() -> None:
        time.sleep(0.2)
        api.delete(f"/jobs/{job_id}")

    with in_background(work):
        assert [kind for _, kind, _ in read(api, job_id)] == ["queued", "cancelled"]


@pytest.mark.parametrize(
    "command",
    [
        [RQ, "worker", "rag_queries"],
        [RQ, "worker", "rag_queries", "--worker-class", "rq.worker.SimpleWorker"],
        [PYTHON, "main.py", "worker"],
    ],
    ids=["rq worker", "SimpleWorker", "main.py worker"],
)
def test_a_running_job_that_is_cancelled_stops(
    command: list[str], api: httpx.Client, settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "RQ_REDIS_URL": settings.queue_url}
    index(pdf, settings, **use)
    stub.behaviour.chat_delay_seconds = 90
    with running(command, tmp_path / "w.log", **variables(settings, **use)) as worker:
        wait_until(lambda: workers(api) == 1)
        job_id = ask(api, "When was the lighthouse built?")
        wait_until(lambda: stub.behaviour.chats, what=worker.output)
        state = api.delete(f"/jobs/{job_id}").json()
        assert state["status"] == "cancelled", worker.output
        stub.behaviour.chat_delay_seconds = 0
        again = ask(api, "When was the lighthouse built?")
        wait_until(lambda: api.get(f"/result/{again}").status_code == 200)
        assert api.get(f"/job-status/{job_id}").json()["status"] == "cancelled"


def test_an_answer_that_broke_off_is_streamed_again(
    api: httpx.Client, settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    use = variables(settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    index(pdf, settings, **use)
    stub.behaviour.break_next = breaks = 2
    answers = ["It was built before the war [1].", "In 1887, by Tamsin Vale [1]."]
    stub.behaviour.answer = lambda _: answers[0] if len(stub.behaviour.chats) <= breaks else answers[1]
    job_id = ask(api, "When was the lighthouse built?")
    with running([PYTHON, "main.py", "worker"], tmp_path / "w.log", **use):
        seen = read(api, job_id)
    assert [data for _, kind, data in seen if kind == "started"] == [{"attempt": 1}] * (1 + breaks)
    last = max(place for place, event in enumerate(seen) if event[1] == "started")
    before, after = (
        "".join(data["text"] for _, kind, data in part if kind == "token") for part in (seen[:last], seen[last:])
    )
    assert before == "It was built" * breaks  # a space comes with the word after it
    assert after == answers[1]
    assert "1887" in seen[-1][2]["result"]


def test_sigterm_ends_streams_and_waits_of_the_api(
    api: httpx.Client, settings: Settings, valkey: Redis, tmp_path: Path
) -> None:
    job_id = ask(api)
    use = variables(settings, PORT=str(free_port()))
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{use['PORT']}", timeout=40) as other,
        ThreadPoolExecutor(3) as pool,
    ):
        wait_until(lambda: answers(other), seconds=60, what=lambda: process.output)
        waits = [pool.submit(other.get, f"/{path}/{job_id}?wait=60") for path in ("result", "job-status")]
        stream = pool.submit(read, other, job_id)
        wait_until(lambda: valkey.pubsub_numsub("rag:wake")[0][1] == 1)
        time.sleep(1.0)  # all three requests are being held by then
        process.process.terminate()
        stopped_at = time.monotonic()
        seen = stream.result(20)
        result, state = (wait.result(20) for wait in waits)
        process.process.wait(20)
        assert time.monotonic() - stopped_at < 10
    assert [kind for _, kind, _ in seen] == ["queued"]  # and the end of the stream was no error
    assert (result.status_code, state.json()["status"]) == (202, "queued")
    api.delete(f"/jobs/{job_id}")
    assert [kind for _, kind, _ in read(api, job_id, after=seen[-1][0])] == ["cancelled"]


def answers(api: httpx.Client) -> bool:
    try:
        return api.get("/").status_code == 200
    except httpx.TransportError:
        return False
