"""Every metric: its name, labels and buckets; and what this process has counted since its counts were last stored.

Labels have few values: no label holds an id, a name of a user or a document, or any text that a client sent. So that a
defect cannot fill a metrics server, each process knows at most MAX_SERIES combinations of labels of a metric.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

# Stands for further values of a label.
OTHER: Final = "other"
MAX_SERIES: Final = 500
# The buckets of OpenTelemetry's conventions, for servers and for calls of a model.
HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
MODEL_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
JOB_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 180.0, 600.0, 1800.0, 3600.0)
# The failures of questions that are usual.
FAILURE_CODES: Final = (
    *("internal", "job_timed_out", "worker_died", "nothing_indexed", "store_unavailable", "upload_not_ready"),
    *("provider_error", "provider_key_rejected", "provider_rate_limited", "provider_timeout", "provider_unavailable"),
)
# The parts of a histogram's key that stand for the sum, in microseconds, and for the last bucket.
SUM: Final = "sum"
INFINITE: Final = "+Inf"

Kind = Literal["counter", "gauge", "histogram"]
# The name of a metric, the values of its labels in their order and, for a histogram, a bucket's upper bound or SUM.
Key = tuple[str, ...]
Labels = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric as Prometheus shows it. A gauge is read when it is asked for; the others are counted as they happen.

    `from_start`: labels that are shown as 0 from the start: Prometheus sees no increase in a series that begins with 1.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    from_start: tuple[Labels, ...] = ()

    @cached_property
    def parts(self) -> tuple[Key, ...]:
        """What follows the labels in the keys of a metric: nothing, or the bounds of the buckets and SUM."""
        if self.kind != "histogram":
            return ((),)
        return (*((f"{bound:g}",) for bound in self.buckets), (INFINITE,), (SUM,))


WORKERS = Metric(
    "rq_workers",
    "gauge",
    "Workers that are registered, each 1, as exporters of RQ show them.",
    ("name", "queues", "state"),
)
JOBS = Metric("rq_jobs", "gauge", "Jobs by queue and status, as exporters of RQ show them.", ("queue", "status"))
OLDEST = Metric(
    "rag_queue_oldest_seconds",
    "gauge",
    "How long the oldest job of a queue has waited since it was accepted.",
    ("queue",),
)
JOB_SECONDS = Metric(
    "rag_job_seconds",
    "histogram",
    "Time of jobs: `queue` before a job began, `run` in all; of answers also embed, search, rerank, model and verify.",
    ("kind", "stage", "outcome"),
    JOB_BUCKETS,
)
FIRST_TOKEN = Metric(
    "rag_first_token_seconds",
    "histogram",
    "Time from the acceptance of a question to the first piece of an answer that a model writes.",
    (),
    MODEL_BUCKETS,
    from_start=((),),
)
TOKENS = Metric(
    "rag_tokens_total",
    "counter",
    "Tokens as the model provider counts them: `input` read, `output` written.",
    ("model", "direction"),
)
ANSWERS = Metric(
    "rag_answers_total",
    "counter",
    "Questions by their end: answered, refused, unsupported, cut, cancelled, or failed for the reason in `code`.",
    ("outcome", "code"),
    from_start=(
        *((outcome, "") for outcome in ("answered", "refused", "unsupported", "cut", "cancelled")),
        *(("failed", code) for code in FAILURE_CODES),
    ),
)
CACHE_HITS = Metric("rag_cache_hits_total", "counter", "Answers that came from the cache of answers.", from_start=((),))
BREAKER_OPEN = Metric(
    "rag_breaker_open", "gauge", "1 while calls of the model provider are paused, until one succeeds again."
)
PROVIDER_SECONDS = Metric(
    "rag_provider_seconds",
    "histogram",
    "Time of single calls of the model provider, each retry for itself.",
    ("operation", "outcome"),
    MODEL_BUCKETS,
)
WEBHOOK_ATTEMPTS = Metric(
    "rag_webhook_attempts_total",
    "counter",
    "Attempts at webhooks: delivered, refused by a status, gone (410), or unreachable.",
    ("outcome",),
    from_start=(("delivered",), ("refused",), ("gone",), ("unreachable",)),
)
UPLOADS = Metric("rag_uploads", "gauge", "Uploads by status.", ("status",))
PAGES = Metric("rag_pages_total", "counter", "Pages that were read to be indexed, by what read them.", ("reader",))
RECOVERIES = Metric(
    "rag_recoveries_total", "counter", "Jobs that were taken over from a worker that died.", from_start=((),)
)
HTTP_SECONDS = Metric(
    "http_server_request_duration_seconds",
    "histogram",
    "Time of HTTP requests, by OpenTelemetry's conventions. /health and /metrics are left out.",
    ("http_request_method", "http_route", "http_response_status_code", "url_scheme", "error_type"),
    HTTP_BUCKETS,
)
PART_UP = Metric(
    "rag_part_up", "gauge", "1 if a part answers: database, valkey, and vector_store as the workers see it.", ("part",)
)
WEBHOOKS_DUE = Metric("rag_webhooks_due", "gauge", "Webhooks that wait for an attempt.")
BUILD_REMAINING = Metric(
    "rag_index_build_remaining", "gauge", "Uploads that the index which is being built lacks; 0 while none is built."
)
BUILD_IDLE = Metric(
    "rag_index_build_idle_seconds",
    "gauge",
    "Time since the building of an index made its last step; 0 while none is built.",
)
BUILD_FAILED = Metric("rag_index_build_failed", "gauge", "1 while the building of an index has stopped with an error.")
DISK_FREE = Metric("rag_disk_free_bytes", "gauge", "Free space on the disk of DATA_DIR, where the metrics are read.")
DISK_SIZE = Metric("rag_disk_size_bytes", "gauge", "Size of the disk of DATA_DIR, where the metrics are read.")
MEMORY = Metric("rag_valkey_memory_bytes", "gauge", "Memory that Valkey uses for data.")
MEMORY_LIMIT = Metric(
    "rag_valkey_memory_limit_bytes", "gauge", "Memory that Valkey may use: its maxmemory, or all of its machine."
)
VERSION_INFO = Metric("rag_build_info", "gauge", "The version that answers, always 1.", ("version",))

METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}


class Counts:
    """Counts that are not stored yet. Safe for threads. A kill loses what was counted since the last `take`.

    To count or to observe costs 1 µs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By metric and labels: a counter's number; or the numbers of a histogram's buckets, then its sum in µs.
        self._cells: dict[tuple[Metric, Labels], list[int]] = {}
        self._known: dict[str, set[Labels]] = {}
        self._not_stored: dict[Key, int] = {}

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._of(metric, labels)[0] += by

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        """Add a time to a histogram. A negative time, as after a step of a clock, counts as 0."""
        with self._lock:
            cells = self._of(metric, labels)
            cells[bisect_left(metric.buckets, seconds)] += 1
            cells[-1] += max(0, int(seconds * 1_000_000))

    def take(self) -> dict[Key, int]:
        """Return the counts, and begin at 0 again."""
        with self._lock:
            cells, self._cells = self._cells, {}
            taken, self._not_stored = self._not_stored, {}
        for (metric, labels), numbers in cells.items():
            for part, number in zip(metric.parts, numbers, strict=True):
                key = (metric.name, *labels, *part)
                if number:
                    taken[key] = taken.get(key, 0) + number
        return taken

    def put_back(self, counts: Mapping[Key, int]) -> None:
        """Add counts that could not be stored."""
        with self._lock:
            for key, number in counts.items():
                self._not_stored[key] = self._not_stored.get(key, 0) + number

    def _of(self, metric: Metric, labels: Labels) -> list[int]:
        cells = self._cells.get((metric, labels))
        if cells is None:
            labels = self._admit(metric, labels)
            cells = self._cells.setdefault((metric, labels), [0] * len(metric.parts))
        return cells

    def _admit(self, metric: Metric, labels: Labels) -> Labels:
        """Return the labels; OTHER for each of them once a metric has MAX_SERIES combinations."""
        known = self._known.setdefault(metric.name, set())
        if labels not in known and len(known) >= MAX_SERIES:
            return (OTHER,) * len(labels)
        known.add(labels)
        return labels


# What this process counts.
COUNTS: Final = Counts()
count, observe = COUNTS.count, COUNTS.observe
