"""How many jobs of each queue run at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Capacity:
    """Slots for running jobs: at most `total` in use, and for each queue at most its limit.

    The limits add up to more than `total`, so that no slot lies idle. When two queues wait for the same slot, the queue
    that uses less of its limit gets the slot; among equals, the queue that has waited longer. So a flood on one queue
    delays another queue by no more than the rest of one job.
    """

    def __init__(self, total: int, limits: Mapping[str, int]) -> None:
        self._total = total
        self._limits = dict(limits)
        self._used = dict.fromkeys(limits, 0)
        self._waiting: set[str] = set()
        # The number of the last grant to each queue, counted over all queues.
        self._last_grant = dict.fromkeys(limits, 0)
        self._grants = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, queue: str, *, timeout_seconds: float) -> int:
        """Wait for a free slot, and take every slot this queue may have. Returns how many; 0 after the time-out."""
        with self._changed:
            self._waiting.add(queue)
            try:
                self._changed.wait_for(lambda: self._closed or self._free(queue) > 0, timeout_seconds)
                count = 0 if self._closed else self._free(queue)
                self._used[queue] += count
                if count:
                    self._grants += 1
                    self._last_grant[queue] = self._grants
                return count
            finally:
                self._waiting.discard(queue)
                self._changed.notify_all()

    def release(self, queue: str, count: int = 1) -> None:
        """Give slots back."""
        with self._changed:
            self._used[queue] -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Grant no more slots."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def used(self) -> int:
        """The number of slots in use."""
        return sum(self._used.values())

    def _free(self, queue: str) -> int:
        """Return how many slots this queue may take now: at most 1 while a rival waits, 0 while a rival is next."""
        free = min(self._total - sum(self._used.values()), self._limits[queue] - self._used[queue])
        rivals = [q for q in self._waiting if q != queue and self._used[q] < self._limits[q]]
        if free <= 0 or any(self._rank(rival) < self._rank(queue) for rival in rivals):
            return 0
        return 1 if rivals else free

    def _rank(self, queue: str) -> tuple[float, int]:
        return self._used[queue] / self._limits[queue], self._last_grant[queue]
