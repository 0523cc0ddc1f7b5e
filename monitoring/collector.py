"""All metrics of the deployment as prometheus-client shows them, from any of its processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from redis.exceptions import RedisError

from client.sql.database import Database
from client.sql.index_versions import IndexVersionRepository
from client.sql.uploads import UploadRepository
from client.valkey.counts import read_counts
from monitoring.gauges import Sample, Sources
from observability.metrics import INFINITE, METRICS, SUM, Key, Labels, Metric
from settings import Settings
from webhooks.store import connect

# Whoever asks more often gets what was read before: reading costs some 20 ms of CPU.
FRESH_SECONDS = 1.0


class DeploymentCollector(Collector):
    """Reads counts and gauges at most once in FRESH_SECONDS. Safe for threads."""

    def __init__(self, sources: Sources, *, fresh_seconds: float) -> None:
        self._sources = sources
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[Family] = []

    def collect(self) -> Iterable[Family]:
        """Return every metric that has a value now."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._fresh_seconds:
                self._families = self._read()
                self._read_at = time.monotonic()
            return self._families

    def _read(self) -> list[Family]:
        try:
            counts: Mapping[Key, int] = read_counts(self._sources.valkey)
        except (RedisError, OSError):
            counts = {}
        return [*_gauges(self._sources.read()), *_counted(counts)]


class DeploymentMetrics:
    """The metrics of the deployment. Connects on first use, to Valkey by connections of its own. Safe for threads."""

    def __init__(self, settings: Settings, database: Database, *, fresh_seconds: float = FRESH_SECONDS) -> None:
        self.valkey = connect(settings.queue_url)
        self.registry = CollectorRegistry()
        sources = Sources(settings, self.valkey, UploadRepository(database), IndexVersionRepository(database))
        self.registry.register(DeploymentCollector(sources, fresh_seconds=fresh_seconds))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text of all metrics and its media type, in the format that an Accept header asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def close(self) -> None:
        """Close the connections to Valkey."""
        self.valkey.close()


def _gauges(samples: Iterable[Sample]) -> list[Family]:
    families: dict[str, GaugeMetricFamily] = {}
    for metric, labels, value in samples:
        family = families.get(metric.name)
        if family is None:
            family = families[metric.name] = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        family.add_metric(labels, float(value))
    return list(families.values())


def _counted(counts: Mapping[Key, int]) -> list[Family]:
    """Return the counters and histograms."""
    series: dict[str, dict[Labels, dict[str, int]]] = {
        metric.name: {labels: {} for labels in metric.from_start} for metric in METRICS.values()
    }
    for (name, *rest), number in counts.items():
        metric = METRICS.get(name)
        parts = 1 if metric is not None and metric.kind == "histogram" else 0
        if metric is None or metric.kind == "gauge" or len(rest) != len(metric.labels) + parts:
            continue  # of another version
        cells = series[name].setdefault(tuple(rest[: len(metric.labels)]), {})
        cells[rest[-1] if parts else ""] = number
    return [_family(metric, series[metric.name]) for metric in METRICS.values() if metric.kind != "gauge"]


def _family(metric: Metric, series: Mapping[Labels, Mapping[str, int]]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, cells in series.items():
            histogram.add_metric(labels, _buckets(metric, cells), sum_value=cells.get(SUM, 0) / 1_000_000)
        return histogram
    counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, cells in series.items():
        counter.add_metric(labels, cells.get("", 0))
    return counter


def _buckets(metric: Metric, cells: Mapping[str, int]) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and how many values are below it.

    A bound that another version had counts for the next larger one.
    """
    stored = sorted((float(bound), number) for bound, number in cells.items() if bound != SUM)
    buckets: list[tuple[str, float]] = []
    total, at = 0, 0
    for bound in (*metric.buckets, float(INFINITE)):
        while at < len(stored) and stored[at][0] <= bound:
            total += stored[at][1]
            at += 1
        buckets.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]
    return buckets
