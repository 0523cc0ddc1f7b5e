"""The alerts: when each is raised, what it means and what to do. deploy/observe/alerts.yml is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from client.rq.records import QUEUES
from observability import metrics as m

Severity = Literal["critical", "warning"]

# How long a job may wait on each queue, in seconds: a question, a webhook, a document among many.
OLDEST_SECONDS: Final = {QUEUES["chat"]: 60, QUEUES["webhook"]: 300, QUEUES["document"]: 3_600}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is raised once `expression` has held for so many minutes.

    `when` says the expression in words, `says` is the line that wakes somebody.
    """

    name: str
    severity: Severity
    expression: str
    minutes: int
    when: str
    says: str
    do: str


def _share(part: str, of: str) -> str:
    return f"sum(increase({part})) / sum(increase({of}))"


_QUESTIONS = QUEUES["chat"]
_OLDEST = " or ".join(f'{m.OLDEST.name}{{queue="{queue}"}} > {limit}' for queue, limit in OLDEST_SECONDS.items())
_FAILED = f'{m.ANSWERS.name}{{outcome="failed"}}[10m]'
_NOT_DELIVERED = f'{m.WEBHOOK_ATTEMPTS.name}{{outcome!="delivered"}}[15m]'

ALERTS: Final = (
    Alert(
        "RagMetricsMissing",
        "critical",
        f"absent({m.VERSION_INFO.name})",
        2,
        "Prometheus reads no metrics",
        "Prometheus reads no metrics of the service: the API may be down",
        "Look whether the API runs (`GET /health`), and whether Prometheus reaches `METRICS_PORT`.",
    ),
    Alert(
        "RagPartAway",
        "critical",
        f"{m.PART_UP.name} == 0",
        1,
        "Valkey, the database or the vector store does not answer",
        "{{ $labels.part }} does not answer",
        "`GET /ready` says what is wrong; jobs wait meanwhile, and go on by themselves.",
    ),
    Alert(
        "RagNoWorker",
        "critical",
        f'(max({m.PART_UP.name}{{part="valkey"}}) == 1) unless on() '
        f'max({m.WORKERS.name}{{queues=~"(.+,)?{_QUESTIONS}(,.+)?",state!="suspended"}})',
        1,
        "no worker listens for questions",
        "no worker listens for questions",
        "Start one: `main.py worker`. The record of a killed `main.py worker` is gone after 30 s, of a killed "
        "`rq worker` after 8 minutes.",
    ),
    Alert(
        "RagOldestJob",
        "warning",
        _OLDEST,
        1,
        "a question has waited for more than 1 minute, a webhook for 5, or a document for 60",
        "the oldest job on {{ $labels.queue }} has waited for {{ $value | humanizeDuration }}",
        "Add workers, or raise `WORKER_CONCURRENCY`; look whether the model is slow.",
    ),
    Alert(
        "RagFailures",
        "critical",
        f"{_share(_FAILED, m.ANSWERS.name + '[10m]')} > 0.1",
        3,
        "more than 10 % of the questions of 10 minutes failed",
        "{{ $value | humanizePercentage }} of the questions fail",
        "`rag_answers_total` has the reasons in `code`; `main.py dead list` has the jobs.",
    ),
    Alert(
        "RagSlowFirstToken",
        "warning",
        f"histogram_quantile(0.9, sum by (le) (rate({m.FIRST_TOKEN.name}_bucket[5m]))) > 10",
        5,
        "one answer in ten begins later than 10 s after its question",
        "one answer in ten begins later than {{ $value | humanizeDuration }} after its question",
        "Compare the stages of `rag_job_seconds`: `queue` wants more workers; `model` wants a faster model, or a lower "
        "`CONTEXT_TOKENS`.",
    ),
    Alert(
        "RagBreakerOpen",
        "critical",
        f"{m.BREAKER_OPEN.name} == 1",
        1,
        "calls of the model provider are paused since they fail",
        "the model provider fails: calls are paused",
        "Look at the provider; one call tries again every 15 s while questions come.",
    ),
    Alert(
        "RagDiskLow",
        "warning",
        f"{m.DISK_FREE.name} / {m.DISK_SIZE.name} < 0.1",
        5,
        "the disk of `DATA_DIR` has less than 10 % left",
        "the disk of DATA_DIR has {{ $value | humanizePercentage }} left",
        "Make room: a full disk refuses questions and uploads.",
    ),
    Alert(
        "RagMemoryLow",
        "critical",
        f"{m.MEMORY.name} / ({m.MEMORY_LIMIT.name} > 0) > 0.85",
        5,
        "Valkey uses more than 85 % of the memory that it may use",
        "Valkey uses {{ $value | humanizePercentage }} of its memory",
        "Raise its maxmemory (`VALKEY_MAXMEMORY`), or lower `RESULT_TTL_SECONDS`: a full Valkey refuses questions.",
    ),
    Alert(
        "RagWebhooksFailing",
        "warning",
        f"{_share(_NOT_DELIVERED, m.WEBHOOK_ATTEMPTS.name + '[15m]')} > 0.5",
        5,
        "more than half of the attempts at webhooks of 15 minutes failed",
        "{{ $value | humanizePercentage }} of the attempts at webhooks fail",
        "`GET /webhooks/deliveries` shows why; the log has a line for each.",
    ),
    Alert(
        "RagIndexBuildStuck",
        "warning",
        f"({m.BUILD_REMAINING.name} > 0 and {m.BUILD_IDLE.name} > 3600)"
        f" or max_over_time({m.BUILD_FAILED.name}[15m]) == 1",
        1,
        "the building of an index made no step for an hour, or stopped with an error",
        "the new index is not built",
        "`index` of `GET /ready` says why. The old index is searched meanwhile.",
    ),
    Alert(
        "RagWorkersDie",
        "warning",
        f"increase({m.RECOVERIES.name}[15m]) > 5",
        1,
        "more than 5 jobs in 15 minutes were taken over from workers that died",
        "workers die: {{ $value | humanize }} jobs were taken over",
        "Look at the logs and the memory of the workers.",
    ),
)


def rules() -> dict[str, object]:
    """Return the alerts as a file of rules for Prometheus."""
    return {
        "groups": [
            {
                "name": "rag",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression,
                        "for": f"{alert.minutes}m",
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.says, "description": alert.do},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }
