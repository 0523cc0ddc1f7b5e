"""Every key of Valkey, by topic. No other module spells a key. Stored data outlives a release: key texts never change.

`rq:` keys are RQ's own, as RQ 2.12 writes them; `rag:` keys are this program's.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote


def quoted(name: str) -> str:
    """Percent-encode a name that a caller chose, so that it cannot be read as another part of a key.

    Owner "a:b" with conversation "jobs" must not share a key with owner "a" and conversation "b". In Lua,
    `owner_key` of client/rq/lua/fair_queue.lua encodes names in the same way.
    """
    return quote(name, safe="", errors="surrogatepass")


# --- Jobs (RQ) ---


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"rq:job:{job_id}"


def results(job_id: str) -> str:
    """Return the key of a job's results, a stream; the last entry counts."""
    return f"rq:results:{job_id}"


def executions(job_id: str) -> str:
    """Return the key of the ids of a job's executions, a sorted set by expiry."""
    return f"rq:executions:{job_id}"


def execution(job_id: str, execution_id: str) -> str:
    """Return the key of one execution, a hash; its field `lease_until` is this program's."""
    return f"rq:execution:{job_id}:{execution_id}"


# --- Queues, registries and workers (RQ) ---

# The sets of the keys of all queues and of all workers.
QUEUES: Final = "rq:queues"
WORKERS: Final = "rq:workers"
# Exists while `rq suspend` stops all workers from taking jobs.
SUSPENDED: Final = "rq:suspended"


def queue(name: str) -> str:
    """Return the key of a queue, a list of job ids."""
    return f"rq:queue:{name}"


def intermediate(name: str) -> str:
    """Return the key of the list in which a stock worker keeps a job between the queue and its start."""
    return f"rq:queue:{name}:intermediate"


def registry(kind: str, name: str) -> str:
    """Return the key of a registry of a queue, a sorted set of job ids by expiry.

    `kind` is RQ's name: finished, failed, canceled, deferred, scheduled, or wip for the jobs that run, whose members
    are pairs `{job}:{execution}`.
    """
    return f"rq:{kind}:{name}"


def worker(name: str) -> str:
    """Return the key of a worker's record, a hash."""
    return f"rq:worker:{name}"


def worker_name(key: str) -> str:
    """Return the name of the worker whose record has this key."""
    return key.removeprefix(worker(""))


def queue_workers(name: str) -> str:
    """Return the key of the set of the keys of the workers that listen on a queue."""
    return f"rq:workers:{name}"


def scheduler_lock(name: str) -> str:
    """Return the key of the lock of the process that enqueues a queue's scheduled jobs."""
    return f"rq:scheduler-lock:{name}"


# --- Jobs (ours) ---

# The channel on which the id of each job that changes is published.
WAKE_CHANNEL: Final = "rag:wake"
# No owner has this key: the asterisk in an owner's name is quoted.
ALL_JOBS: Final = "rag:jobs:*"


def events(job_id: str) -> str:
    """Return the key of a job's events, a stream."""
    return f"rag:events:{job_id}"


def owner_jobs(owner: str) -> str:
    """Return the key of the ids of an owner's jobs, a sorted set by creation."""
    return f"rag:jobs:{quoted(owner)}"


def batch(batch_id: str) -> str:
    """Return the key of a batch, a list: its owner, then the ids of its jobs."""
    return f"rag:batch:{batch_id}"


def idempotency(digest: str) -> str:
    """Return the key of the entry of an idempotent request; `digest` is made of the user and their key."""
    return f"rag:idempotency:{digest}"


def fair_queue(name: str) -> str:
    """Return the key of the fair order of a queue, a sorted set; client/rq/fair_queue.py describes it."""
    return f"rag:turns:{name}"


# --- Conversations and answers ---


def conversation_jobs(owner: str, conversation_id: str) -> str:
    """Return the key of the ids of a conversation's jobs, a list."""
    return f"rag:conversation:{quoted(owner)}:{quoted(conversation_id)}:jobs"


