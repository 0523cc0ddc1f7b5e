"""The job of the queue's benchmark, as RQ workers run it."""

from __future__ import annotations

from bench.peers import work


def job() -> None:
    work.job()
