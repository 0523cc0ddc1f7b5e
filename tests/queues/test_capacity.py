"""Slots for running jobs, and the queue that gets the next one."""

from __future__ import annotations

import itertools
import threading

from queues.ragworker.capacity import Capacity
from queues.ragworker.worker import queue_limits
from tests.support.processes import wait_until


def test_each_queue_has_its_limit_and_all_together_no_more_than_the_total() -> None:
    limits = queue_limits(["rag_queries", "rag_documents", "rag_webhooks"], 16)
    documents = limits["rag_documents"]  # as many as there are cores to spare
    assert documents in {1, 2}
    capacity = Capacity(16, limits)
    assert capacity.acquire("rag_documents", timeout_seconds=0) == documents
    assert capacity.acquire("rag_documents", timeout_seconds=0) == 0
    assert capacity.acquire("rag_queries", timeout_seconds=0) == 16 - documents
    assert capacity.acquire("rag_webhooks", timeout_seconds=0) == 0
    assert capacity.used == 16


def test_a_freed_slot_goes_to_the_queue_that_uses_less_of_its_limit() -> None:
    capacity = Capacity(4, {"a": 4, "b": 1})
    assert capacity.acquire("a", timeout_seconds=0) == 4
    granted: list[str] = []

    def ask(queue: str) -> None:
        if capacity.acquire(queue, timeout_seconds=5):
            granted.append(queue)

    threads = [threading.Thread(target=ask, args=(queue,)) for queue in ("a", "b")]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(capacity._waiting) == 2)
    capacity.release("a")
    wait_until(lambda: granted)
    assert granted == ["b"]
    capacity.release("a")
    for thread in threads:
        thread.join(5)
    assert granted == ["b", "a"]


def test_with_one_slot_two_queues_take_turns() -> None:
    capacity = Capacity(1, {"a": 1, "b": 1})
    granted: list[str] = []

    def ask(queue: str) -> None:
        for _ in range(5):
            while not capacity.acquire(queue, timeout_seconds=5):
                pass
            granted.append(queue)
            wait_until(lambda: len(capacity._waiting) == 1 or len(granted) >= 9)
            capacity.release(queue)

    threads = [threading.Thread(target=ask, args=(queue,)) for queue in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(granted) == ["a"] * 5 + ["b"] * 5
    assert all(first != second for first, second in itertools.pairwise(granted[:9]))


def test_a_closed_capacity_grants_no_slot() -> None:
    capacity = Capacity(1, {"a": 1})
    capacity.close()
    assert capacity.acquire("a", timeout_seconds=0) == 0
