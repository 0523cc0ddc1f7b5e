"""Jobs of ours under RQ's own workers: leases, cancellation, and outcomes that come too late."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.registry import CanceledJobRegistry, FailedJobRegistry, FinishedJobRegistry

import queues.jobs.answering
import queues.worker
from client.rq.event_writer import EventWriter
from client.rq.serializer import PlainSerializer
from client.rq.transitions import LEASE_SECONDS, ExecutionRef, JobOutcome, JobTransitions, encode_result
from client.valkey import keys
from queues.stock import StockJob
from schemas import Answer
from settings import Settings
from tests.api.test_api import ask
from tests.queues.test_chat import index, variables, workers
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import RQ, Running, descendants, running, wait_until
from tests.support.workers import work, worker_services

QUEUE = "rag_queries"
COMMANDS = {
    "rq worker": [RQ, "worker", QUEUE],
    "SimpleWorker": [RQ, "worker", QUEUE, "--worker-class", "rq.worker.SimpleWorker"],
}
THEIRS = {"text": "theirs", "sources": [], "answered": True}
Work = Callable[..., Answer]


def pair_of(valkey: Redis) -> str:
    (pair,) = valkey.zrange(f"rq:wip:{QUEUE}", 0, -1)
    assert isinstance(pair, bytes)
    return pair.decode()


def expire_lease(valkey: Redis) -> None:
    assert valkey.hset(f"rq:execution:{pair_of(valkey)}", "lease_until", 0) == 0, "there was no lease"


def take_over(valkey: Redis) -> ExecutionRef:
    """Take over the running job from its worker, as after a long stall."""
    other = JobTransitions(valkey, "other")
    expire_lease(valkey)
    assert [verdict for _, verdict in other.recover_expired(QUEUE)] == ["requeued"]
    (taken,) = other.take(QUEUE, ["theirs"]).jobs
    return taken.execution


def end_there(valkey: Redis, execution: ExecutionRef) -> None:
    ending = JobOutcome("finished", encode_result(THEIRS), 600)
    assert JobTransitions(valkey, "other").finish_call(execution, ending).run(valkey) == 1


def while_it_runs(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, fails: bool = False) -> None:
    """Call `act` while the next question runs, which then is answered or, with `fails`, fails."""

    async def answer(*_args: Any, **_keywords: Any) -> Answer:
        act()
        if fails:
            raise LookupError
        return Answer(text="ours", sources=[], answered=True)

    monkeypatch.setattr(queues.jobs.answering, "answer_in_context", answer)


def before_it_is_written(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call `act` between the last check of the lease and the writing of the outcome."""
    renew_lease, done = StockJob._renew_lease, list[bool]()

    def renew_and_act(self: StockJob) -> bool:
        held = renew_lease(self)
        if self._returned.is_set() and not done:
            done.append(True)
            act()
        return held

    monkeypatch.setattr(StockJob, "_renew_lease", renew_and_act)


