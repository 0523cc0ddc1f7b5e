"""One execution of a job: the record is validated, the function runs once, and the outcome is decided once."""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis
from rq.job import JobStatus as RqStatus
from rq.utils import parse_timeout

from client.llm.deadline import Deadline, current_deadline
from client.rq.event_writer import EventBuffer
from client.rq.records import read_call, read_timestamp
from client.rq.serializer import NotPlainData, PlainSerializer
from client.rq.transitions import DEFAULT_TTL_SECONDS, SUSPECT_LOSSES, ExecutionRef, TakenJob
from errors import StoreUnavailable
from observability import logs
from queues.context import JobContext, OnStoreOutage
from queues.ragworker.draft_spool import DraftSpool
from queues.ragworker.job_writer import JobWriter
from queues.ragworker.store_pause import StorePause
from queues.ragworker.suspension import Suspension
from schemas import WAITING_FOR_STORE, Progress

# A job that the vector store did not answer so many times, although the store answered probes in between, fails.
MAX_STORE_FAILURES = 20
# The first wait of a job that keeps what it has made, and how much longer each further wait is.
WAIT_SECONDS = 1.0
# How often such a job looks whether its wait is over.
STEP_SECONDS = 0.25
# Their number, among the notes of a job.
STORE_FAILURES = "store_failures"
# A job that waits on a list has one of these statuses; STARTED is left by a worker that died.
_WAITING = {RqStatus.QUEUED, RqStatus.STARTED, RqStatus.CREATED, RqStatus.DEFERRED, RqStatus.SCHEDULED}
_CALLBACKS = ("success_callback_name", "failure_callback_name", "stopped_callback_name")


class InvalidJobRecord(ValueError):
    """A job record that cannot be read, or that asks for something other than a job function of ours."""


@dataclass(kw_only=True, eq=False)
class RagWorkerJob(JobContext):
    """A job under RagWorker, which has counted the attempt, and whose writer thread writes events and notes.

    `call` is the field `data` of the job's record, `draft` the draft on the record.
    """

    ref: ExecutionRef
    attempt: int
    writer: JobWriter
    spool: DraftSpool
    call: bytes
    store_pause: StorePause
    draft: bytes | None

    def __post_init__(self) -> None:
        self._events = EventBuffer(self.job_id, result_ttl_seconds=self.result_ttl_seconds, attempt=self.attempt)

    def write_event(self, kind: str, data: dict[str, Any]) -> None:
        self.writer.write_event(self.ref, self._events, kind, data)

    def save_draft(self, draft: bytes) -> None:
        self.spool.keep(self.job_id, self.call, draft)  # first: the writer discards the draft once Valkey has it
        self.writer.write_field(self.ref, "draft", draft)

    def saved_draft(self) -> bytes | None:
        if self.draft is None and self.attempt > 1:
            return self.spool.find(self.job_id, self.call)
        return self.draft

    @property
    def on_store_outage(self) -> OnStoreOutage:
        return "hand back" if self._store_failures + 1 < MAX_STORE_FAILURES else "fail"

    def wait_for_store(self, outage: StoreUnavailable) -> None:
        """Wait, with what the job has made so far, for half of its time at most and until the worker stops.

        Each wait is longer than the one before: the store may answer probes, and not the job.
        """
        if self.on_store_outage == "fail":
            raise outage
        self.report(Progress(stage=WAITING_FOR_STORE))
        self.store_pause.begin()
        again_at = time.monotonic() + (self._store_failures + 1) * WAIT_SECONDS
        while self.store_pause.stops(self.queue) or time.monotonic() < again_at:
            if self.store_pause.closed or self._half_time_is_over:
                raise outage
            current_deadline().sleep(STEP_SECONDS)
        self.count_store_failure()

    @property
    def _half_time_is_over(self) -> bool:
        left = current_deadline().remaining()
        return left is not None and self.timeout_seconds is not None and left < self.timeout_seconds / 2

    def count_store_failure(self) -> None:
        """Count, for later attempts, that the vector store did not answer this one."""
        self._note(**{STORE_FAILURES: self._store_failures + 1})

    @property
    def _store_failures(self) -> int:
        failures = self.notes.get(STORE_FAILURES, 0)
        return failures if isinstance(failures, int) else 0

    def _open_events(self) -> None:
        self.write_event("started", {})
        logs.add_context(attempt=self.attempt)

    def _save_notes(self) -> None:
        self.writer.write_field(self.ref, "meta", PlainSerializer.dumps(self.notes))


