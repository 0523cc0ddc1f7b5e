"""RagWorker: many jobs at once in one process, on RQ's own records, and none lost.

A question spends its time waiting for a model, so this worker runs jobs in threads. It does no fork. Each thread
and what it does:

    reader (one a queue)   waits for a job, then for a place, then takes the job
    job (as many as run)   runs the job's function, and nothing else
    writer                 writes endings and notes, many in one trip, again until Valkey has them
    caretaker              renews leases every second, takes up what dead workers held, keeps the schedule
    commands               listens for stop-job and shutdown
    main                   ends jobs whose time is up; shuts down

A job's way from list to result, with every key it touches. Each arrow is one Lua script (`scripts`), so there is
no place between two states where a crash could leave a job:

    POST /chat
       │                       rq:job:{id} status=queued
       ▼
    rq:queue:{queue} ──────────────── a list, in the order of turns (`client.rq.fair_queue`)
       │ TAKE                  rq:job:{id} status=started, worker_name, started_at; no expiry
       ▼
    rq:wip:{queue} {id}:{execution} ─ the execution holds the job while this pair is here, and may write
    rq:execution:{id}:{execution} ─── the lease: `lease_until` is LEASE_SECONDS after the last BEAT
    rq:executions:{id} ────────────── the executions of this job, for RQ
       │         │          │
       │ FINISH  │ HAND_BACK│ REAP   when the lease has run out: up to MAX_ATTEMPTS times back to the list
       │         ▼          ▼
       │       rq:queue:{queue}, at the front
       ▼
       (A job that was cancelled meanwhile is ended by each of them, as `stopped`.)
    rq:results:{id} a stream, its last entry counts; rq:job:{id} status=finished | failed | stopped, with expiry
    rq:finished:{queue} or rq:failed:{queue} (the dead letters, too)

Whoever ends a job first decides: its own thread, its deadline, a stop command, or the loss of its lease. What comes
later is void, in this process by `Execution.claim`, in Valkey by the pair in rq:wip. A thread that hangs in a socket
has the socket shut (`client.llm.deadline`); one that still does not return is left behind and replaced.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, ClassVar

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import worker_registration
from rq.connections import get_connection_kwargs
from rq.logutils import setup_loghandlers
from rq.utils import now
from rq.worker.base import BaseWorker

from client.rq.records import ALLOWED, QUEUES
from client.rq.serializer import PlainSerializer
from client.rq.transitions import WORKER_SECONDS, JobTransitions
from observability import logs
from queues import wiring
from queues.ragworker.commands import CommandListener
from queues.ragworker.executor import Executor
from queues.ragworker.maintenance import Maintenance
from settings import Settings, get_settings
from settings.stop_times import WORKER_GRACE_SECONDS

TICK_SECONDS = 0.1
# Python lets a thread that computes go on for 5 ms while others wait, which kept questions waiting for ingestion. With
# 0.2 ms 300 threads did nothing but switch; with 1 ms they lost a tenth at most.
SWITCH_SECONDS = 0.001
# A pool and the terminal both pass on one Ctrl-C.
SAME_SIGNAL_SECONDS = 1.0
CONNECT_SECONDS = 2.0
# Longer than a reader waits for a job in one go.
SOCKET_SECONDS = 4.0
# Ingestion and deliveries get an eighth of the places, ingestion no more than there are cores: they are never starved,
# and never crowd out questions.
SMALL_SHARE = 8


class RagWorker(BaseWorker):
    """An RQ worker that runs WORKER_CONCURRENCY jobs at once: `rq worker -w queues.RagWorker rag_queries`."""

    functions: ClassVar[frozenset[str]] = ALLOWED
    grace_seconds: ClassVar[float] = WORKER_GRACE_SECONDS

    def __init__(
        self, queues: Any, name: str | None = None, *args: Any, settings: Settings | None = None, **kwargs: Any
    ) -> None:
        super().__init__(queues, name, *args, **(kwargs | {"serializer": PlainSerializer}))
        self.settings = settings or get_settings()
        self.valkey = _own_connection(self.connection)
        self._signals: list[float] = []
        self._engine: Executor | None = None

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the connection as it is: RQ would raise its time-out to 415 s."""
        return connection

    def work(
        self,
        burst: bool = False,  # noqa: FBT001, FBT002
        logging_level: str | None = None,
        date_format: str = "%H:%M:%S",
        log_format: str = "%(asctime)s %(message)s",
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,  # noqa: ARG002, FBT001, FBT002  it always keeps the schedule
        dequeue_strategy: object = None,  # noqa: ARG002  its queues have shares instead
    ) -> bool:
        """Run jobs until told to stop. True when any job ended here."""
        logs.configure_once(lambda: self.settings)
        setup_loghandlers(logging_level, date_format, log_format, name="rq.worker")
        wiring.preload(self.settings)
        sys.setswitchinterval(SWITCH_SECONDS)
        self._install_signal_handlers()
        self.register_birth()  # type: ignore[no-untyped-call]
        self.log.info("%s: working on %s", self.name, ", ".join(self.queue_names()))
        ledger = JobTransitions(self.valkey, self.name)
        engine = self._engine = self._make_engine(ledger, burst=burst, most=max_jobs)
        caretaker = Maintenance(
            ledger,
            self.queue_names(),
            running=engine.holders,
            lost=engine.lose,
            cancelled=engine.stop_job,
            register=self._register_again,
            owner=self.name,
        )
        commands = CommandListener(self.valkey, self.name, self._obey, listening=caretaker.hurry)
        for part in (caretaker, commands, engine):
            part.start()
        drained = False
        try:
            drained = self._supervise(engine, max_idle_time)
        finally:
            engine.close(give_up=not drained)
            commands.stop()
            caretaker.stop()
            with suppress(RedisError, OSError):
                self.register_death()  # type: ignore[no-untyped-call]
            self.valkey.close()
        return engine.done > 0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take note of a signal, and no more: raising here could strand a job that was just taken."""
        self._signals.append(time.monotonic())

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)

    def _make_engine(self, ledger: JobTransitions, *, burst: bool, most: int | None) -> Executor:
        total = self.settings.worker_concurrency
        return Executor(
            ledger,
            shares(self.queue_names(), total),
            concurrency=total,
            functions=self.functions,
            default_timeout_seconds=self.settings.job_timeout_seconds,
            burst=burst,
            most=most,
        )

    def _supervise(self, engine: Executor, max_idle_seconds: int | None) -> bool:
        """Watch over the jobs until the end. True when nothing is left undone."""
        busy_at = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            engine.end_expired()
            moment = time.monotonic()
            if engine.busy:
                busy_at = moment
            if max_idle_seconds is not None and moment - busy_at >= max_idle_seconds:
                self._signals.append(moment)
            if self._signals:
                engine.stop_taking()
            if not engine.busy and (self._signals or not engine.reading):
                return True
            if self._signals and self._must_hurry(moment):
                return self._hand_back(engine)

    def _must_hurry(self, moment: float) -> bool:
        """Whether there was a second signal, or the grace time is over."""
        first = self._signals[0]
        again = any(later - first >= SAME_SIGNAL_SECONDS for later in self._signals)
        return again or moment - first >= self.grace_seconds

    def _hand_back(self, engine: Executor) -> bool:
        try:
            engine.hand_back_all()
        except (RedisError, OSError):
            self.log.warning("%s: Valkey is away; others take up what ran here when its lease is over", self.name)
            return False
        return True

    def _obey(self, payload: dict[str, Any]) -> None:
        command = payload["command"]
        if command == "shutdown":
            self._signals.append(time.monotonic())
        elif command == "stop-job" and self._engine is not None:
            if not self._engine.stop_job(str(payload.get("job_id"))):
                self.log.info("%s: told to stop a job that does not run here", self.name)
        else:
            self.log.info("%s: command %s is of no use here", self.name, command)

    def _register_again(self) -> None:
        """Write this worker's record anew: it expired during an outage."""
        self.last_heartbeat = now()
        with self.valkey.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            pipeline.expire(self.key, WORKER_SECONDS)
            pipeline.execute()


def shares(queues: Iterable[str], total: int) -> dict[str, int]:
    """Say how many of `total` places each queue may have at most."""
    small = max(1, total // SMALL_SHARE)
    # Documents leave a core to questions: with as many at once as cores, questions waited 2 to 3 times as long to
    # start while 5,000 documents did; so 1.2 times.
    cores = max(1, (os.cpu_count() or 1) - 1)
    at_most = {QUEUES["document"]: min(small, cores), QUEUES["webhook"]: small}
    return {queue: at_most.get(queue, total) for queue in queues}


def _own_connection(connection: Redis) -> Redis:
    """Connect to the same server, with time-outs of our own and no retries inside: they would take jobs twice."""
    pool = connection.connection_pool
    if type(pool) is not ConnectionPool:  # Sentinel's has its own way to find the server
        return connection
    options = get_connection_kwargs(connection) | {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 10_000,
    }
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **options))
