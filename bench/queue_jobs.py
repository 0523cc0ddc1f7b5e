"""The job of the queue's benchmark, as RQ workers run it."""

from __future__ import annotations

from bench.peers import work


def job() -> None:
    work.job()


def nothing(_payload: object) -> None:
    """Do nothing, for a job that was submitted as a question is."""
