"""A worker process, as `python main.py worker` runs it."""

from __future__ import annotations

import logging
import time

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from client.job_record import QUEUES
from client.tls import in_the_clear
from client.webhook_events import SweepThread, open_events
from errors import SettingsError
from queues import services
from queues.rag_worker import RagWorker
from settings import Settings

log = logging.getLogger("rq.worker")

AGAIN_SECONDS = 0.5


def run_worker(settings: Settings, *, url: str) -> None:
    """Work on all queues until told to stop: SIGTERM and Ctrl-C let running jobs finish.

    Jobs run in this process, so that it needs no fork (Windows has none), imports once, and keeps the embedded
    store open. Raises StoreInUse when another worker owns that store.
    """
    for sentence in in_the_clear(settings):
        log.warning(sentence)
    services.preload(settings)
    opened = services.open_services(settings, owner=settings.qdrant_url is None)
    services.use(opened)
    sweep = SweepThread(open_events(settings.model_copy(update={"valkey_url": url})))
    sweep.start()
    try:
        connection = Redis.from_url(url)
        _wait_for(connection)
        worker = RagWorker(list(QUEUES.values()), connection=connection, settings=settings)
        worker.work(logging_level=settings.log_level)
    finally:
        sweep.stop()
        opened.close()


def _wait_for(connection: Redis) -> None:
    """Wait until Valkey answers."""
    said = False
    while True:
        try:
            connection.ping()
        except AuthenticationError:
            raise SettingsError("Valkey rejected the password: check VALKEY_URL") from None
        except RedisError:
            if not said:
                log.warning("Valkey is away; trying again until it is back")
            said = True
            time.sleep(AGAIN_SECONDS)
        else:
            return
