"""What RagWorker writes to Valkey: each step of a job as one call, over the scripts of `scripts`.

Nothing here retries: a call that fails may have been carried out or not, and every step can be asked for again.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError
from rq.results import Result
from rq.utils import now as rq_now
from rq.utils import utcformat

from client.rq import transition_scripts as scripts
from client.rq.serializer import PlainSerializer

log = logging.getLogger("rq.worker")

# An execution without a heartbeat for so long is dead. Heartbeats come every second.
LEASE_SECONDS = 12
# How long RQ's registry of started jobs keeps a pair: as long as RQ's own. RQ fails what is older, so it must
# outlive the lease by far.
REGISTRY_SECONDS = 90
WORKER_SECONDS = 30
MAX_ATTEMPTS = 3
DEFAULT_TTL_SECONDS = scripts.DEFAULT_TTL_SECONDS
STOPPED = scripts.STOPPED
LOOK_AGAIN_SECONDS = 3_600
ABANDONED = f"AbandonedJobError: the worker that ran the job died, {MAX_ATTEMPTS} times"
DIED = {"code": "worker_died", "detail": f"the worker died while it ran this job, {MAX_ATTEMPTS} times; ask again"}

FinalStatus = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ExecutionRef:
    """A job in the hands of one execution."""

    queue: str
    job_id: str
    execution_id: str
    started_at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job just taken: `previous_status` is the status it had, `fields` those of scripts.FIELDS that it has."""

    holder: ExecutionRef
    previous_status: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended.

    `result` is what it returned or the text of its exception, as `encode_result` and `encode_exception` give them.
    `meta` None is left as it is.
    """

    status: FinalStatus
    result: str
    ttl_seconds: int
    meta: bytes | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TakeResult:
    """What one look at a list gave: jobs, and ids that were no jobs to run, with the reason."""

    jobs: list[TakenJob]
    dropped: list[tuple[str, str]]
    suspended: bool


@dataclass(frozen=True, slots=True)
class HeartbeatResult:
    """What a heartbeat told: whether the worker is known, who lost its job, and whose job was cancelled."""

    worker_known: bool
    lost: list[ExecutionRef]
    cancelled: list[ExecutionRef]


@dataclass(frozen=True, slots=True)
class StockExecution:
    """An execution that another kind of worker made: `attempt` 0 when the job is another's, `worker_pid` 0 unknown."""

    execution_id: str
    attempt: int
    worker_pid: int


