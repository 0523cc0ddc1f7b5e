"""Places for running jobs, and who gets them."""

from __future__ import annotations

import itertools
import threading

from queues.ragworker.capacity import Capacity
from queues.ragworker.worker import queue_limits
from tests.support.processes import wait_until


def test_each_queue_has_its_share_and_all_together_no_more_than_the_total() -> None:
    parts = queue_limits(["rag_queries", "rag_documents", "rag_webhooks"], 16)
    documents = parts["rag_documents"]  # as many as there are cores to spare
    assert documents in {1, 2}
    slots = Capacity(16, parts)
    assert slots.acquire("rag_documents", timeout_seconds=0) == documents
    assert slots.acquire("rag_documents", timeout_seconds=0) == 0
    assert slots.acquire("rag_queries", timeout_seconds=0) == 16 - documents
    assert slots.acquire("rag_webhooks", timeout_seconds=0) == 0
    assert slots.used == 16


def test_a_freed_place_goes_to_the_queue_that_has_less_of_its_share() -> None:
    slots = Capacity(4, {"a": 4, "b": 1})
    assert slots.acquire("a", timeout_seconds=0) == 4
    got: list[str] = []

    def ask(queue: str) -> None:
        if slots.acquire(queue, timeout_seconds=5):
            got.append(queue)

    threads = [threading.Thread(target=ask, args=(queue,)) for queue in ("a", "b")]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(slots._waiting) == 2)
    slots.release("a")
    wait_until(lambda: got)
    assert got == ["b"]
    slots.release("a")
    for thread in threads:
        thread.join(5)
    assert got == ["b", "a"]


def test_with_one_place_two_queues_take_turns() -> None:
    slots = Capacity(1, {"a": 1, "b": 1})
    got: list[str] = []

    def ask(queue: str) -> None:
        for _ in range(5):
            while not slots.acquire(queue, timeout_seconds=5):
                pass
            got.append(queue)
            wait_until(lambda: len(slots._waiting) == 1 or len(got) >= 9)
            slots.release(queue)

    threads = [threading.Thread(target=ask, args=(queue,)) for queue in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(got) == ["a"] * 5 + ["b"] * 5
    assert all(one != two for one, two in itertools.pairwise(got[:9]))


def test_closed_slots_give_nothing() -> None:
    slots = Capacity(1, {"a": 1})
    slots.close()
    assert slots.acquire("a", timeout_seconds=0) == 0
