"""RagWorker for the jobs of the benchmark; apart from them, so that stock workers do not import it for each job."""

from __future__ import annotations

from typing import ClassVar

from queues.ragworker.worker import RagWorker


class Worker(RagWorker):
    """RagWorker that runs these jobs: `rq worker -w bench.queue_worker.Worker bench`."""

    functions: ClassVar[frozenset[str]] = frozenset({"bench.queue_jobs.job", "bench.queue_jobs.nothing"})
