"""The steps that a job takes in Valkey. Each step is one Lua script, so that no crash leaves a job between two of them.

Each step but `take` is fenced: it does nothing unless the execution still holds the job, that is, unless the pair
`{job}:{execution}` is in the registry of running jobs. Scripts also use keys that are not among their KEYS but made of
ids; a single Valkey server allows such keys, and RQ does not run on a cluster either.

A step that ends a job also releases the jobs that waited for it. If the release fails, as crafted records can cause,
the job has ended all the same.

No method retries. A call that fails may or may not have changed Valkey; the caller can repeat every step.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from redis import Redis
from redis.exceptions import ResponseError
from rq.results import Result

from client.rq import fair_queue, holder
from client.rq.event_writer import WRITE_EVENTS
from client.rq.records import rq_timestamp
from client.rq.scripts import load_script
from client.rq.serializer import PlainSerializer
from client.valkey import keys
from client.valkey.scripts import Constant, Script, ScriptCall

log = logging.getLogger("rq.worker")

# An execution without a heartbeat for this long may be taken over. Heartbeats come every second.
LEASE_SECONDS = 3
# The longest lease that is believed: version 0.1 granted leases of 12 s.
LONGEST_LEASE_SECONDS = 12
# How long RQ's registry of running jobs keeps a pair, as under RQ's own workers. RQ fails the job of an older pair, so
# this time must be much longer than the lease.
REGISTRY_SECONDS = 90
WORKER_SECONDS = 30
# So many deaths of its worker, while nothing else died, make a job a dead letter.
MAX_DEATHS = 3
# After so many deaths of its worker together with other jobs, a job is run alone.
SUSPECT_LOSSES = 3
# How long a failed job is kept whose record gives no other time.
DEFAULT_TTL_SECONDS = 86_400
# A cancelled job that still exists is checked again after this long.
RECHECK_SECONDS = 3_600
STOPPED = "Job stopped by user"
ABANDONED = f"AbandonedJobError: the worker that ran the job died, {MAX_DEATHS} times"
DIED = {"code": "worker_died", "detail": f"the worker died while it ran this job, {MAX_DEATHS} times; ask again"}
# The fields of a job's record that a worker needs to run it.
FIELDS = (
    "data",
    "origin",
    "created_at",
    "enqueued_at",
    "timeout",
    "result_ttl",
    "failure_ttl",
    "meta",
    "description",
    "deaths",
    "losses",
    "draft",
    "attempts",
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
)

FinalStatus = Literal["finished", "failed", "stopped"]
# A field that a running job writes: its notes, or what its model answered.
RunningField = Literal["meta", "draft"]
RUNNING_FIELDS: tuple[RunningField, ...] = ("meta", "draft")


@dataclass(frozen=True, slots=True)
class ExecutionRef:
    """The execution that holds a job. `started_at` is in Unix seconds."""

    queue: str
    job_id: str
    execution_id: str
    started_at: float


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job just taken: the status it had before, and the FIELDS that its record has."""

    execution: ExecutionRef
    previous_status: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended.

    `result`: the returned value as `encode_result` gives it, or the exception's text as `encode_exception` does.
    `meta`: the notes to store; None leaves the stored ones. `seconds`: how long the job ran.
    """

    status: FinalStatus
    result: str
    ttl_seconds: int
    meta: bytes | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HandBack:
    """A job goes back to the front of its list, to be run again, after it ran for `seconds`.

    `store_away`: because the vector store did not answer.
    """

    seconds: float
    store_away: bool = False
    status: ClassVar[str] = "handed back"


@dataclass(frozen=True, slots=True)
class TakeResult:
    """The jobs taken from a list, and the ids that were dropped from it, each with the reason.

    `suspended`: `rq suspend` is in effect, and nothing was taken. `suspect_waits`: the next job must run alone.
    """

    jobs: list[TakenJob]
    dropped: list[tuple[str, str]]
    suspended: bool
    suspect_waits: bool


@dataclass(frozen=True, slots=True)
class HeartbeatResult:
    """The result of a heartbeat.

    `worker_known`: Valkey has the worker's record. `lost`: the executions that no longer hold their job. `cancelled`:
    the executions whose job was cancelled.
    """

    worker_known: bool
    lost: list[ExecutionRef]
    cancelled: list[ExecutionRef]


@dataclass(frozen=True, slots=True)
class StockExecution:
    """An execution by a stock worker. `attempt` 0: the job is another worker's. `worker_pid` 0: unknown."""

    execution_id: str
    attempt: int
    worker_pid: int


