"""RagWorker: many jobs at once in one process, on RQ's records, and no job lost.

A question spends its time waiting for a model, so this worker runs all questions in one event loop. It does not fork.
Its threads:

    reader (one a queue)   waits for a job, then for a slot, then takes the job
    loop                   runs the questions: all that waits for a model
    compute (a few)        search, ranking and the check of citations, for the loop
    job (one a job)        runs any other job function, and nothing else
    writer                 writes events, notes, drafts and outcomes, many in one trip, again until Valkey has them
    drafts                 keeps drafts on disk that Valkey does not take
    maintenance            renews leases every second, recovers jobs of dead workers, enqueues scheduled jobs
    commands               listens for stop-job and shutdown
    main                   fails jobs whose time is up; shuts down

The way of a job from its list to its result, with every key it touches. Each arrow is one Lua script in client/rq/lua,
so a crash cannot leave a job between two states:

    POST /chat
       │                             rq:job:{id} status=queued
       ▼
    rq:queue:{queue} ────────────────── a list, in the order of fair queueing (`client.rq.fair_queue`)
       │ take                        rq:job:{id} status=started, worker_name, started_at; no expiry
       ▼
    rq:wip:{queue} {id}:{execution} ─── while this pair exists, the execution holds the job and may write
    rq:execution:{id}:{execution} ───── the lease: `lease_until` is LEASE_SECONDS after the last heartbeat
    rq:executions:{id} ──────────────── the executions of this job, for RQ
       │ finish  │ hand_back │ recover_expired, when the lease has run out: back to the list, up to MAX_DEATHS times
       │         ▼           ▼
       │       rq:queue:{queue}, at the front
       ▼
       (Each of them ends a job that was cancelled meanwhile, as `stopped`.)
    rq:results:{id}, a stream whose last entry counts; rq:job:{id} status=finished | failed | stopped, with expiry
    rq:finished:{queue} or rq:failed:{queue}, which holds the dead letters

The first to end a job decides: the job itself, its deadline, a stop command, or the loss of its lease. Later outcomes
are dropped: in this process by `Execution.claim`, in Valkey by the pair in rq:wip. A question's task is cancelled then.
A thread that hangs in a socket has the socket shut (`client.llm.deadline`); a thread that still does not return is
abandoned and replaced.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
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

from client.rq.records import ALLOWED_FUNCTIONS, QUEUES
from client.rq.serializer import PlainSerializer
from client.rq.transitions import LEASE_SECONDS, WORKER_SECONDS, JobTransitions
from client.valkey.counts import CountsThread
from observability import logs, tracing
from queues import wiring
from queues.ragworker.commands import CommandListener
from queues.ragworker.draft_spool import DraftSpool
from queues.ragworker.executor import Executor
from queues.ragworker.maintenance import Maintenance
from queues.ragworker.recovery import Intervals
from settings import Settings, get_settings
from settings.stop_times import WORKER_GRACE_SECONDS

TICK_SECONDS = 0.1
# By default Python lets a computing thread run for 5 ms while others wait, which delayed questions behind ingestion.
# With 0.2 ms 300 threads did nothing but switch; with 1 ms they lost at most a tenth of their speed.
SWITCH_SECONDS = 0.001
# A worker pool and the terminal both forward one Ctrl-C; signals within this time count as one.
SAME_SIGNAL_SECONDS = 1.0
CONNECT_SECONDS = 2.0
# Longer than the longest single wait of a reader, WAIT_SECONDS.
SOCKET_SECONDS = 4.0
# Ingestion and deliveries get an eighth of the slots each: they never starve, and never crowd out questions.
SMALL_SHARE = 8


class RagWorker(BaseWorker):
    """An RQ worker that runs WORKER_CONCURRENCY jobs at once: `rq worker -w queues.RagWorker rag_queries`."""

    functions: ClassVar[frozenset[str]] = ALLOWED_FUNCTIONS
    grace_seconds: ClassVar[float] = WORKER_GRACE_SECONDS
    lease_seconds: ClassVar[int] = LEASE_SECONDS
    intervals: ClassVar[Intervals] = Intervals()

    def __init__(
        self, queues: Any, name: str | None = None, *args: Any, settings: Settings | None = None, **kwargs: Any
    ) -> None:
        super().__init__(queues, name, *args, **(kwargs | {"serializer": PlainSerializer}))
        self.settings = settings or get_settings()
        self.valkey = _connect_with_timeouts(self.connection)
        self._signals: list[float] = []
        self._executor: Executor | None = None

    def _set_connection(self, connection: Redis) -> Redis:
        """Keep the connection unchanged: RQ would raise its time-out to 415 s."""
        return connection

    def work(
        self,
        burst: bool = False,  # noqa: FBT001, FBT002
        logging_level: str | None = None,
        date_format: str = "%H:%M:%S",
        log_format: str = "%(asctime)s %(message)s",
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,  # noqa: ARG002, FBT001, FBT002  Maintenance always is the scheduler
        dequeue_strategy: object = None,  # noqa: ARG002  its queues have limits instead
    ) -> bool:
        """Run jobs until a signal or a shutdown command. True when any job ended here."""
        logs.configure_once(lambda: self.settings)
        tracing.configure_once(lambda: self.settings)
        setup_loghandlers(logging_level, date_format, log_format, name="rq.worker")
        wiring.preload(self.settings, langchain=False)
        _allow_many_files()
        _freeze_imports()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._install_signal_handlers()
        self._register()
        self.log.info("%s: working on %s", self.name, ", ".join(self.queue_names()))
        transitions = JobTransitions(self.valkey, self.name, lease_seconds=self.lease_seconds)
        spool = DraftSpool(self.settings.data_dir / "drafts")
        executor = self._executor = self._make_executor(transitions, spool, burst=burst, max_jobs=max_jobs)
        maintenance = Maintenance(
            transitions,
            self.queue_names(),
            running=executor.running,
            on_heartbeat=executor.keep_held,
            on_cancelled=executor.stop_job,
            register=self._register_again,
            prune=partial(spool.prune, self.valkey),
            intervals=self.intervals,
            heartbeat_file=self.settings.heartbeat_file,
        )
        # After each subscription a heartbeat finds the cancelled jobs whose stop command was missed.
        commands = CommandListener(self.valkey, self.name, self._handle_command, on_subscribed=maintenance.wake)
        threads = (maintenance, commands, CountsThread(self.valkey))
        for part in (*threads, executor):
            part.start()
        drained = False
        try:
            drained = self._supervise(executor, max_idle_time)
        finally:
            executor.close(discard=not drained)
            for part in threads:
                part.stop()
            self._leave()
        return executor.jobs_done > 0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Note the time of a signal, and no more: an exception here could strand a job that was just taken."""
        self._signals.append(time.monotonic())

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.request_stop)
            signal.signal(signal.SIGTERM, self.request_stop)

    def _make_executor(
        self, transitions: JobTransitions, spool: DraftSpool, *, burst: bool, max_jobs: int | None
    ) -> Executor:
        total = self.settings.worker_concurrency
        return Executor(
            transitions,
            queue_limits(self.queue_names(), total),
            concurrency=total,
            functions=self.functions,
            default_timeout_seconds=self.settings.job_timeout_seconds,
            compute_threads=wiring.compute_threads(self.settings),
            on_close=wiring.close_loop,
            store_answers=partial(wiring.store_answers, self.settings),
            spool=spool,
            burst=burst,
            max_jobs=max_jobs,
        )

    def _supervise(self, executor: Executor, max_idle_seconds: int | None) -> bool:
        """Fail expired jobs until the worker has to end. True when every job is ended in Valkey or handed back."""
        busy_at = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            executor.fail_expired()
            now_seconds = time.monotonic()
            if executor.busy:
                busy_at = now_seconds
            if max_idle_seconds is not None and now_seconds - busy_at >= max_idle_seconds:
                self._signals.append(now_seconds)
            if self._signals:
                executor.stop_taking()
            if not executor.busy and (self._signals or not executor.reading):
                return True
            if self._signals and self._grace_is_over(now_seconds):
                return self._hand_back(executor)

    def _grace_is_over(self, now_seconds: float) -> bool:
        """Return True after a second signal, or grace_seconds after the first."""
        first = self._signals[0]
        second_signal = any(later - first >= SAME_SIGNAL_SECONDS for later in self._signals)
        return second_signal or now_seconds - first >= self.grace_seconds

    def _hand_back(self, executor: Executor) -> bool:
        try:
            executor.hand_back_all()
        except (RedisError, OSError):
            self.log.warning("%s: Valkey is away; other workers recover its jobs when their leases end", self.name)
            return False
        return True

    def _handle_command(self, payload: dict[str, Any]) -> None:
        command = payload["command"]
        if command == "shutdown":
            self._signals.append(time.monotonic())
        elif command == "stop-job" and self._executor is not None:
            if not self._executor.stop_job(str(payload.get("job_id"))):
                self.log.info("%s: a command to stop a job that does not run here was ignored", self.name)
        else:
            self.log.info("%s: command %s was ignored", self.name, command)

    def _register(self) -> None:
        """Write this worker's record. If Valkey goes away meanwhile, a heartbeat after its return does."""
        self.birth_date = now()
        with suppress(RedisError, OSError):
            self.register_birth()  # type: ignore[no-untyped-call]

    def _leave(self) -> None:
        """Send the last spans, remove this worker's record, and close its connections."""
        tracing.close()
        with suppress(RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]
        if self.valkey is not self.connection:
            self.valkey.connection_pool.disconnect()  # `close` leaves the connections of a given pool open

    def _register_again(self) -> None:
        """Write this worker's record again, after it expired during an outage."""
        self.last_heartbeat = now()
        with self.valkey.pipeline() as pipeline:
            pipeline.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, pipeline)
            pipeline.expire(self.key, WORKER_SECONDS)
            pipeline.execute()


def _allow_many_files() -> None:
    """Allow as many open files as the system does: a thousand questions have a thousand connections to the provider."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit; some systems refuse the hard limit
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _freeze_imports() -> None:
    """Keep the garbage collector away from the half a million objects of the imports, and have it run less often.

    It took 5 of the 34 ms of CPU of an answer of 300 tokens.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)


def queue_limits(queues: Iterable[str], total: int) -> dict[str, int]:
    """Return how many of `total` slots each queue may use."""
    small = max(1, total // SMALL_SHARE)
    # Ingestion leaves one core to questions. With ingestion on every core, questions took 2 to 3 times as long to start
    # while 5,000 documents were indexed; with one core left, 1.2 times.
    cores = max(1, (os.cpu_count() or 1) - 1)
    limits = {QUEUES["document"]: min(small, cores), QUEUES["webhook"]: small}
    return {queue: limits.get(queue, total) for queue in queues}


def _connect_with_timeouts(connection: Redis) -> Redis:
    """Connect to the same server with short time-outs and without retries, which would take jobs twice."""
    pool = connection.connection_pool
    if type(pool) is not ConnectionPool:  # Sentinel finds the server in its own way
        return connection
    options = get_connection_kwargs(connection) | {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": 10_000,
    }
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **options))
