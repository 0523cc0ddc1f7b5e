"""Whether a worker of this machine is at work, for its container's health check: `python -m queues.health`."""

from __future__ import annotations

import socket
import sys
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker

from settings import Settings, load_settings

TIMEOUT_SECONDS = 3.0
# RagWorker writes its heartbeat every second; a stock worker, while it runs a job, every 30.
SILENT_SECONDS = 45.0


def at_work(settings: Settings) -> bool:
    """Tell whether Valkey has heard of a worker with this machine's name of late."""
    name, since = socket.gethostname(), datetime.now(UTC) - timedelta(seconds=SILENT_SECONDS)
    try:
        with Redis.from_url(
            settings.queue_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        ) as valkey:
            workers = [worker for worker in Worker.all(connection=valkey) if worker.hostname == name]
            return any(worker.last_heartbeat is not None and worker.last_heartbeat > since for worker in workers)
    except RedisError:
        return False


if __name__ == "__main__":
    sys.exit(not at_work(load_settings()))
