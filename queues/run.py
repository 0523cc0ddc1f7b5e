"""A worker process, as `python main.py worker` runs it."""

from __future__ import annotations

import logging
import time

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from client.rq.records import QUEUES
from errors import SettingsError, StoreInUse
from queues import wiring as services
from queues.ragworker.worker import RagWorker
from queues.wiring import Services
from settings import Settings
from settings.unencrypted import unencrypted_secrets
from webhooks.relay import RelayThread, open_events

log = logging.getLogger("rq.worker")

AGAIN_SECONDS = 0.5


def run_worker(settings: Settings, *, url: str, patience_seconds: float = 0.0) -> None:
    """Work on all queues until told to stop: SIGTERM and Ctrl-C let running jobs finish.

    Jobs run in this process, so that it needs no fork (Windows has none), imports once, and keeps the embedded
    store open. Raises StoreInUse when another worker owns that store, after so many seconds of patience.
    """
    for warning in unencrypted_secrets(settings):
        log.warning(warning)
    services.preload(settings)
    opened = _open(settings, patience_seconds)
    services.use(opened)
    sweep = RelayThread(open_events(settings.model_copy(update={"valkey_url": url})))
    sweep.start()
    try:
        connection = Redis.from_url(url)
        _wait_for(connection)
        worker = RagWorker(list(QUEUES.values()), connection=connection, settings=settings)
        worker.work(logging_level=settings.log_level)
    finally:
        sweep.stop()
        opened.close()


def _open(settings: Settings, patience_seconds: float) -> Services:
    """Open the services, when whoever owns the embedded store lets go of it. Raises StoreInUse."""
    deadline, said = time.monotonic() + patience_seconds, False
    while True:
        try:
            return services.open_services(settings, owner=settings.qdrant_url is None)
        except StoreInUse:
            if time.monotonic() >= deadline:
                raise
        if not said:
            log.warning(
                "waiting up to %.0f s for the embedded store: the worker of an earlier start may be finishing its jobs",
                patience_seconds,
            )
        said = True
        time.sleep(AGAIN_SECONDS)


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