def answer(digest: str) -> str:
    """Return the key of a cached answer, JSON; `digest` is made of all that the answer depends on."""
    return f"rag:answer:{digest}"


# --- Limits and the model provider ---

# The prefix of the keys that the library `limits` makes.
QUOTAS: Final = "rag:limits"
# How many calls of the provider failed in a row.
CIRCUIT_BREAKER_FAILURES: Final = "rag:provider:failures"
# Exists while calls of the provider are paused.
CIRCUIT_BREAKER_PAUSE: Final = "rag:provider:pause"
# Exists while one call is on trial after a pause.
CIRCUIT_BREAKER_TRIAL: Final = "rag:provider:trial"
RATE_LIMITER: Final = "rag:provider:bucket"


def provider_dialect(digest: str) -> str:
    """Return the key of what a model at an address does not take, a set; `digest` is made of both."""
    return f"rag:provider:dialect:{digest}"


# --- Sessions ---


def session(digest: str) -> str:
    """Return the key of a browser's session, the id of its API key; `digest` is the hash of the session's token."""
    return f"rag:session:{digest}"


# --- Links ---

# The key that signs links to cited pages.
LINK_KEY: Final = "rag:links:key"

# --- The deployment ---

# Its id, as SQL and the Qdrant server have it too.
DEPLOYMENT: Final = "rag:deployment"

# --- Metrics ---

# The counts of all processes, a hash: each field is a list in JSON, as in observability.metrics.Key.
COUNTS: Final = "rag:counts"

# --- The vector store ---

# Since when workers find it away; gone while they reach it.
STORE_OUTAGE: Final = "rag:store:away"
# How many uploads lack chunks in it; gone while none does.
STORE_INCOMPLETE: Final = "rag:store:incomplete"

# --- Workers ---


def drain(queue: str) -> str:
    """Return the key that exists while a worker runs empty for the next job of a queue: queues.ragworker.drain."""
    return f"rag:drain:{queue}"


# --- Webhooks ---

# Outbox entries whose job has not ended, by the time they were written: a sorted set of job ids.
OUTBOX_PENDING: Final = "rag:webhook:pending"
# Deliveries that wait for an attempt, by its time: a sorted set.
DELIVERIES_DUE: Final = "rag:webhook:due"
# Exists while one process sweeps the outbox.
OUTBOX_SWEEPER: Final = "rag:webhook:sweeper"
# No owner has this key: the asterisk in an owner's name is quoted.
ALL_ENDPOINTS: Final = "rag:webhook:endpoints:*"


def outbox_entry(job_id: str) -> str:
    """Return the key of a job's outbox entry, a hash: `intent` as JSON, `url:…` for each URL, `seen`."""
    return f"rag:webhook:intent:{job_id}"


def endpoint(endpoint_id: str) -> str:
    """Return the key of one endpoint, JSON."""
    return f"rag:webhook:endpoint:{endpoint_id}"


def endpoints(owner: str | None) -> str:
    """Return the key of the set of an owner's endpoint ids; for None, the set of all endpoint ids."""
    return ALL_ENDPOINTS if owner is None else f"rag:webhook:endpoints:{quoted(owner)}"


def webhook_secret(owner: str) -> str:
    """Return the key of the secret that signs deliveries to URLs given with a job."""
    return f"rag:webhook:secret:{quoted(owner)}"


def webhook_message(message_id: str) -> str:
    """Return the key of the body of an event."""
    return f"rag:webhook:message:{message_id}"


def delivery(delivery_id: str) -> str:
    """Return the key of a delivery, a hash: `record` as JSON, and `seq` beside it for scripts."""
    return f"rag:webhook:delivery:{delivery_id}"


def delivery_log(kind: str, name: str) -> str:
    """Return the key of the delivery ids of an owner, an endpoint, a job or all, a sorted set by creation."""
    return f"rag:webhook:log:{kind}:{quoted(name)}"


def slow_receiver(receiver: str) -> str:
    """Return the key that exists while a receiver is slow, because it recently timed out."""
    return f"rag:webhook:slow:{receiver}"