class JobTransitions:
    """The queues' records in one Valkey. Safe for threads."""

    def __init__(self, valkey: Redis, worker: str) -> None:
        self.valkey = valkey
        self._worker = worker
        self._worker_key = f"rq:worker:{worker}"

    def wait_for_job(self, queue: str, seconds: float) -> bool:
        """Wait until a job is on the list. It stays there: its head is moved onto the head of the same list."""
        key = f"rq:queue:{queue}"
        return self.valkey.blmove(key, key, int(seconds), "LEFT", "LEFT") is not None

    def take(self, queue: str, execution_ids: Sequence[str]) -> TakeResult:
        """Take a job for each execution id, or as many as there are."""
        unix = time.time()
        arguments = [queue, self._worker, _now(), unix, LEASE_SECONDS, REGISTRY_SECONDS, *execution_ids]
        keys = [f"rq:queue:{queue}", self._worker_key]
        suspended, jobs, dropped = self._run(_TAKE, keys, arguments)
        texts = [text.decode(errors="replace") for text in dropped]
        return TakeResult(
            jobs=[_taken(queue, unix, job) for job in jobs],
            dropped=list(zip(texts[::2], texts[1::2], strict=True)),
            suspended=bool(suspended),
        )

    def finish_all(self, endings: Sequence[tuple[ExecutionRef, JobOutcome]]) -> list[int | RedisError]:
        """Write how jobs ended, in one trip.

        Gives for each 1 (written), 2 (had been written), 0 (the execution no longer holds the job: nothing was
        written), or the error of that one.
        """
        return self._run_all(_FINISH, [([self._worker_key], self._finish_arguments(*each)) for each in endings])

    def save_meta(self, holder: ExecutionRef, meta: bytes) -> bool:
        """Write a running job's notes. False when the execution no longer holds the job."""
        return bool(self._run(_KEEP_META, [], [holder.queue, holder.job_id, holder.execution_id, meta]))

    def hand_back(self, holder: ExecutionRef) -> bool:
        """Put a job back at the front of its list. False when it is not there: lost to another, or cancelled."""
        arguments = [holder.queue, holder.job_id, holder.execution_id, _now(), time.time()]
        return int(self._run(_HAND_BACK, [], arguments)) == 1

    def hand_back_unconfirmed(self, queue: str, execution_ids: Iterable[str]) -> int:
        """Hand back what was taken by a call whose answer was lost. Returns how many jobs that were."""
        lost = set(execution_ids)
        done = 0
        for pair in cast("list[bytes]", self.valkey.zrange(f"rq:wip:{queue}", 0, -1)):
            job_id, _, execution_id = pair.decode(errors="replace").partition(":")
            if execution_id in lost:
                done += self.hand_back(ExecutionRef(queue, job_id, execution_id, 0.0))
        return done

    def heartbeat(self, holders: Sequence[ExecutionRef]) -> HeartbeatResult:
        """Renew the worker and the leases."""
        arguments: list[Any] = [_now(), time.time(), LEASE_SECONDS, REGISTRY_SECONDS, WORKER_SECONDS]
        arguments += ["busy" if holders else "idle", self._worker]
        for holder in holders:
            arguments += [holder.queue, holder.job_id, holder.execution_id, holder.started_at]
        known, *places = self._run(_BEAT, [self._worker_key], arguments)
        lost, cancelled = ([holders[int(place) - 1] for place in each] for each in places)
        return HeartbeatResult(bool(known), lost, cancelled)

    def recover_expired(self, queue: str) -> list[tuple[str, str]]:
        """Take jobs from dead executions. Gives pairs of job id and `requeued`, `dead` or `cancelled`."""
        done = []
        meta = PlainSerializer.dumps({"failure": DIED})
        result = _result_fields(Result.Type.FAILED, "exc_string", encode_exception(ABANDONED), self._worker)
        for job_id, execution_id in self.find_expired(queue):
            arguments = [queue, job_id, execution_id, _now(), time.time(), MAX_ATTEMPTS, DEFAULT_TTL_SECONDS, meta]
            try:
                verdict = self._run(_REAP, [], [*arguments, *result]).decode()
            except ResponseError as error:  # what stands in the way of one is no reason to leave the others
                log.error("%s: %s cannot be taken from a dead worker: %s", queue, job_id, error)  # noqa: TRY400
                continue
            if verdict in {"requeued", "dead", "cancelled"}:
                done.append((job_id, verdict))
        return done

    def find_expired(self, queue: str) -> list[tuple[str, str]]:
        """Find pairs of job and execution whose lease has run out."""
        pairs = [pair.decode(errors="replace").partition(":") for pair in self._run(_FIND_DEAD, [], [queue])]
        return [(job_id, execution_id) for job_id, _, execution_id in pairs]

    def start_stock_execution(self, queue: str, job_id: str) -> StockExecution:
        """Take in hand a job of which RQ's own worker of this name has made an execution, and give it a lease."""
        execution, attempt, pid = self._run(_BEGIN, [], [queue, job_id, self._worker, LEASE_SECONDS])
        return StockExecution(execution.decode(), int(attempt), int(pid) if pid.isdigit() else 0)

    def renew_stock_lease(self, holder: ExecutionRef) -> tuple[bool, bool]:
        """Renew the lease of such a job. Gives whether the execution holds the job, and whether it was cancelled."""
        arguments = [holder.queue, holder.job_id, holder.execution_id, LEASE_SECONDS, REGISTRY_SECONDS]
        verdict = int(self._run(_HOLD, [], arguments))
        return verdict > 0, verdict == 2  # noqa: PLR2004  as scripts.HOLD says

    def restore_unstarted(self, queue: str, job_id: str) -> bool:
        """Put a job that a stock worker took, but never started, back on its list."""
        key = f"rq:queue:{queue}"
        return bool(self._run(_PUT_BACK, [key, f"{key}:intermediate"], [job_id, queue]))

    def enqueue_due(self, queue: str) -> int:
        """Move jobs whose time has come from the schedule to their list. Returns how many."""
        return int(self._run(_PROMOTE, [], [queue, _now(), int(time.time())]))

    def prune_cancelled(self, queue: str, most: int) -> int:
        """Strike out cancelled jobs whose record has expired. Returns how many were looked at."""
        return int(self._run(_FORGET_CANCELLED, [], [queue, time.time(), most, LOOK_AGAIN_SECONDS]))

    def _finish_arguments(self, holder: ExecutionRef, ending: JobOutcome) -> list[Any]:
        unix = time.time()
        failed = ending.status != "finished"
        kind = Result.Type.FAILED if failed else Result.Type.SUCCESSFUL
        field = "exc_string" if failed else "return_value"
        return [
            *(holder.queue, holder.job_id, holder.execution_id, ending.status, _now(), unix, ending.ttl_seconds),
            *(ending.meta or b"", "failed_job_count" if failed else "successful_job_count", ending.seconds),
            *_result_fields(kind, field, ending.result, self._worker),
            *("execution_id", holder.execution_id, "execution_started_at", holder.started_at),
            *("execution_ended_at", unix),
        ]

    def _run(self, script: _Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return self.valkey.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Valkey was started anew
            return self.valkey.eval(script.text, len(keys), *keys, *arguments)

    def _run_all(self, script: _Script, calls: Sequence[tuple[list[str], list[Any]]]) -> list[int | RedisError]:
        pipeline = self.valkey.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
        answers = cast("list[int | RedisError]", pipeline.execute(raise_on_error=False))
        for place, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                try:
                    answers[place] = int(self._run(script, *calls[place]))
                except ResponseError as error:
                    answers[place] = error
        return answers


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    sha: str


def _script(text: str) -> _Script:
    return _Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


_TAKE = _script(scripts.TAKE)
_FINISH = _script(scripts.FINISH)
_HAND_BACK = _script(scripts.HAND_BACK)
_BEAT = _script(scripts.BEAT)
_FIND_DEAD = _script(scripts.FIND_DEAD)
_REAP = _script(scripts.REAP)
_BEGIN = _script(scripts.BEGIN)
_HOLD = _script(scripts.HOLD)
_FORGET_CANCELLED = _script(scripts.FORGET_CANCELLED)
_PUT_BACK = _script(scripts.PUT_BACK)
_PROMOTE = _script(scripts.PROMOTE)
_KEEP_META = _script(scripts.KEEP_META)


def _taken(queue: str, unix: float, job: list[Any]) -> TakenJob:
    job_id, execution_id, was, values = job
    fields = {name: value for name, value in zip(scripts.FIELDS, values, strict=True) if value is not None}
    holder = ExecutionRef(queue, job_id.decode(errors="replace"), execution_id.decode(), unix)
    return TakenJob(holder, was.decode(errors="replace"), fields)


def _result_fields(kind: Result.Type, field: str, value: str, worker: str) -> list[Any]:
    return ["type", kind.value, "worker_name", worker, field, value]


def encode_exception(text: str) -> str:
    """Return an exception's text as RQ stores it."""
    return b64encode(zlib.compress(text.encode(errors="replace"))).decode()


def encode_result(value: Any) -> str:
    """Return a job's result as RQ stores it. Raises NotPlainData."""
    return b64encode(PlainSerializer.dumps(value)).decode()


def _now() -> str:
    return str(utcformat(rq_now()))
