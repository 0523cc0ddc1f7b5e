"""The thread that renews a worker's leases, recovers the jobs of dead workers, and runs the schedule."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from redis.exceptions import RedisError, ResponseError
from rq.scripts import acquire_or_refresh_lock, release_lock

from client.rq import fair_queue
from client.rq.transitions import ExecutionRef, JobTransitions
from client.valkey import keys
from errors import SettingsError
from queues.ragworker.recovery import Intervals, Recovery

log = logging.getLogger("rq.worker")

# Cancelled jobs checked in one step. Jobs that RQ itself cancelled never expire: they are checked again in an hour.
PRUNE_BATCH = 1_000
SCHEDULER_LOCK_SECONDS = 61


class Maintenance:
    """The maintenance thread of one worker.

    Args:
        transitions: writes the steps of jobs.
        queues: names of the worker's queues.
        running: returns the executions that run here now.
        on_heartbeat: receives the monotonic time of a heartbeat, and the executions that had lost their job.
        on_cancelled: receives the id of a job that runs here and was cancelled.
        register: registers this worker with RQ; called when the worker's record has expired.
        prune: removes what else is no longer needed; may raise RedisError.
        owner: a unique name of this worker, for RQ's scheduler lock.
        intervals: when each part is due.

    """

    def __init__(
        self,
        transitions: JobTransitions,
        queues: Sequence[str],
        *,
        running: Callable[[], list[ExecutionRef]],
        on_heartbeat: Callable[[float, list[ExecutionRef]], None],
        on_cancelled: Callable[[str], object],
        register: Callable[[], None],
        prune: Callable[[], None],
        intervals: Intervals,
        heartbeat_file: Path | None = None,
    ) -> None:
        self._transitions = transitions
        self._queues = queues
        self._running = running
        self._on_heartbeat = on_heartbeat
        self._on_cancelled = on_cancelled
        self._register = register
        self._prune_rest = prune
        self._owner = transitions.worker
        self._intervals = intervals
        self._heartbeat_file = heartbeat_file
        self._stop = threading.Event()
        self._wake = threading.Event()
        # Unix seconds.
        self._last_heartbeat = 0.0
        self._steady_since = time.time()
        self._next_recovery = 0.0
        self._next_prune = 0.0
        self._recovery = Recovery(transitions, queues, intervals)
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
            self._run_part("HEARTBEAT_FILE", self._touch_file)
        now = time.time()
        for queue in self._queues:
            self._run_part(f"the schedule of {queue}", partial(self._enqueue_due, queue))
        if now >= self._next_recovery:
            self._next_recovery = now + self._intervals.recovery
            # While the heartbeat of this worker does not reach Valkey, the heartbeats of other workers may not either.
            beating = now - self._last_heartbeat <= self._intervals.max_gap
            steady = beating and now - self._steady_since >= self._intervals.steady
            for queue in self._queues:
                self._run_part(f"recovery on {queue}", partial(self._recovery.find, queue, now, steady=steady))
            for queue in self._queues:
                self._run_part(f"recovery on {queue}", partial(self._recovery.recover, queue, now, steady=steady))
        if now >= self._next_prune:
            self._next_prune = now + self._intervals.prune
            for queue in self._queues:
                self._run_part(f"pruning {queue}", partial(self._prune, queue, now))
            self._run_part("pruning drafts", self._prune_rest)

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
        began = time.monotonic()
        heartbeat = self._transitions.heartbeat(self._running())
        self._registered = heartbeat.worker_known
        # By the wall clock, so that a sleep of the machine counts as an outage too.
        now = time.time()
        if now - self._last_heartbeat > self._intervals.max_gap:
            self._steady_since = now
        self._last_heartbeat = now
        self._on_heartbeat(began, heartbeat.lost)
        for execution in heartbeat.cancelled:  # the stop command may have been missed
            self._on_cancelled(execution.job_id)

    def _touch_file(self) -> None:
        """Touch HEARTBEAT_FILE. A file that cannot be written is no sign that Valkey is away, as other OSErrors are."""
        if self._heartbeat_file is not None:
            try:
                self._heartbeat_file.touch()
            except OSError as error:
                raise SettingsError(f"HEARTBEAT_FILE {self._heartbeat_file}: {error.strerror}") from None

    def _ensure_registered(self) -> None:
        if not self._registered:
            self._register()

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
