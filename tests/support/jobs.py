"""Jobs that wait, hang, die and lie, and a worker that runs them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

from redis import Redis
from rq import Queue
from rq.job import Job

from client.llm.deadline import current_deadline
from client.rq.serializer import PlainSerializer
from errors import ProviderTimeout
from queues.context import current_job
from queues.ragworker import suspension
from queues.ragworker.execution import RagWorkerJob
from queues.ragworker.recovery import Intervals
from queues.ragworker.worker import RagWorker
from settings import Settings
from tests.support.processes import wait_until

NAMES = (
    *("nothing", "answer", "wait", "meet", "who", "hang_in_socket", "sleep", "count", "die", "fail", "unplain"),
    *("leave", "time_out_once_stopped"),
)
LEASE_SECONDS = 2
READY_TO_STOP = "ready to be stopped"
STOP_SECONDS = suspension.LONGEST_TICK_SECONDS + 1

# What jobs have stopped waiting for: a port, or RELEASE.
returned: list[int | str] = []
RELEASE = "release"
_release = threading.Event()
_meeting: threading.Barrier = threading.Barrier(1)
_note: ContextVar[str] = ContextVar("note", default="clean")


class Worker(RagWorker):
    """A RagWorker that runs the jobs of this module, and gives up a dead worker sooner."""

    functions: ClassVar[frozenset[str]] = frozenset(f"tests.support.jobs.{name}" for name in NAMES)
    lease_seconds: ClassVar[int] = LEASE_SECONDS
    intervals: ClassVar[Intervals] = Intervals(
        heartbeat=0.2, recovery=0.2, steady=2.0, grace=0.4, unstarted=1.0, valkey_uptime=0.0, outage=0.0
    )


class PatientWorker(Worker):
    """A worker that trusts no lease for a minute: it recovers only the jobs of dead processes of this host."""

    intervals: ClassVar[Intervals] = Intervals(heartbeat=0.2, recovery=0.2, steady=60.0, outage=0.0)


def nothing() -> None:
    pass


def answer(payload: dict[str, Any]) -> dict[str, Any]:
    """Return at once what it was given; with `wait`, after `release`."""
    if "wait" in payload:
        wait()
    return payload


def wait() -> str:
    """Run until `release`, whatever the worker does to end the job."""
    assert _release.wait(30)
    returned.append(RELEASE)
    return "released"


def meet(_place: int) -> bool:
    """Return once as many jobs as `expect` said are here at once."""
    _meeting.wait(20)
    return True


def who() -> dict[str, str]:
    """Return the id of the current job, and the note of an earlier job where one leaked into this one."""
    job = current_job()
    assert job is not None
    found = _note.get()
    _note.set(job.job_id)
    time.sleep(0.01)
    again = current_job()
    assert again is not None
    return {"id": again.job_id, "found": found}


def hang_in_socket(port: int) -> str:
    """Wait for a byte that never comes, as a call of a model does."""
    connection = socket.create_connection(("127.0.0.1", port))
    with connection, current_deadline().closing_on_stop(lambda: connection.shutdown(socket.SHUT_RDWR)):
        connection.recv(1)
    returned.append(port)
    return "too late"


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def count(url: str, key: str, seconds: float = 0.0) -> int:
    """Count a run, before and after."""
    with Redis.from_url(url) as valkey:
        run = int(valkey.incr(f"{key}:begun"))
        time.sleep(seconds)
        return run


def die() -> None:
    """End the process as kill -9 does."""
    os._exit(9)


def fail(word: str) -> None:
    raise LookupError(word)


def unplain() -> object:
    return object()


def leave() -> None:
    raise SystemExit(3)


def time_out_once_stopped() -> int:
    """Raise ProviderTimeout when this process goes on after a stop, as a call of a model does; return the attempt."""
    job = current_job()
    assert isinstance(job, RagWorkerJob)
    last = time.monotonic()
    logging.getLogger("rq.worker").warning(READY_TO_STOP)
    while job.attempt == 1:
        time.sleep(0.02)
        if time.monotonic() - last > STOP_SECONDS:
            raise ProviderTimeout("the model did not answer in time")
        last = time.monotonic()
    return job.attempt


def release() -> None:
    """Let jobs that `wait` end."""
    _release.set()


def expect(count: int) -> None:
    """Say how many jobs will `meet`."""
    global _meeting
    _meeting = threading.Barrier(count)


@contextmanager
def working(settings: Settings, *queues: str, kind: type[RagWorker] = Worker, **options: Any) -> Iterator[RagWorker]:
    """Run a worker in a thread of this process; at the end it finishes what it runs."""
    _release.clear()
    with Redis.from_url(settings.queue_url) as connection:
        worker = kind(list(queues or ("rag_queries",)), connection=connection, settings=settings)
        thread = threading.Thread(target=worker.work, kwargs={"logging_level": "INFO"} | options, daemon=True)
        thread.start()
        try:
            wait_until(lambda: connection.exists(worker.key), what="the worker's record")
            yield worker
        finally:
            release()
            worker.request_stop(15, None)
            thread.join(20)
            assert not thread.is_alive(), "the worker did not stop"


def enqueue(valkey: Redis, name: str, *args: Any, queue: str = "rag_queries", **options: Any) -> Job:
    """Enqueue a job of this module as a user of RQ would."""
    options = {"job_timeout": 60, "result_ttl": 600, "failure_ttl": 600} | options
    return Queue(queue, connection=valkey, serializer=PlainSerializer).enqueue(
        f"tests.support.jobs.{name}", args=args, **options
    )


def status(job: Job) -> str:
    return str(job.get_status(refresh=True).value)


def ended(*jobs: Job, seconds: float = 20.0) -> list[str]:
    """Wait until jobs have ended and return how."""
    wait_until(
        lambda: all(status(job) in {"finished", "failed", "stopped", "canceled"} for job in jobs),
        seconds=seconds,
        what="the end of the jobs",
    )
    return [status(job) for job in jobs]
