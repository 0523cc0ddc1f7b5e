"""Running jobs in the process of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from rq import SimpleWorker

from client.rq.records import QUEUES
from queues import wiring
from queues.wiring import Services
from settings import Settings


@contextmanager
def worker_services(settings: Settings) -> Iterator[Services]:
    """Have jobs of this process use the services of these settings."""
    opened = wiring.open_services(settings)
    wiring.set_services(opened)
    try:
        yield opened
    finally:
        wiring.set_services(None)
        opened.close()


def work(settings: Settings, *, jobs: int | None = None) -> None:
    """Run what is on the queues, at most so many jobs, and end."""
    with worker_services(settings), Redis.from_url(settings.queue_url) as connection:
        SimpleWorker(list(QUEUES.values()), connection=connection).work(
            burst=True, max_jobs=jobs, logging_level="ERROR"
        )
