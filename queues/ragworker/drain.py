"""Letting a worker run empty, so that a job which has to run alone does not wait for ever behind the other queues."""

from __future__ import annotations

import threading
import time

from redis import Redis

from client.valkey import keys

# After this time the job runs beside what still runs: one long job must not hold up all others.
DRAIN_SECONDS = 30.0
# The lock of a worker that died is free after this time.
LOCK_SECONDS = 10


class Drain:
    """The draining of one worker for the next job of one queue. Safe for threads. Methods raise RedisError.

    One worker at a time drains for a queue: the others go on with theirs.
    """

    def __init__(self, valkey: Redis, worker: str) -> None:
        self._valkey = valkey
        self._worker = worker
        self._queue: str | None = None
        self._since = 0.0
        self._lock = threading.Lock()

    def stops(self, queue: str) -> bool:
        """Return True while the worker drains for another queue."""
        return self._queue not in {None, queue}

    def is_over(self, queue: str) -> bool:
        """Return True once the worker has drained for this queue as long as it may."""
        return self._queue == queue and time.monotonic() - self._since >= DRAIN_SECONDS

    def go_on(self, queue: str) -> None:
        """Begin to drain for a queue, or go on with it, unless this worker or another one drains already."""
        with self._lock:
            if self._queue == queue:
                self._valkey.set(keys.drain(queue), self._worker, ex=LOCK_SECONDS)
            elif self._queue is None and self._valkey.set(keys.drain(queue), self._worker, nx=True, ex=LOCK_SECONDS):
                self._queue, self._since = queue, time.monotonic()

    def end(self, queue: str) -> None:
        """End the draining for a queue, if there is any."""
        with self._lock:
            if self._queue == queue:
                self._queue = None
                self._valkey.delete(keys.drain(queue))
