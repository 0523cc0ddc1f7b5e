"""Metrics that raise each alert, in the notation of promtool; and those of a healthy service, which raise none."""

from __future__ import annotations

from typing import Any

# `0+2x30` begins at 0 and rises by 2 for 30 minutes; `_` is no sample.
HEALTHY = {
    'rag_build_info{version="1"}': "1x90",
    'rag_part_up{part="valkey"}': "1x90",
    'rag_part_up{part="database"}': "1x90",
    'rag_part_up{part="vector_store"}': "1x90",
    'rq_workers{name="a",queues="rag_queries,rag_documents,rag_webhooks",state="idle"}': "1x90",
    'rag_queue_oldest_seconds{queue="rag_queries"}': "30x90",
    'rag_queue_oldest_seconds{queue="rag_documents"}': "1800x90",
    'rag_queue_oldest_seconds{queue="rag_webhooks"}': "200x90",
    'rag_answers_total{outcome="answered",code=""}': "0+100x90",
    'rag_answers_total{outcome="failed",code="internal"}': "0+5x90",
    'rag_first_token_seconds_bucket{le="2.56"}': "0+100x90",
    'rag_first_token_seconds_bucket{le="+Inf"}': "0+105x90",
    "rag_breaker_open": "0x90",
    "rag_disk_free_bytes": "50x90",
    "rag_disk_size_bytes": "100x90",
    "rag_valkey_memory_bytes": "50x90",
    "rag_valkey_memory_limit_bytes": "100x90",
    'rag_webhook_attempts_total{outcome="delivered"}': "0+10x90",
    'rag_webhook_attempts_total{outcome="refused"}': "0+1x90",
    "rag_index_build_remaining": "5x90",
    "rag_index_build_idle_seconds": "60x90",
    "rag_index_build_failed": "0x90",
    "rag_recoveries_total": "0x20 1x70",
}

# Alert → the series that differ from those of a healthy service; None for a series that is missing. Each set raises
# that alert and no other.
RAISING: dict[str, list[dict[str, str | None]]] = {
    "RagMetricsMissing": [dict.fromkeys(HEALTHY, "1x10 stale")],
    "RagPartAway": [{'rag_part_up{part="database"}': "1x10 0x80"}, {'rag_part_up{part="vector_store"}': "0x90"}],
    "RagNoWorker": [
        {'rq_workers{name="a",queues="rag_queries,rag_documents,rag_webhooks",state="idle"}': "1x20 stale"},
        {
            'rq_workers{name="a",queues="rag_queries,rag_documents,rag_webhooks",state="idle"}': None,
            'rq_workers{name="b",queues="rag_documents",state="idle"}': "1x90",
        },
    ],
    "RagOldestJob": [
        {'rag_queue_oldest_seconds{queue="rag_queries"}': "61x90"},
        {'rag_queue_oldest_seconds{queue="rag_documents"}': "3601x90"},
        {'rag_queue_oldest_seconds{queue="rag_webhooks"}': "301x90"},
    ],
    "RagFailures": [{'rag_answers_total{outcome="failed",code="internal"}': "0+20x90"}],
    "RagSlowFirstToken": [
        {
            'rag_first_token_seconds_bucket{le="2.56"}': "0+50x90",
            **{
                f'rag_first_token_seconds_bucket{{le="{bound}"}}': f"0+{count}x90"
                for bound, count in (("10.24", 60), ("20.48", 100))
            },
        }
    ],
    "RagBreakerOpen": [{"rag_breaker_open": "1x90"}],
    "RagDiskLow": [{"rag_disk_free_bytes": "9x90"}],
    "RagMemoryLow": [{"rag_valkey_memory_bytes": "86x90"}],
    "RagWebhooksFailing": [{'rag_webhook_attempts_total{outcome="refused"}': "0+11x90"}],
    "RagIndexBuildStuck": [{"rag_index_build_idle_seconds": "3601x90"}, {"rag_index_build_failed": "0x50 1x3 0x37"}],
    "RagWorkersDie": [{"rag_recoveries_total": "0+1x90"}],
}
MINUTES = 60


def unit_tests(rules: str) -> dict[str, Any]:
    """Return a file of tests for promtool: after MINUTES exactly the alert of each case is raised."""
    cases: list[tuple[str | None, dict[str, str | None]]] = [(None, {})]
    cases += [(name, changed) for name, sets in RAISING.items() for changed in sets]
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": [_test(*case) for case in cases]}


def _test(alert: str | None, changed: dict[str, str | None]) -> dict[str, Any]:
    series = {name: values for name, values in {**HEALTHY, **changed}.items() if values is not None}
    raised = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    return {
        "interval": "1m",
        "name": alert or "healthy",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": raised,
            }
        ],
    }