@pytest.mark.parametrize("ends", [True, False], ids=["and ends it", "and has it"])
@pytest.mark.parametrize("fails", [False, True], ids=["finishes", "fails"])
@pytest.mark.parametrize("when", ["while it runs", "before it is written"])
def test_a_late_finisher_writes_nothing(
    when: str,
    *,
    fails: bool,
    ends: bool,
    valkey: Redis,
    settings: Settings,
    api: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = ask(api)
    key = f"rq:job:{job_id}"
    records: list[object] = []

    def lose_job() -> None:
        execution = take_over(valkey)
        if ends:
            end_there(valkey, execution)
        records.extend(
            [valkey.hgetall(key), valkey.xrange(f"rq:results:{job_id}"), valkey.zrange(f"rq:wip:{QUEUE}", 0, -1)]
        )

    early = when == "while it runs"
    while_it_runs(monkeypatch, lose_job if early else lambda: None, fails=fails)
    if not early:
        before_it_is_written(monkeypatch, lose_job)
    work(settings)
    found = valkey.hgetall(key)
    for record in (records[0], found):
        assert isinstance(record, dict)
        record.pop(b"last_heartbeat", None)
    assert records == [found, valkey.xrange(f"rq:results:{job_id}"), valkey.zrange(f"rq:wip:{QUEUE}", 0, -1)]
    assert FailedJobRegistry(QUEUE, connection=valkey).get_job_ids() == []
    assert FinishedJobRegistry(QUEUE, connection=valkey).get_job_ids() == ([job_id] if ends else [])
    assert api.get(f"/job-status/{job_id}").json()["status"] == ("finished" if ends else "started")
    monkeypatch.undo()


def test_the_outcome_of_a_job_still_held_is_written(
    valkey: Redis, settings: Settings, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, badly = ask(api, "one"), ask(api, "two")
    leases: list[float] = []

    def look() -> None:
        lease = valkey.hget(f"rq:execution:{pair_of(valkey)}", "lease_until")
        assert isinstance(lease, bytes)
        leases.append(float(lease) - time.time())
        assert JobTransitions(valkey, "other").recover_expired(QUEUE) == []

    while_it_runs(monkeypatch, look)
    work(settings, jobs=1)
    while_it_runs(monkeypatch, look, fails=True)
    work(settings, jobs=1)
    assert api.get(f"/result/{well}").json()["result"] == "ours"
    assert api.get(f"/result/{badly}").json()["status"] == "failed"
    assert FailedJobRegistry(QUEUE, connection=valkey).get_job_ids() == [badly]
    assert not valkey.keys("rq:execution*")
    assert all(0 < lease <= LEASE_SECONDS for lease in leases)
    events = valkey.xrange(keys.events(well))
    assert b'{"attempt": 1}' in [fields[b"data"] for _, fields in events]  # type: ignore[union-attr, index]


@pytest.mark.parametrize("fails", [False, True], ids=["finishes", "fails"])
def test_a_job_that_runs_where_it_is_enqueued_needs_no_lease(
    fails: bool, valkey: Redis, settings: Settings, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_runs(monkeypatch, lambda: None, fails=fails)
    with worker_services(settings):
        queue = Queue(QUEUE, connection=valkey, is_async=False, serializer=PlainSerializer)
        job = queue.enqueue("queues.worker.process_query", {"query": "why?"})
    result = api.get(f"/result/{job.id}").json()
    assert result["status"] == ("failed" if fails else "completed")
    assert ("an internal error" in result["error"]) if fails else (result["result"] == "ours")
    assert valkey.hget(job.key, "attempts") == b"1"
    assert not valkey.keys("rq:execution*")


def test_a_job_function_called_outside_any_job_publishes_nothing(
    valkey: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_runs(monkeypatch, lambda: None)
    with worker_services(settings):
        assert queues.worker.process_query({"query": "why?"})["text"] == "ours"
    assert not valkey.keys()


def test_events_of_an_attempt_that_lost_its_job_are_dropped(valkey: Redis, api: httpx.Client) -> None:
    job_id = ask(api)
    (first,) = JobTransitions(valkey, "first").take(QUEUE, ["first"]).jobs
    stalled = EventWriter(valkey, job_id, result_ttl_seconds=60, begin=lambda: int(first.fields["attempts"]))
    valkey.hset(f"rq:execution:{job_id}:first", "lease_until", 0)
    JobTransitions(valkey, "second").recover_expired(QUEUE)
    (second,) = JobTransitions(valkey, "second").take(QUEUE, ["second"]).jobs
    writer = EventWriter(valkey, job_id, result_ttl_seconds=60, begin=lambda: int(second.fields["attempts"]))
    writer.start()
    stalled.start()
    assert not stalled.write("token", {"text": "old"})
    assert writer.write("token", {"text": "new"})
    written = [json.loads(fields[b"data"]) for _, fields in valkey.xrange(keys.events(job_id))][1:]  # type: ignore[union-attr, index]
    assert written == [{"attempt": 2}, {"text": "new"}]


@pytest.mark.parametrize("status", ["queued", "started"])
def test_a_job_cancelled_while_its_worker_takes_it_never_starts(
    status: str, valkey: Redis, settings: Settings, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ takes a job from its list, makes an execution, forks, and only then writes that the job has started."""
    job_id, begun = ask(api), list[str]()
    seen: list[str] = []
    prepare = SimpleWorker.prepare_job_execution

    def prepare_meanwhile(self: SimpleWorker, *args: Any, **keywords: Any) -> None:
        if status == "started":
            prepare(self, *args, **keywords)
        seen.append(api.delete(f"/jobs/{job_id}").json()["status"])
        if status == "queued":
            prepare(self, *args, **keywords)
            seen.append(api.get(f"/job-status/{job_id}").json()["status"])

    monkeypatch.setattr(SimpleWorker, "prepare_job_execution", prepare_meanwhile)
    while_it_runs(monkeypatch, lambda: begun.append(job_id))
    work(settings, jobs=1)
    assert (seen, begun) == (["cancelled", "cancelled"] if status == "queued" else ["started"], [])
    assert api.get(f"/result/{job_id}").json()["status"] == "cancelled"
    assert "event: cancelled" in api.get(f"/jobs/{job_id}/events").text
    assert 0 < valkey.ttl(f"rq:job:{job_id}") <= 86_401
    assert not valkey.keys("rq:execution*")
    assert valkey.zcard(f"rq:wip:{QUEUE}") == 0
    registry = CanceledJobRegistry if status == "queued" else FailedJobRegistry
    assert registry(QUEUE, connection=valkey).get_job_ids() == [job_id]
    monkeypatch.setattr(SimpleWorker, "prepare_job_execution", prepare)
    Queue(QUEUE, connection=valkey).enqueue_job(Job.fetch(job_id, connection=valkey))
    work(settings, jobs=1)
    assert begun == [job_id], "it was enqueued again"
    assert api.get(f"/result/{job_id}").json()["status"] == "completed"
    monkeypatch.undo()


def waiting(worker: Running, api: httpx.Client, stub: OpenAIStub) -> str:
    """Have a worker ask a model that does not answer."""
    wait_until(lambda: workers(api) == 1, what=lambda: worker.output)
    job_id = ask(api, "When was the lighthouse built?")
    wait_until(lambda: stub.behaviour.chats, what=lambda: worker.output)
    return job_id


@pytest.fixture
def use(settings: Settings, stub: OpenAIStub, pdf: Path) -> dict[str, str]:
    """The environment of a worker with documents and a model that takes 30 s."""
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "RQ_REDIS_URL": settings.queue_url}
    index(pdf, settings, **use)
    stub.behaviour.chat_delay_seconds = 30
    return variables(settings, **use)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_cancellation_that_the_worker_missed_stops_the_job(
    command: list[str], valkey: Redis, api: httpx.Client, stub: OpenAIStub, use: dict[str, str], tmp_path: Path
) -> None:
    with running(command, tmp_path / "w.log", **use) as worker:
        job_id = waiting(worker, api, stub)
        valkey.hset(f"rq:job:{job_id}", "cancel", "9999-01-01T00:00:00.000000Z")
        wait_until(lambda: api.get(f"/job-status/{job_id}").json()["status"] != "started", seconds=2)
        assert api.get(f"/job-status/{job_id}").json()["status"] == "cancelled", worker.output
        assert FailedJobRegistry(QUEUE, connection=valkey).get_job_ids() == [job_id]
        assert not valkey.hexists(f"rq:job:{job_id}", "cancel")
        stub.behaviour.chat_delay_seconds = 0
        again = ask(api, "When was the lighthouse built?")
        wait_until(lambda: api.get(f"/result/{again}").status_code == 200, what=lambda: worker.output)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_job_of_a_killed_stock_worker_is_recovered_when_its_lease_ends(
    command: list[str], valkey: Redis, api: httpx.Client, stub: OpenAIStub, use: dict[str, str], tmp_path: Path
) -> None:
    with running(command, tmp_path / "w.log", **use) as worker:
        job_id = waiting(worker, api, stub)
        lease = valkey.hget(f"rq:execution:{pair_of(valkey)}", "lease_until")
        for child in descendants(worker.process.pid):
            os.kill(child, signal.SIGKILL)
        worker.kill()
    assert isinstance(lease, bytes)
    assert float(lease) - time.time() <= LEASE_SECONDS
    other = JobTransitions(valkey, "other")
    assert other.recover_expired(QUEUE) == []
    expire_lease(valkey)
    assert other.recover_expired(QUEUE) == [(job_id, "requeued")]
    assert valkey.lrange(f"rq:queue:{QUEUE}", 0, -1) == [job_id.encode()]


def test_a_forked_job_ends_when_its_worker_is_killed(
    valkey: Redis, api: httpx.Client, stub: OpenAIStub, use: dict[str, str], tmp_path: Path
) -> None:
    """RQ runs a job in a child process of the worker, which would go on."""
    with running(COMMANDS["rq worker"], tmp_path / "w.log", **use) as worker:
        job_id = waiting(worker, api, stub)
        (child,) = descendants(worker.process.pid)
        os.kill(worker.process.pid, signal.SIGKILL)
        wait_until(lambda: gone(child), seconds=3, what="the end of the child")
    expire_lease(valkey)
    assert JobTransitions(valkey, "other").recover_expired(QUEUE) == [(job_id, "requeued")]


def gone(pid: int) -> bool:
    """Return True if a process has ended, also as a zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
