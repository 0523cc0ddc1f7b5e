"""The thread that renews a worker's leases, recovers the jobs of dead workers, and runs the schedule."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from redis.exceptions import RedisError, ResponseError
from rq.scripts import acquire_or_refresh_lock, release_lock

from client.rq import fair_queue
from client.rq.transitions import LEASE_SECONDS, ExecutionRef, JobTransitions
from client.valkey import keys

log = logging.getLogger("rq.worker")

# Cancelled jobs checked in one step. Jobs that RQ itself cancelled never expire: they are checked again in an hour.
PRUNE_BATCH = 1_000
SCHEDULER_LOCK_SECONDS = 61


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often a worker does each part of its maintenance, and for how long it waits before it acts. In seconds.

    After an outage of Valkey every lease has run out, though the workers live; they renew their leases within 2 s of
    Valkey's return. So a worker recovers no job until it has seen Valkey for `steady`, which is the length of a lease,
    without a gap of more than `max_gap`, and until Valkey has run for `valkey_uptime`. With a check every `recovery`
    the last job is recovered 28 s after Valkey's return; 30 s are promised, and `make chaos` allows no more.

    A job in RQ's intermediate list for `unstarted` counts as lost: a stock worker leaves a job there for milliseconds.
    """

    heartbeat: float = 1.0
    recovery: float = 2.0
    prune: float = 60.0
    steady: float = float(LEASE_SECONDS)
    max_gap: float = 5.0
    valkey_uptime: float = 25.0
    unstarted: float = 15.0


