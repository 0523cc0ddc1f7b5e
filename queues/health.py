"""The health check of a worker's container, `python -m queues.health`: exit status 0 if a worker of this host lives."""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker

from settings import Settings, load_settings

TIMEOUT_SECONDS = 3.0
# RagWorker sends a heartbeat every second; a stock worker that runs a job, every 30 s.
MAX_SILENCE_SECONDS = 45.0


def worker_is_alive(settings: Settings) -> bool:
    """Return True if a worker on this host sent a heartbeat within MAX_SILENCE_SECONDS; False if Valkey is away."""
    host, since = socket.gethostname(), datetime.now(UTC) - timedelta(seconds=MAX_SILENCE_SECONDS)
    try:
        with Redis.from_url(
            settings.queue_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        ) as valkey:
            workers = [worker for worker in Worker.all(connection=valkey) if worker.hostname == host]
            return any(worker.last_heartbeat is not None and worker.last_heartbeat > since for worker in workers)
    except RedisError:
        return False


if __name__ == "__main__":
    sys.exit(not worker_is_alive(load_settings()))
