"""A job in the hands of this process: read with suspicion, run once, ended once."""

from __future__ import annotations

import importlib
import threading
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from rq.job import JobStatus as RqStatus
from rq.utils import parse_timeout, utcparse

from client.llm.deadline import Deadline
from client.rq.serializer import MAX_BYTES, NotPlainData, PlainSerializer
from client.rq.transitions import DEFAULT_TTL_SECONDS, ExecutionRef, TakenJob
from queues.context import JobContext

# What a worker runs. Writing another name to Valkey must not mean having it run.
# A list holds an id only while its job has one of these.
_WAITING = {RqStatus.QUEUED, RqStatus.STARTED, RqStatus.CREATED, RqStatus.DEFERRED, RqStatus.SCHEDULED}
_CALLBACKS = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
_PARTS = 4


class InvalidJobRecord(ValueError):
    """The record of a job makes no sense, or asks for what is not ours to do."""


@dataclass(kw_only=True, eq=False)
class RagWorkerJob(JobContext):
    """A job under RagWorker, which has counted the attempt and has the notes written by its own thread."""

    attempt: int
    write_notes: Callable[[bytes], None]

    def _begin_attempt(self) -> int:
        return self.attempt

    def _save_notes(self) -> None:
        self.write_notes(PlainSerializer.dumps(self.notes))


@dataclass(eq=False)
class Execution:
    """One run of one job. Whoever claims it first decides how it ends; later claims are void.

    The times to live, in seconds, are those of the job's record after it finished or failed.
    """

    holder: ExecutionRef
    job: RagWorkerJob
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    deadline: Deadline
    result_ttl: int
    failure_ttl: int
    _claimed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Take the right to say how it ended. True for the first to ask, ever."""
        with self._lock:
            first = not self._claimed
            self._claimed = True
            return first

    def call(self) -> Any:
        """Run the job's function."""
        return self.function(*self.arguments, **self.keywords)


def open_execution(
    taken: TakenJob,
    *,
    valkey: Redis,
    functions: Collection[str],
    default_timeout_seconds: int,
    write_meta: Callable[[ExecutionRef, bytes], None],
) -> Execution:
    """Make an execution of a job just taken. Raises Poisoned."""
    fields, holder = taken.fields, taken.holder
    if taken.previous_status not in {status.value for status in _WAITING}:
        raise InvalidJobRecord(f"its status was {taken.previous_status[:40]!r}")
    if any(fields.get(name) for name in _CALLBACKS):
        raise InvalidJobRecord("it asks for a callback")
    name, arguments, keywords = _read_call(fields)
    if name not in functions:
        raise InvalidJobRecord(f"its function {name[:80]!r} is not one of ours")
    timeout = _timeout(fields, default_timeout_seconds)
    _require_created_at(fields)
    result_ttl = ttl(fields, "result_ttl")
    job = RagWorkerJob(
        job_id=holder.job_id,
        queue=holder.queue,
        valkey=valkey,
        notes=_meta(fields),
        enqueued_at=_enqueued_at(fields),
        timeout_seconds=timeout,
        result_ttl_seconds=result_ttl if result_ttl > 0 else DEFAULT_TTL_SECONDS,
        attempt=int(fields["attempts"]),
        write_notes=lambda notes: write_meta(holder, notes),
    )
    return Execution(
        holder=holder,
        job=job,
        function=_resolve(name),
        arguments=arguments,
        keywords=keywords,
        deadline=Deadline(timeout if timeout > 0 else None),
        result_ttl=result_ttl,
        failure_ttl=ttl(fields, "failure_ttl"),
    )


def ttl(fields: Any, name: str) -> int:
    """Read a time to live in seconds; the default when there is none that makes sense."""
    try:
        return int(fields[name])
    except (KeyError, ValueError):
        return DEFAULT_TTL_SECONDS


def _read_call(fields: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    raw = fields.get("data")
    if not raw:
        raise InvalidJobRecord("it has no data")
    try:
        call = PlainSerializer.loads(_decompressed(raw))
    except (NotPlainData, zlib.error) as error:
        raise InvalidJobRecord(f"its data cannot be read: {error}") from None
    if not isinstance(call, tuple | list) or len(call) != _PARTS:
        raise InvalidJobRecord("its data is no call")
    name, instance, arguments, keywords = call
    if not isinstance(name, str) or instance is not None:
        raise InvalidJobRecord("its data names no function")
    if not isinstance(arguments, tuple | list) or not isinstance(keywords, dict):
        raise InvalidJobRecord("its arguments are none")
    return name, tuple(arguments), keywords


def _decompressed(raw: bytes) -> bytes:
    """Undo RQ's compression, which is left out in old records, without being blown up by it."""
    if len(raw) > MAX_BYTES:
        raise InvalidJobRecord(f"its data is larger than {MAX_BYTES} bytes")
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(raw, MAX_BYTES)
    except zlib.error:
        return raw
    if inflate.unconsumed_tail:
        raise InvalidJobRecord(f"its data is larger than {MAX_BYTES} bytes")
    return data


def _timeout(fields: Any, default_seconds: int) -> int:
    raw = fields.get("timeout")
    if not raw:
        return default_seconds
    try:
        return int(parse_timeout(raw.decode()) or default_seconds)
    except Exception as error:  # noqa: BLE001  RQ's parser raises whatever the text leads to
        raise InvalidJobRecord(f"its timeout makes no sense: {type(error).__name__}") from None


def _require_created_at(fields: Any) -> None:
    """Refuse a job without a creation time: the API could not show it."""
    try:
        utcparse(fields["created_at"].decode())
    except (KeyError, ValueError):
        raise InvalidJobRecord("it does not say when it was created") from None


def _enqueued_at(fields: Any) -> Any:
    """Read when it came to its queue, from which its wait is told; None when that makes no sense."""
    try:
        return utcparse(fields["enqueued_at"].decode())
    except (KeyError, ValueError):
        return None


def _meta(fields: Any) -> dict[str, Any]:
    try:
        meta = PlainSerializer.loads(fields["meta"]) if fields.get("meta") else {}
    except NotPlainData as error:
        raise InvalidJobRecord(f"its notes cannot be read: {error}") from None
    if not isinstance(meta, dict):
        raise InvalidJobRecord("its notes are none")
    return {key: value for key, value in meta.items() if key != "failure"}  # that of an earlier attempt


def _resolve(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
