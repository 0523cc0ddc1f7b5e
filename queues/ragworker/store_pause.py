"""Taking no jobs that need the vector store while it does not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime

from redis import Redis
from redis.exceptions import RedisError

from client.rq.records import QUEUES
from client.valkey.store_outage import end_outage, note_outage

log = logging.getLogger("rq.worker")

QUEUES_WITH_STORE = frozenset({QUEUES["chat"], QUEUES["document"]})
# The waits between two probes. The first is shorter, because a restart is short.
FIRST_PROBE_SECONDS = 0.5
PROBE_SECONDS = 1.0


class StorePause:
    """The pause of a worker's queues while the vector store is away. Safe for threads.

    A job that the store did not answer begins the pause; it ends as soon as `store_answers` says so. Valkey knows of
    the pause meanwhile, for `/ready`. Other workers find out for themselves.
    """

    def __init__(self, valkey: Redis, store_answers: Callable[[], bool], queues: Collection[str]) -> None:
        self._valkey = valkey
        self._store_answers = store_answers
        self._queues = QUEUES_WITH_STORE.intersection(queues)
        self._open = threading.Event()
        self._open.set()
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def stops(self, queue: str) -> bool:
        """Return True while no job may be taken from a queue."""
        return queue in self._queues and not self._open.is_set()

    @property
    def closed(self) -> bool:
        """True once the worker stops."""
        return self._closed.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the pause, at most this long."""
        self._open.wait(seconds)

    def begin(self) -> None:
        """Begin the pause, unless it has begun."""
        with self._lock:
            if self._open.is_set() and not self._closed.is_set():
                self._open.clear()
                threading.Thread(target=self._probe, name="store-probe", daemon=True).start()

    def close(self) -> None:
        """End the pause."""
        with self._lock:
            self._closed.set()
            self._open.set()

    def _probe(self) -> None:
        """Wait for the store, and end the pause."""
        since, began = datetime.now(UTC), time.monotonic()
        log.warning("the vector store does not answer; %s wait for it", ", ".join(sorted(self._queues)))
        delay = FIRST_PROBE_SECONDS
        while not self._closed.wait(delay):
            delay = PROBE_SECONDS
            with suppress(RedisError, OSError):
                note_outage(self._valkey, since)
            if self._answers():
                log.warning("the vector store answers again, after %.1f s", time.monotonic() - began)
                break
        with suppress(RedisError, OSError):
            end_outage(self._valkey)
        with self._lock:
            self._open.set()

    def _answers(self) -> bool:
        try:
            return self._store_answers()
        except Exception:
            log.exception("the vector store cannot be probed; the next jobs try it")
            return True