class JobTransitions:
    """The steps of jobs, for the worker of this name. Safe for threads.

    An execution without a heartbeat for `lease_seconds` is dead.
    """

    def __init__(self, valkey: Redis, worker: str, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self.valkey = valkey
        self.worker = worker
        self._lease_seconds = lease_seconds
        self._worker_key = keys.worker(worker)
        self._process = holder.current()

    def wait_for_job(self, queue: str, seconds: float) -> bool:
        """Wait until a job is on the list; return False when the time is up. The job stays at the head of the list."""
        key = keys.queue(queue)
        return self.valkey.blmove(key, key, int(seconds), "LEFT", "LEFT") is not None

    def take(self, queue: str, execution_ids: Sequence[str], *, idle: bool = True) -> TakeResult:
        """Take one job for each execution id, or fewer when fewer wait. A suspect is taken alone, if `idle`."""
        unix = time.time()
        arguments = [queue, self.worker, rq_timestamp(), unix, self._lease_seconds, REGISTRY_SECONDS]
        arguments += [self._process, int(idle), *execution_ids]
        script_keys = [keys.queue(queue), self._worker_key]
        suspended, jobs, dropped, suspect_waits = _TAKE.call(self.valkey, script_keys, arguments)
        texts = [text.decode(errors="replace") for text in dropped]
        return TakeResult(
            jobs=[_taken(queue, unix, job) for job in jobs],
            dropped=list(zip(texts[::2], texts[1::2], strict=True)),
            suspended=bool(suspended),
            suspect_waits=bool(suspect_waits),
        )

    def finish_call(self, execution: ExecutionRef, outcome: JobOutcome | HandBack) -> ScriptCall:
        """Return the call that writes how a job ended, or that hands it back.

        Its reply is 1 (written), 2 (written before, or the job was cancelled), or 0 (not written: the execution does
        not hold the job any more).
        """
        if isinstance(outcome, HandBack):
            return self._hand_back_call(execution)
        return ScriptCall(_FINISH, [self._worker_key], self._finish_arguments(execution, outcome))

    def save_call(self, execution: ExecutionRef, field: RunningField, value: bytes) -> ScriptCall:
        """Return the call that writes a field of a running job. Its reply is 0 when the execution has lost the job."""
        return ScriptCall(_SAVE_FIELD, (), [execution.queue, execution.job_id, execution.execution_id, field, value])

    def hand_back(self, execution: ExecutionRef) -> bool:
        """Put a job at the front of its list. Returns False when it was lost or cancelled."""
        return int(self._hand_back_call(execution).run(self.valkey)) == 1

    def hand_back_unconfirmed(self, queue: str, execution_ids: Iterable[str]) -> int:
        """Hand back the jobs of a `take` whose reply was lost. Returns how many."""
        unconfirmed = set(execution_ids)
        handed_back = 0
        for pair in cast("list[bytes]", self.valkey.zrange(keys.registry("wip", queue), 0, -1)):
            job_id, _, execution_id = pair.decode(errors="replace").partition(":")
            if execution_id in unconfirmed:
                handed_back += self.hand_back(ExecutionRef(queue, job_id, execution_id, 0.0))
        return handed_back

    def heartbeat(self, executions: Sequence[ExecutionRef]) -> HeartbeatResult:
        """Renew the worker's record and the leases of its executions."""
        arguments: list[Any] = [rq_timestamp(), time.time(), self._lease_seconds, REGISTRY_SECONDS, WORKER_SECONDS]
        arguments += ["busy" if executions else "idle", self.worker, self._process]
        for execution in executions:
            arguments += [execution.queue, execution.job_id, execution.execution_id, execution.started_at]
        known, *places = _HEARTBEAT.call(self.valkey, [self._worker_key], arguments)
        lost, cancelled = ([executions[int(place) - 1] for place in group] for group in places)
        return HeartbeatResult(bool(known), lost, cancelled)

    def recover_expired(self, queue: str) -> list[tuple[str, str]]:
        """Take every dead job of a queue from its execution, at once. Returns as `recover` does."""
        expired = self.find_expired(queue)
        return self.recover(queue, expired, alone=len(expired) == 1)

    def recover(
        self, queue: str, executions: Iterable[tuple[str, str]], *, alone: bool, dead: str = ""
    ) -> list[tuple[str, str]]:
        """Take jobs from executions that are dead. Returns pairs of job id and `requeued`, `dead` or `cancelled`.

        `executions` holds pairs of job and execution. `alone`: nothing else died, so the death counts against the job.
        `dead` names the process that held them, if it is known to be dead.
        """
        recovered = []
        meta = PlainSerializer.dumps({"failure": DIED})
        result = _result_fields(Result.Type.FAILED, "exc_string", encode_exception(ABANDONED), self.worker)
        for job_id, execution_id in executions:
            arguments = [queue, job_id, execution_id, rq_timestamp(), time.time(), MAX_DEATHS, DEFAULT_TTL_SECONDS]
            arguments += [dead, int(alone), meta, *result]
            try:
                verdict = _RECOVER_EXPIRED.call(self.valkey, (), arguments).decode()
            except ResponseError as error:  # the error of one job must not stop the others
                log.error("%s: %s cannot be taken from a dead worker: %s", queue, job_id, error)  # noqa: TRY400
                continue
            if verdict in {"requeued", "dead", "cancelled"}:
                recovered.append((job_id, verdict))
        return recovered

    def find_expired(self, queue: str) -> list[tuple[str, str]]:
        """Return the pairs of job and execution whose lease has run out."""
        return self._find(queue)

    def find_held_by(self, queue: str, process: str) -> list[tuple[str, str]]:
        """Return the pairs of job and execution that a process holds."""
        return self._find(queue, process)

    def _find(self, queue: str, *processes: str) -> list[tuple[str, str]]:
        expired = _FIND_EXPIRED.call(self.valkey, (), [queue, *processes])
        pairs = [pair.decode(errors="replace").partition(":") for pair in expired]
        return [(job_id, execution_id) for job_id, _, execution_id in pairs]

    def find_dead_processes(self, queue: str) -> list[str]:
        """Return the names of the dead processes of this host that hold jobs of a queue."""
        if not holder.host():
            return []
        names = _FIND_HOLDERS.call(self.valkey, (), [queue, holder.host()])
        return [name for name in (found.decode(errors="replace") for found in names) if holder.is_dead(name)]

    def start_stock_execution(self, queue: str, job_id: str) -> StockExecution:
        """Claim a job that a stock worker already executes under this name, and give its execution a lease."""
        parent = os.getppid()
        arguments = [queue, job_id, self.worker, self._lease_seconds, self._process, parent, holder.name_of(parent)]
        execution_id, attempt, pid = _START_STOCK_EXECUTION.call(self.valkey, (), arguments)
        return StockExecution(execution_id.decode(), int(attempt), int(pid) if pid.isdigit() else 0)

    def renew_stock_lease(self, execution: ExecutionRef) -> tuple[bool, bool]:
        """Renew a stock execution's lease. Returns whether it holds the job, and whether the job was cancelled."""
        arguments = [execution.queue, execution.job_id, execution.execution_id, self._lease_seconds, REGISTRY_SECONDS]
        verdict = int(_RENEW_STOCK_LEASE.call(self.valkey, (), arguments))
        return verdict > 0, verdict == 2  # noqa: PLR2004  as the script says

    def restore_unstarted(self, queue: str, job_id: str) -> bool:
        """Put a job that a stock worker took but never started back on its list. Returns True if it was put back."""
        script_keys = [keys.queue(queue), keys.intermediate(queue)]
        return bool(_RESTORE_UNSTARTED.call(self.valkey, script_keys, [job_id, queue]))

    def enqueue_due(self, queue: str) -> int:
        """Move scheduled jobs whose time has come to their list. Returns how many."""
        return int(_ENQUEUE_DUE.call(self.valkey, (), [queue, rq_timestamp(), int(time.time())]))

    def prune_cancelled(self, queue: str, limit: int) -> int:
        """Remove expired jobs from the registry of cancelled ones. Returns how many were checked: at most `limit`."""
        return int(_PRUNE_CANCELLED.call(self.valkey, (), [queue, time.time(), limit, RECHECK_SECONDS]))

    def _hand_back_call(self, execution: ExecutionRef) -> ScriptCall:
        arguments = [execution.queue, execution.job_id, execution.execution_id, rq_timestamp(), time.time()]
        return ScriptCall(_HAND_BACK, (), arguments)

    def _finish_arguments(self, execution: ExecutionRef, outcome: JobOutcome) -> list[Any]:
        unix = time.time()
        failed = outcome.status != "finished"
        kind = Result.Type.FAILED if failed else Result.Type.SUCCESSFUL
        field = "exc_string" if failed else "return_value"
        return [
            *(execution.queue, execution.job_id, execution.execution_id),
            *(outcome.status, rq_timestamp(), unix, outcome.ttl_seconds),
            *(outcome.meta or b"", "failed_job_count" if failed else "successful_job_count", outcome.seconds),
            *_result_fields(kind, field, outcome.result, self.worker),
            *("execution_id", execution.execution_id, "execution_started_at", execution.started_at),
            *("execution_ended_at", unix),
        ]


def _taken(queue: str, unix: float, job: list[Any]) -> TakenJob:
    job_id, execution_id, previous_status, values = job
    fields = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    execution = ExecutionRef(queue, job_id.decode(errors="replace"), execution_id.decode(), unix)
    return TakenJob(execution, previous_status.decode(errors="replace"), fields)


def _result_fields(kind: Result.Type, field: str, value: str, worker: str) -> list[Any]:
    return ["type", kind.value, "worker_name", worker, field, value]


def encode_exception(text: str) -> str:
    """Return an exception's text as RQ stores it."""
    return b64encode(zlib.compress(text.encode(errors="replace"))).decode()


def encode_result(value: Any) -> str:
    """Return a job's result as RQ stores it. Raises NotPlainData."""
    return b64encode(PlainSerializer.dumps(value)).decode()


def _load(name: str) -> Script:
    constants: dict[str, Constant] = {
        "DEFAULT_TTL": DEFAULT_TTL_SECONDS,
        "LONGEST_LEASE": LONGEST_LEASE_SECONDS,
        "SUSPECT_LOSSES": SUSPECT_LOSSES,
        "STOPPED": encode_exception(STOPPED),
        "FIELDS": FIELDS,
    }
    return load_script(name, {**fair_queue.LUA_CONSTANTS, **constants})


_TAKE = _load("take")
_FINISH = _load("finish")
_HAND_BACK = _load("hand_back")
_HEARTBEAT = _load("heartbeat")
_FIND_EXPIRED = _load("find_expired")
_FIND_HOLDERS = _load("find_holders")
_RECOVER_EXPIRED = _load("recover_expired")
_START_STOCK_EXECUTION = _load("start_stock_execution")
_RENEW_STOCK_LEASE = _load("renew_stock_lease")
_PRUNE_CANCELLED = _load("prune_cancelled")
_RESTORE_UNSTARTED = _load("restore_unstarted")
_ENQUEUE_DUE = _load("enqueue_due")
_SAVE_FIELD = _load("save_field")
# The scripts of what a running job writes, for `run_all`.
JOB_WRITE_SCRIPTS = (WRITE_EVENTS, _SAVE_FIELD, _FINISH, _HAND_BACK)
