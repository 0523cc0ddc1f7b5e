"""How many jobs of each queue run at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Capacity:
    """Places for running jobs: at most `total`, and for each queue at most its share.

    Shares add up to more than there are, so that none lies idle. Where two queues want the same place, the one that
    has less of its share gets it, and among equals the one that has waited longer: a flood on one queue delays
    another by no more than the end of one job.
    """

    def __init__(self, total: int, shares: Mapping[str, int]) -> None:
        self._total = total
        self._shares = dict(shares)
        self._used = dict.fromkeys(shares, 0)
        self._waiting: set[str] = set()
        self._last = dict.fromkeys(shares, 0)
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, queue: str, *, timeout_seconds: float) -> int:
        """Wait for places and take all there are for this queue. Returns how many; 0 when none came in time."""
        with self._changed:
            self._waiting.add(queue)
            try:
                self._changed.wait_for(lambda: self._closed or self._free(queue) > 0, timeout_seconds)
                count = 0 if self._closed else self._free(queue)
                self._used[queue] += count
                if count:
                    self._turn += 1
                    self._last[queue] = self._turn
                return count
            finally:
                self._waiting.discard(queue)
                self._changed.notify_all()

    def release(self, queue: str, count: int = 1) -> None:
        """Give places back."""
        with self._changed:
            self._used[queue] -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Give no more places."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def used(self) -> int:
        """How many places are taken."""
        return sum(self._used.values())

    def _free(self, queue: str) -> int:
        """Count the places this queue may take now; one at a time while others with less of theirs wait."""
        free = min(self._total - sum(self._used.values()), self._shares[queue] - self._used[queue])
        rivals = [q for q in self._waiting if q != queue and self._used[q] < self._shares[q]]
        if free <= 0 or any(self._rank(rival) < self._rank(queue) for rival in rivals):
            return 0
        return 1 if rivals else free

    def _rank(self, queue: str) -> tuple[float, int]:
        return self._used[queue] / self._shares[queue], self._last[queue]