def receiver_probe(receiver: str) -> str:
    """Return the key that exists during an attempt at a slow receiver, and for a pause after it."""
    return f"rag:webhook:probe:{receiver}"


def slow_owner(owner: str) -> str:
    """Return the key that exists while one of an owner's receivers is slow."""
    return f"rag:webhook:held:{quoted(owner)}"


def owner_attempts(owner: str) -> str:
    """Return the key of an owner's deliveries that are being attempted, a sorted set by start."""
    return f"rag:webhook:trying:{quoted(owner)}"


# --- Copies of all keys ---

# Every key begins with one of these.
PREFIXES: Final = ("rq:", "rag:")
# What describes the processes of the moment, and the state of the world around them: no part of a backup.
_OF_PROCESSES: Final = (
    *(WORKERS, worker(""), SUSPENDED, scheduler_lock(""), "rq:scheduler:", "rq:clean_registries:", "rq:cron_scheduler"),
    *("rag:drain:", "rag:store:", "rag:provider:", OUTBOX_SWEEPER),
    *("rag:webhook:slow:", "rag:webhook:probe:", "rag:webhook:held:", "rag:webhook:trying:"),
)
_ENDED: Final = tuple(registry(kind, "") for kind in ("finished", "failed", "canceled"))
# What has to be of one moment for the queues to be whole.
_QUEUE_STATE: Final = (
    *(QUEUES, queue(""), *(registry(kind, "") for kind in ("wip", "deferred", "scheduled")), *_ENDED),
    *(fair_queue(""), "rag:jobs:", "rag:conversation:", OUTBOX_PENDING, DELIVERIES_DUE, DEPLOYMENT),
)
_OF_JOBS: Final = (job(""), results(""), executions(""), events(""), outbox_entry(""))
_EXECUTION: Final = execution("", "").removesuffix(":")


def is_of_process(name: bytes) -> bool:
    """Return True for a key about processes that run now, or about what they have found out."""
    return name.startswith(tuple(prefix.encode() for prefix in _OF_PROCESSES))


def is_queue_state(name: bytes) -> bool:
    """Return True for a key that makes sense only together with the other keys of the queues at the same moment."""
    return name.startswith(tuple(prefix.encode() for prefix in _QUEUE_STATE))


def is_registry_of_ended(name: bytes) -> bool:
    """Return True for the registries of jobs that have ended."""
    return name.startswith(tuple(prefix.encode() for prefix in _ENDED))


def job_of(name: str) -> str | None:
    """Return the id of the job that a key belongs to; None for a key of no single job."""
    if name.startswith(_EXECUTION):
        return name.removeprefix(_EXECUTION).rpartition(":")[0]
    prefix = next((prefix for prefix in _OF_JOBS if name.startswith(prefix)), None)
    if prefix is None:
        return None
    return name.removeprefix(prefix).removesuffix(":dependents").removesuffix(":dependencies")


# The keys as constants for Lua: scripts build `JOB .. id`, `WIP .. queue` and so on.
LUA_CONSTANTS: Final[dict[str, str]] = {
    "JOB": job(""),
    "RESULTS": results(""),
    "EXECUTIONS": executions(""),
    "EXECUTION": execution("", "").removesuffix(":"),
    "QUEUES": QUEUES,
    "QUEUE": queue(""),
    "WIP": registry("wip", ""),
    "FINISHED_JOBS": registry("finished", ""),
    "FAILED_JOBS": registry("failed", ""),
    "CANCELED_JOBS": registry("canceled", ""),
    "DEFERRED_JOBS": registry("deferred", ""),
    "SCHEDULED_JOBS": registry("scheduled", ""),
    "WORKER": worker(""),
    "SUSPENDED": SUSPENDED,
    "EVENTS": events(""),
    "FAIR_QUEUE": fair_queue(""),
    "OUTBOX_ENTRY": outbox_entry(""),
    "WAKE_CHANNEL": WAKE_CHANNEL,
}
