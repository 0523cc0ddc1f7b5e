"""What is read when the metrics are asked for: workers, queues, uploads, the index, disk and memory.

Each part is read for itself: while Valkey is away, the metrics of SQL and of the disk are still there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis
from redis.exceptions import RedisError

from client.files import data_dir
from client.rq.gauges import count_jobs, oldest_seconds, queue_names, read_workers
from client.sql.index_versions import IndexVersionRepository, VersionState
from client.sql.uploads import UploadRepository
from client.valkey import keys
from client.valkey.circuit_breaker import CircuitBreaker
from client.valkey.condition import read_memory
from documents.index_builds import read_state
from errors import UploadsUnavailable
from observability import metrics
from observability.metrics import Labels, Metric
from settings import VERSION, Settings

log = logging.getLogger("api")

# A metric, the values of its labels, and its value.
Sample = tuple[Metric, Labels, float]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where gauges are read from."""

    settings: Settings
    valkey: Redis
    uploads: UploadRepository
    versions: IndexVersionRepository

    def read(self) -> Iterator[Sample]:
        """Yield what can be read now."""
        yield metrics.VERSION_INFO, (VERSION,), 1
        parts: tuple[tuple[str, Callable[[], list[Sample]]], ...] = (
            ("valkey", self._valkey_samples),
            ("database", self._database_samples),
            ("disk", self._disk_samples),
        )
        for name, read in parts:
            samples = _read_part(name, read)
            yield from samples or ()
            if name != "disk":
                yield metrics.PART_UP, (name,), float(samples is not None)

    def _valkey_samples(self) -> list[Sample]:
        valkey = self.valkey
        queues = queue_names(valkey)
        samples: list[Sample] = [
            (metrics.WORKERS, (worker.name, ",".join(worker.queues), worker.state), 1)
            for worker in read_workers(valkey)
        ]
        samples += [(metrics.JOBS, pair, number) for pair, number in count_jobs(valkey, queues).items()]
        samples += [(metrics.OLDEST, (queue,), age) for queue, age in oldest_seconds(valkey, queues).items()]
        samples.append((metrics.BREAKER_OPEN, (), CircuitBreaker(valkey).is_open()))
        samples.append((metrics.WEBHOOKS_DUE, (), valkey.zcard(keys.DELIVERIES_DUE)))
        samples.append((metrics.PART_UP, ("vector_store",), not valkey.exists(keys.STORE_OUTAGE)))
        used, limit = read_memory(valkey)
        return [*samples, (metrics.MEMORY, (), used), (metrics.MEMORY_LIMIT, (), limit)]

    def _database_samples(self) -> list[Sample]:
        samples: list[Sample] = [
            (metrics.UPLOADS, (status.value,), number) for status, number in self.uploads.count_by_status().items()
        ]
        state = read_state(self.versions)
        remaining = state.progress.total - state.progress.done if state.progress else 0
        idle = (datetime.now(UTC) - state.building.changed_at).total_seconds() if state.building else 0.0
        failed = state.building is not None and state.building.state is VersionState.FAILED
        samples.append((metrics.BUILD_REMAINING, (), remaining))
        samples.append((metrics.BUILD_IDLE, (), max(0.0, idle)))
        return [*samples, (metrics.BUILD_FAILED, (), failed)]

    def _disk_samples(self) -> list[Sample]:
        free, size = data_dir.disk_space(self.settings)
        return [(metrics.DISK_FREE, (), free), (metrics.DISK_SIZE, (), size)]


def _read_part(name: str, read: Callable[[], list[Sample]]) -> list[Sample] | None:
    """Return the samples of a part; None if the part does not answer."""
    try:
        return read()
    except (RedisError, OSError, UploadsUnavailable):
        return None
    except Exception:
        log.exception("the metrics of %s could not be read", name)
        return None
