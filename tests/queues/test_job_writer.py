"""What running jobs write through one thread: events, then notes, then the outcome."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from client.rq.event_writer import MAX_PENDING, EventBuffer
from client.rq.serializer import PlainSerializer
from client.rq.transitions import ExecutionRef, JobOutcome, JobTransitions, encode_result
from client.valkey import keys
from queues.ragworker.job_writer import JobWriter
from tests.support import jobs
from tests.support.processes import wait_until

QUEUE = "rag_queries"
FINISHED = JobOutcome("finished", encode_result("done"), 600)
# So long that only the first data and outcomes are written before the test ends.
HOUR = 3_600.0


@dataclass
class RunningJob:
    """A job that a worker has taken, and its part of the writer."""

    valkey: Redis
    writer: JobWriter
    ref: ExecutionRef
    events: EventBuffer

    def write(self, kind: str, **data: Any) -> None:
        self.writer.write_event(self.ref, self.events, kind, data)

    def finish(self) -> None:
        self.writer.write_outcome(self.ref, FINISHED)

    def written(self) -> list[Any]:
        """Return the texts of the tokens in Valkey, and the data of other events."""
        entries: Any = self.valkey.xrange(keys.events(self.ref.job_id))
        return [data.get("text", data) for _, fields in entries for data in [json.loads(fields[b"data"])]]

    def status(self) -> object:
        return self.valkey.hget(keys.job(self.ref.job_id), "status")


def take(valkey: Redis, writer: JobWriter, *, worker: str = "w") -> RunningJob:
    """Take the next job."""
    execution = f"{worker}{random.getrandbits(64):x}"
    (taken,) = JobTransitions(valkey, worker).take(QUEUE, [execution]).jobs
    attempt, ref = int(taken.fields["attempts"]), taken.execution
    return RunningJob(valkey, writer, ref, EventBuffer(ref.job_id, result_ttl_seconds=600, attempt=attempt))


def run_new(valkey: Redis, writer: JobWriter) -> RunningJob:
    """Enqueue a job and take it."""
    jobs.enqueue(valkey, "nothing")
    return take(valkey, writer)


@contextmanager
def writing(
    valkey: Redis, *, on_written: Callable[..., None] = lambda *_: None, tick_seconds: float = 0.01
) -> Iterator[JobWriter]:
    """Run a writer; at the end all is written."""
    writer = JobWriter(JobTransitions(valkey, "w"), on_written, tick_seconds=tick_seconds)
    writer.start()
    try:
        yield writer
    finally:
        writer.close(discard=False)


def test_all_events_of_a_job_are_written_in_order_and_before_its_outcome(valkey: Redis) -> None:
    results: list[tuple[str, bool]] = []

    def run(job: RunningJob) -> None:
        chance = random.Random(job.ref.job_id)
        job.write("started")
        for number in range(chance.randrange(40)):
            job.write("token", text=number)
            if chance.random() < 0.2:
                job.writer.write_field(job.ref, "meta", PlainSerializer.dumps({"number": number}))
            if chance.random() < 0.3:
                time.sleep(chance.random() / 200)
        job.write("sources", text="last")
        job.finish()

    with writing(valkey, on_written=lambda ref, _, well: results.append((ref.job_id, well))) as writer:
        running = [run_new(valkey, writer) for _ in range(200)]  # more than one batch
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(run, running))
    assert sorted(results) == sorted((job.ref.job_id, True) for job in running)
    for job in running:
        started, *tokens, last = job.written()
        assert (started, tokens, last) == ({"attempt": 1}, list(range(len(tokens))), "last")
        assert job.status() == b"finished"
        assert 0 < int(valkey.ttl(keys.events(job.ref.job_id))) <= 600


def test_the_first_event_and_outcomes_are_written_at_once_and_other_events_together(valkey: Redis) -> None:
    with writing(valkey, tick_seconds=HOUR) as writer:
        job, other = run_new(valkey, writer), run_new(valkey, writer)
        job.write("token", text=1)
        wait_until(lambda: job.written() == [1])
        calls = valkey.info("commandstats")["cmdstat_xadd"]["calls"]
        for text in range(2, 50):
            job.write("token", text=text)
            other.write("token", text=text)
        assert valkey.info("commandstats")["cmdstat_xadd"]["calls"] == calls
        other.finish()
        wait_until(lambda: other.status() == b"finished")
        assert job.written() == list(range(1, 50))
        assert other.written() == list(range(2, 50))
        job.write("token", text=50)
        assert job.written() == list(range(1, 50))
    assert job.written() == list(range(1, 51))  # closing writes the rest


def test_only_the_latest_attempt_writes_events(valkey: Redis) -> None:
    with writing(valkey) as writer:
        first = run_new(valkey, writer)
        first.write("started")
        first.write("token", text="half an ans")
        wait_until(lambda: len(first.written()) == 2)
        valkey.hset(f"rq:execution:{first.ref.job_id}:{first.ref.execution_id}", "lease_until", 0)
        JobTransitions(valkey, "other").recover_expired(QUEUE)
        first.write("token", text="between the attempts")
        wait_until(lambda: not first.events.is_latest)
        second = take(valkey, writer, worker="other")
        second.write("started")
        for number in range(100):
            first.write("token", text="late")
            second.write("token", text=number)
        first.finish()
        second.finish()
    assert second.written() == [{"attempt": 1}, "half an ans", {"attempt": 2}, *range(100)]
    assert second.status() == b"finished"


def test_a_refused_write_of_one_job_does_not_stop_the_others(valkey: Redis, caplog: pytest.LogCaptureFixture) -> None:
    with writing(valkey, tick_seconds=HOUR) as writer:
        running = [run_new(valkey, writer) for _ in range(3)]
        running[0].write("started")  # the events of all others are written together
        wait_until(lambda: running[0].written() == [{"attempt": 1}])
        valkey.set(keys.events(running[1].ref.job_id), "text")
        for job in running:
            job.write("token", text="a")
        running[1].write("token", text="b")
        running[2].finish()
        wait_until(lambda: running[2].status() == b"finished")
    assert running[0].written() == [{"attempt": 1}, "a"]
    assert running[2].written() == ["a"]
    assert [record.message.partition(":")[0] for record in caplog.records] == [f"job {running[1].ref.job_id}"]


def test_an_error_of_the_worker_itself_does_not_stop_the_thread(
    valkey: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def on_written(ref: ExecutionRef, _outcome: JobOutcome, _written: bool) -> None:
        if ref == first.ref:
            raise LookupError("a defect")

    with writing(valkey, on_written=on_written) as writer:
        first, second = run_new(valkey, writer), run_new(valkey, writer)
        first.finish()
        wait_until(lambda: "LookupError: a defect" in caplog.text)
        second.finish()
    assert second.status() == b"finished"


def test_nothing_is_lost_and_the_order_stays_when_the_server_loses_its_scripts(valkey: Redis) -> None:
    with writing(valkey) as writer:
        running = [run_new(valkey, writer) for _ in range(20)]
        for number in range(20):
            for job in running:
                job.write("token", text=number)
            running[number].finish()
            valkey.script_flush()
    for number, job in enumerate(running):
        assert job.written()[: number + 1] == list(range(number + 1))
        assert job.status() == b"finished"


def test_events_that_wait_are_bounded() -> None:
    events = EventBuffer("job", result_ttl_seconds=60, attempt=1)
    for number in range(MAX_PENDING + 10):
        events.add("token", {"text": number})
        if number == 100:
            events.next_call()  # which gets no reply
    call = events.next_call()
    assert call is not None
    assert json.loads(call.arguments[-1]) == {"text": MAX_PENDING - 1}