class Maintenance:
    """The maintenance thread of one worker.

    Args:
        transitions: writes the steps of jobs.
        queues: names of the worker's queues.
        running: returns the executions that run here now.
        on_lost: receives the executions that no longer hold their job.
        on_cancelled: receives the id of a job that runs here and was cancelled.
        register: registers this worker with RQ; called when the worker's record has expired.
        owner: a unique name of this worker, for RQ's scheduler lock.
        intervals: when each part is due.

    """

    def __init__(
        self,
        transitions: JobTransitions,
        queues: Sequence[str],
        *,
        running: Callable[[], list[ExecutionRef]],
        on_lost: Callable[[list[ExecutionRef]], None],
        on_cancelled: Callable[[str], object],
        register: Callable[[], None],
        owner: str,
        intervals: Intervals = Intervals(),
    ) -> None:
        self._transitions = transitions
        self._queues = queues
        self._running = running
        self._on_lost = on_lost
        self._on_cancelled = on_cancelled
        self._register = register
        self._owner = owner
        self._intervals = intervals
        self._stop = threading.Event()
        self._wake = threading.Event()
        # Unix seconds.
        self._last_heartbeat = 0.0
        self._steady_since = time.time()
        self._next_recovery = 0.0
        self._next_prune = 0.0
        # By queue: when this worker first saw each id in RQ's intermediate list.
        self._first_seen: dict[str, dict[str, float]] = {}
        self._registered = True
        self._failing: set[str] = set()
        self._away = False
        self._thread = threading.Thread(target=self._loop, name="maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Send the next heartbeat now."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, and release the scheduler locks."""
        self._stop.set()
        self._wake.set()
        self._thread.join(self._intervals.heartbeat + 5)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._tick()
                self._away = False
            except (RedisError, OSError) as error:
                if not self._away:
                    log.warning("Valkey is away (%s); trying again until it is back", type(error).__name__)
                self._away = True
            self._wake.wait(self._intervals.heartbeat / 2 if self._away else self._intervals.heartbeat)
            self._wake.clear()
        self._release_locks()

    def _tick(self) -> None:
        """Run each part that is due. Raises RedisError and OSError when Valkey is away."""
        if self._run_part("the heartbeat", self._send_heartbeat):
            self._run_part("this worker's record", self._ensure_registered)
        now = time.time()
        for queue in self._queues:
            self._run_part(f"the schedule of {queue}", partial(self._enqueue_due, queue))
        if now >= self._next_recovery:
            self._next_recovery = now + self._intervals.recovery
            for queue in self._queues:
                self._run_part(f"recovery on {queue}", partial(self._recover, queue, now))
        if now >= self._next_prune:
            self._next_prune = now + self._intervals.prune
            for queue in self._queues:
                self._run_part(f"pruning {queue}", partial(self._prune, queue, now))

    def _run_part(self, name: str, part: Callable[[], None]) -> bool:
        """Run one part, so that its failure stops no other part. False when the part failed. Raises as `_tick` does."""
        try:
            part()
        except ResponseError as error:
            if name not in self._failing:
                log.error("%s failed: Valkey refused it: %s; trying again", name, error)  # noqa: TRY400
            self._failing.add(name)
            return False
        except (RedisError, OSError):
            raise
        except Exception:
            if name not in self._failing:
                log.exception("%s failed; trying again", name)
            self._failing.add(name)
            return False
        self._failing.discard(name)
        return True

    def _send_heartbeat(self) -> None:
        heartbeat = self._transitions.heartbeat(self._running())
        self._registered = heartbeat.worker_known
        # By the wall clock, so that a sleep of the machine counts as an outage too.
        now = time.time()
        if now - self._last_heartbeat > self._intervals.max_gap:
            self._steady_since = now
        self._last_heartbeat = now
        if heartbeat.lost:
            self._on_lost(heartbeat.lost)
        for execution in heartbeat.cancelled:  # the stop command may have been missed
            self._on_cancelled(execution.job_id)

    def _ensure_registered(self) -> None:
        if not self._registered:
            self._register()

    def _recover(self, queue: str, now: float) -> None:
        """Requeue or fail the jobs of dead workers."""
        # While the heartbeat of this worker does not reach Valkey, the heartbeats of other workers may not either.
        if now - self._steady_since < self._intervals.steady or now - self._last_heartbeat > self._intervals.max_gap:
            return
        expired = self._transitions.find_expired(queue)
        unstarted = self._find_unstarted(queue, now)
        if (expired or unstarted) and self._valkey_has_just_started():
            return
        for job_id, verdict in self._transitions.recover_expired(queue) if expired else ():
            log.warning("%s: %s was held by a worker that died: %s", queue, job_id, verdict)
        for job_id in unstarted:
            if self._transitions.restore_unstarted(queue, job_id):
                log.warning("%s: %s was taken by a worker that died before it started the job: requeued", queue, job_id)
            self._first_seen[queue].pop(job_id, None)

    def _find_unstarted(self, queue: str, now: float) -> list[str]:
        """Return the ids that this worker has seen in RQ's intermediate list for `intervals.unstarted`."""
        listed = cast("list[bytes]", self._transitions.valkey.lrange(keys.intermediate(queue), 0, -1))
        before = self._first_seen.get(queue, {})
        job_ids = {job_id.decode(errors="replace") for job_id in listed}
        self._first_seen[queue] = {job_id: before.get(job_id, now) for job_id in job_ids}
        return [job_id for job_id, since in self._first_seen[queue].items() if now - since >= self._intervals.unstarted]

    def _valkey_has_just_started(self) -> bool:
        info = cast("dict[str, int]", self._transitions.valkey.info("server"))
        return int(info["uptime_in_seconds"]) < self._intervals.valkey_uptime

    def _enqueue_due(self, queue: str) -> None:
        """Enqueue the scheduled jobs that are due, unless a scheduler of RQ holds the lock."""
        key = keys.scheduler_lock(queue)
        lock = acquire_or_refresh_lock(self._transitions.valkey, key, self._owner, SCHEDULER_LOCK_SECONDS)
        if lock != "taken":
            self._transitions.enqueue_due(queue)
        fair_queue.adopt(self._transitions.valkey, queue)

    def _release_locks(self) -> None:
        try:
            for queue in self._queues:
                release_lock(self._transitions.valkey, keys.scheduler_lock(queue), self._owner)
        except (RedisError, OSError):
            pass  # each lock expires

    def _prune(self, queue: str, now: float) -> None:
        """Remove expired jobs and dead workers from the registries."""
        valkey = self._transitions.valkey
        for registry in ("finished", "failed"):
            valkey.zremrangebyscore(keys.registry(registry, queue), 0, now)
        while self._transitions.prune_cancelled(queue, PRUNE_BATCH) == PRUNE_BATCH:
            pass  # there are more
        for key in cast("set[bytes]", valkey.smembers(keys.queue_workers(queue))):
            if not key.startswith(keys.worker("").encode()) or not valkey.exists(key):
                valkey.srem(keys.queue_workers(queue), key)
                valkey.srem(keys.WORKERS, key)
