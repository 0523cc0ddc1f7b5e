"""A worker process, as `python main.py worker` runs it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from client.rq.records import QUEUES
from client.sql.database import Database
from errors import SettingsError, StoreError, StoreInUse, UploadsUnavailable
from queues import wiring
from queues.jobs import building
from queues.ragworker.worker import RagWorker
from queues.store_check import StoreCheck
from queues.wiring import Services
from settings import Settings
from settings.addresses import split_list
from settings.unencrypted import unencrypted_secrets
from webhooks.relay import RelayThread, open_relay

log = logging.getLogger("rq.worker")

RETRY_SECONDS = 0.5
AWAY_SECONDS = 2.0


def run_worker(settings: Settings, *, url: str, patience_seconds: float = 0.0) -> None:
    """Run a RagWorker on WORKER_QUEUES until SIGTERM or Ctrl-C, which let running jobs finish.

    Jobs run in this process: no fork is needed (Windows has none), modules are imported once, and the embedded store
    stays open. Raises StoreInUse when another worker still owns that store after `patience_seconds`.
    """
    queues = queues_of(settings)
    for warning in unencrypted_secrets(settings):
        log.warning(warning)
    wiring.preload(settings, langchain=False)
    services = _open_services(settings, patience_seconds)
    wiring.set_services(services)
    with_url = settings.model_copy(update={"valkey_url": url})
    relay = RelayThread(open_relay(with_url))
    relay.start()
    try:
        connection = Redis.from_url(url)
        worker = _make_worker(connection, settings, queues)
        with suppress(RedisError, UploadsUnavailable, StoreError):  # jobs wait for what is away, or say so
            wiring.establish_deployment(services, connection)
        _resume_build(services, connection)
        with StoreCheck(services, connection), _showing_metrics(with_url):
            worker.work(logging_level=settings.log_level)
    finally:
        relay.stop()
        services.close()


@contextmanager
def _showing_metrics(settings: Settings) -> Iterator[None]:
    """Show the metrics at METRICS_PORT, if it is set, while the block runs."""
    if settings.metrics_port is None:
        yield
        return
    from monitoring.collector import DeploymentMetrics  # imports prometheus-client
    from monitoring.port import MetricsPort

    database = Database(settings)
    metrics = DeploymentMetrics(settings, database)
    port = MetricsPort(settings, metrics)
    port.start()
    try:
        yield
    finally:
        port.stop()
        metrics.close()
        database.close()


def _resume_build(services: Services, connection: Redis) -> None:
    """Have the index built that the settings ask for, now or as soon as what is away is back."""

    def resume() -> bool:
        try:
            building.resume_build(services, connection)
        except (RedisError, UploadsUnavailable, StoreError):
            return False
        return True

    def resume_later() -> None:
        while not resume():
            time.sleep(AWAY_SECONDS)

    if not resume():
        threading.Thread(target=resume_later, name="resume-build", daemon=True).start()


def _open_services(settings: Settings, patience_seconds: float) -> Services:
    """Open the services, once the embedded store is free. Raises StoreInUse."""
    deadline, announced = time.monotonic() + patience_seconds, False
    while True:
        try:
            return wiring.open_services(settings, owner=settings.qdrant_url is None)
        except StoreInUse:
            if time.monotonic() >= deadline:
                raise
        if not announced:
            log.warning(
                "waiting up to %.0f s for the embedded store: the worker of an earlier start may be finishing its jobs",
                patience_seconds,
            )
        announced = True
        time.sleep(RETRY_SECONDS)


def queues_of(settings: Settings) -> list[str]:
    """Return the queues that WORKER_QUEUES names, or all. Raises SettingsError for a name that is no queue."""
    names = split_list(settings.worker_queues) or tuple(QUEUES.values())
    if unknown := sorted(set(names) - set(QUEUES.values())):
        raise SettingsError(
            f"WORKER_QUEUES names {', '.join(unknown)}, which is no queue: "
            f"set it to some of {', '.join(QUEUES.values())}"
        )
    return list(names)


def _make_worker(connection: Redis, settings: Settings, queues: list[str]) -> RagWorker:
    """Make the worker once Valkey answers. Raises SettingsError when Valkey rejects the password."""
    announced = False
    while True:
        try:
            connection.ping()
            return RagWorker(queues, connection=connection, settings=settings)
        except AuthenticationError:
            raise SettingsError("Valkey rejected the password: check VALKEY_URL") from None
        except RedisError:
            if not announced:
                log.warning("Valkey is away; trying again until it is back")
            announced = True
            time.sleep(RETRY_SECONDS)
