"""A worker process, as `python main.py worker` runs it."""

from __future__ import annotations

from redis import Redis
from rq import SimpleWorker

from client.job_record import QUEUES
from client.webhook_events import SweepThread, open_events
from queues import services
from settings import Settings


def run_worker(settings: Settings, *, url: str) -> None:
    """Work on all queues until told to stop: SIGTERM and Ctrl-C let the running job finish.

    Jobs run in this process, so that it needs no fork (Windows has none), imports once, and keeps the embedded
    store open. Raises StoreInUse when another worker owns that store.
    """
    services.preload(settings)
    opened = services.open_services(settings, owner=settings.qdrant_url is None)
    services.use(opened)
    sweep = SweepThread(open_events(settings.model_copy(update={"valkey_url": url})))
    sweep.start()
    try:
        worker = SimpleWorker(list(QUEUES.values()), connection=Redis.from_url(url))
        worker.work(logging_level=settings.log_level, with_scheduler=True)
    finally:
        sweep.stop()
        opened.close()