@dataclass(eq=False)
class Execution:
    """One run of one job. The first to claim the execution decides its outcome; later outcomes are dropped.

    `result_ttl` and `failure_ttl` are the seconds that the record is kept after the job finished or failed. A suspect
    has to run alone: several workers died while they ran it and other jobs.
    """

    ref: ExecutionRef
    job: RagWorkerJob
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    deadline: Deadline
    result_ttl: int
    failure_ttl: int
    is_suspect: bool = False
    _claimed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Claim the right to decide the outcome. True for the first caller only."""
        with self._lock:
            first = not self._claimed
            self._claimed = True
            return first

    @property
    def is_coroutine(self) -> bool:
        """True if the job function is a coroutine function, to run in the event loop."""
        return inspect.iscoroutinefunction(self.function)

    def call(self) -> Any:
        """Call the job function. Returns its result, or the coroutine to await for it."""
        return self.function(*self.arguments, **self.keywords)


def open_execution(
    taken: TakenJob,
    *,
    valkey: Redis,
    functions: Collection[str],
    default_timeout_seconds: int,
    writer: JobWriter,
    spool: DraftSpool,
    store_pause: StorePause,
    suspension: Suspension,
) -> Execution:
    """Read the record of a taken job. Only `functions` may be called: writing to Valkey must not mean running code.

    Raises InvalidJobRecord.
    """
    fields, ref = taken.fields, taken.execution
    name, arguments, keywords = _read_call(taken)
    if name not in functions:
        raise InvalidJobRecord(f"its function {name[:80]!r} is not one of ours")
    timeout = _timeout_seconds(fields, default_timeout_seconds)
    result_ttl = ttl_seconds(fields, "result_ttl")
    job = RagWorkerJob(
        job_id=ref.job_id,
        queue=ref.queue,
        valkey=valkey,
        notes=_read_notes(fields),
        enqueued_at=_time(fields, "enqueued_at"),
        timeout_seconds=timeout,
        result_ttl_seconds=result_ttl if result_ttl > 0 else DEFAULT_TTL_SECONDS,
        ref=ref,
        attempt=int(fields["attempts"]),
        writer=writer,
        spool=spool,
        call=fields.get("data", b""),
        store_pause=store_pause,
        draft=fields.get("draft"),
    )
    return Execution(
        ref=ref,
        job=job,
        function=_import_function(name),
        arguments=arguments,
        keywords=keywords,
        deadline=Deadline(timeout if timeout > 0 else None, in_doubt=lambda: suspension.unconfirmed),
        result_ttl=result_ttl,
        failure_ttl=ttl_seconds(fields, "failure_ttl"),
        is_suspect=_is_suspect(fields),
    )


def _read_call(taken: TakenJob) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return the name of the function, its arguments and its keyword arguments."""
    if taken.previous_status not in {status.value for status in _WAITING}:
        raise InvalidJobRecord(f"its status was {taken.previous_status[:40]!r}")
    if any(taken.fields.get(name) for name in _CALLBACKS):
        raise InvalidJobRecord("it asks for a callback")
    if _time(taken.fields, "created_at") is None:  # the API could not show the job
        raise InvalidJobRecord("it has no valid time of creation")
    try:
        return read_call(taken.fields.get("data"))
    except NotPlainData as error:
        raise InvalidJobRecord(str(error)) from None


def ttl_seconds(fields: Mapping[str, bytes], name: str) -> int:
    """Read a time to live; the default when the field is missing or not a number."""
    try:
        return int(fields[name])
    except (KeyError, ValueError):
        return DEFAULT_TTL_SECONDS


def _is_suspect(fields: Mapping[str, bytes]) -> bool:
    losses = fields.get("losses", b"0")
    return losses.isdigit() and int(losses) >= SUSPECT_LOSSES


def _timeout_seconds(fields: Mapping[str, bytes], default_seconds: int) -> int:
    raw = fields.get("timeout")
    if not raw:
        return default_seconds
    try:
        return int(parse_timeout(raw.decode()) or default_seconds)
    except Exception as error:  # noqa: BLE001  RQ's parser raises errors of many types
        raise InvalidJobRecord(f"its timeout cannot be read: {type(error).__name__}") from None


def _time(fields: Mapping[str, bytes], name: str) -> datetime | None:
    """Read a time; None when the field is missing or not a time."""
    try:
        return read_timestamp(fields[name].decode())
    except (KeyError, ValueError):
        return None


def _read_notes(fields: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the notes of earlier attempts, without their failure."""
    try:
        notes = PlainSerializer.loads(fields["meta"]) if fields.get("meta") else {}
    except NotPlainData as error:
        raise InvalidJobRecord(f"its notes cannot be read: {error}") from None
    if not isinstance(notes, dict):
        raise InvalidJobRecord("its notes are not a dict")
    return {key: value for key, value in notes.items() if key != "failure"}


def _import_function(name: str) -> Callable[..., Any]:
    """Return the job function of a name; the same job as a coroutine function where there is one."""
    module_name, _, attribute = name.rpartition(".")
    module = importlib.import_module(module_name)
    function: Callable[..., Any] = getattr(module, attribute)
    return getattr(module, f"{attribute}_async", function)
