"""The thread that keeps a worker's leases, takes up what dead workers left, and keeps the schedule and registries."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from redis.exceptions import RedisError, ResponseError
from rq.scripts import acquire_or_refresh_lock, release_lock

from client.rq import fair_queue
from client.rq.transitions import LEASE_SECONDS, ExecutionRef, JobTransitions
from client.valkey import keys

log = logging.getLogger("rq.worker")

BEAT_SECONDS = 1.0
REAP_SECONDS = 2.0
SWEEP_SECONDS = 60.0
# After an outage every lease has run out, though those who hold them live. They renew within a second or two of
# its end, so nobody is declared dead before this worker has seen Valkey without a gap for as long as a lease, nor
# while Valkey itself has just been started.
CALM_SECONDS = float(LEASE_SECONDS)
GAP_SECONDS = 5.0
# With a look every REAP_SECONDS this gives 28 s from Valkey's return to the last job recovered; 30 s is promised, and
# what `make chaos` allows, so it cannot be the wait.
VALKEY_UPTIME_SECONDS = 25
# Cancelled jobs, a few in each step: one that RQ itself cancelled is kept without end, and looked at again in an hour.
CANCELLED_AT_ONCE = 1_000
# A stock worker holds an id for milliseconds between taking it and starting it.
UNSTARTED_SECONDS = 15.0
SCHEDULER_LOCK_SECONDS = 61


class Maintenance:
    """One per worker.

    Args:
        ledger: where it all is written.
        queues: names of the worker's queues.
        running: gives what this worker runs now.
        lost: is told of executions whose job was taken from them.
        cancelled: is told the id of a job that runs here and was cancelled.
        register: makes this worker known to RQ, also when its record has expired.
        owner: a name of its own, for RQ's scheduler lock.

    """

    def __init__(
        self,
        ledger: JobTransitions,
        queues: Sequence[str],
        *,
        running: Callable[[], list[ExecutionRef]],
        lost: Callable[[list[ExecutionRef]], None],
        cancelled: Callable[[str], object],
        register: Callable[[], None],
        owner: str,
    ) -> None:
        self._ledger = ledger
        self._queues = queues
        self._running = running
        self._lost = lost
        self._cancelled = cancelled
        self._register = register
        self._owner = owner
        self._stop = threading.Event()
        self._due = threading.Event()
        self._last_beat = 0.0
        self._calm_since = time.time()
        self._reap_at = 0.0
        self._sweep_at = 0.0
        self._unstarted: dict[str, dict[str, float]] = {}
        self._known = True
        self._failing: set[str] = set()
        self._away = False
        self._thread = threading.Thread(target=self._loop, name="caretaker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """Have the next heartbeat now."""
        self._due.set()

    def stop(self) -> None:
        """End the thread, and give back the schedule."""
        self._stop.set()
        self._due.set()
        self._thread.join(BEAT_SECONDS + 5)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._tick()
                self._away = False
            except (RedisError, OSError) as error:
                if not self._away:
                    log.warning("Valkey is away (%s); trying again until it is back", type(error).__name__)
                self._away = True
            self._due.wait(BEAT_SECONDS / 2 if self._away else BEAT_SECONDS)
            self._due.clear()
        self._release_schedule()

    def _tick(self) -> None:
        """Do what is due, each part for itself. Raises RedisError and OSError when Valkey is away."""
        if self._attempt("the heartbeat", self._beat):
            self._attempt("this worker's record", self._make_known)
        now = time.time()
        for queue in self._queues:
            self._attempt(f"the schedule of {queue}", partial(self._promote, queue))
        if now >= self._reap_at:
            self._reap_at = now + REAP_SECONDS
            for queue in self._queues:
                self._attempt(f"recovery on {queue}", partial(self._reap, queue, now))
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            for queue in self._queues:
                self._attempt(f"sweeping {queue}", partial(self._sweep, queue, now))

    def _attempt(self, name: str, part: Callable[[], None]) -> bool:
        """Do one part; what stops it stops no other. False when it failed. Raises when Valkey is away."""
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

    def _beat(self) -> None:
        beat = self._ledger.heartbeat(self._running())
        self._known = beat.worker_known
        # The wall clock: a machine that slept counts as an outage too.
        now = time.time()
        if now - self._last_beat > GAP_SECONDS:
            self._calm_since = now
        self._last_beat = now
        if beat.lost:
            self._lost(beat.lost)
        for holder in beat.cancelled:  # what its command did not reach
            self._cancelled(holder.job_id)

    def _make_known(self) -> None:
        if not self._known:
            self._register()

    def _reap(self, queue: str, now: float) -> None:
        # Where Valkey does not take this worker's heartbeat, it may not have taken those of others.
        if now - self._calm_since < CALM_SECONDS or now - self._last_beat > GAP_SECONDS:
            return
        dead = self._ledger.find_expired(queue)
        unstarted = self._find_unstarted(queue, now)
        if (dead or unstarted) and self._valkey_has_just_started():
            return
        for job_id, verdict in self._ledger.recover_expired(queue) if dead else ():
            log.warning("%s: %s was held by a worker that died: %s", queue, job_id, verdict)
        for job_id in unstarted:
            if self._ledger.restore_unstarted(queue, job_id):
                log.warning("%s: %s was taken by a worker that died before it began: requeued", queue, job_id)
            self._unstarted[queue].pop(job_id, None)

    def _find_unstarted(self, queue: str, now: float) -> list[str]:
        """Find ids that have been in RQ's intermediate list for long, as far as this worker has seen."""
        listed = cast("list[bytes]", self._ledger.valkey.lrange(keys.intermediate(queue), 0, -1))
        known = self._unstarted.get(queue, {})
        seen = {job_id.decode(errors="replace") for job_id in listed}
        self._unstarted[queue] = {job_id: known.get(job_id, now) for job_id in seen}
        return [job_id for job_id, since in self._unstarted[queue].items() if now - since >= UNSTARTED_SECONDS]

    def _valkey_has_just_started(self) -> bool:
        info = cast("dict[str, int]", self._ledger.valkey.info("server"))
        return int(info["uptime_in_seconds"]) < VALKEY_UPTIME_SECONDS

    def _promote(self, queue: str) -> None:
        """Enqueue what is due, unless a scheduler of RQ's has the schedule."""
        key = keys.scheduler_lock(queue)
        got = acquire_or_refresh_lock(self._ledger.valkey, key, self._owner, SCHEDULER_LOCK_SECONDS)
        if got != "taken":
            self._ledger.enqueue_due(queue)
        fair_queue.adopt(self._ledger.valkey, queue)

    def _release_schedule(self) -> None:
        try:
            for queue in self._queues:
                release_lock(self._ledger.valkey, keys.scheduler_lock(queue), self._owner)
        except (RedisError, OSError):
            pass  # it expires by itself

    def _sweep(self, queue: str, now: float) -> None:
        """Forget what the registries keep of jobs that have expired, and workers that have died."""
        valkey = self._ledger.valkey
        for registry in ("finished", "failed"):
            valkey.zremrangebyscore(keys.registry(registry, queue), 0, now)
        while self._ledger.prune_cancelled(queue, CANCELLED_AT_ONCE) == CANCELLED_AT_ONCE:
            pass  # there are more
        for key in cast("set[bytes]", valkey.smembers(keys.queue_workers(queue))):
            if not key.startswith(keys.worker("").encode()) or not valkey.exists(key):
                valkey.srem(keys.queue_workers(queue), key)
                valkey.srem(keys.WORKERS, key)
