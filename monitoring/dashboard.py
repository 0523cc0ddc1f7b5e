"""The dashboard of Grafana: its panels and their queries. deploy/observe/dashboard.json is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from client.rq.records import QUEUES
from observability import metrics as m
from observability.metrics import Metric

DATASOURCE: Final = {"type": "prometheus", "uid": "rag-prometheus"}
TITLE: Final = "Answers from documents"
COLUMNS: Final = 24
_QUESTIONS = QUEUES["chat"]
# Grafana's variable for the shortest time that holds four scrapes.
INTERVAL: Final = "$__rate_interval"

Kind = Literal["stat", "timeseries"]


@dataclass(frozen=True, slots=True)
class Query:
    """A query of Prometheus, and the name of its lines; `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `unit` is Grafana's name: s, percentunit, reqps, bytes, short. `red_from` colours a number."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    red_from: float | None = None
    red_below: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return (4, 4) if self.kind == "stat" else (8, 8)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def _rate(metric: Metric, *by: str, where: str = "", suffix: str = "") -> str:
    grouped = f" by ({', '.join(by)}) " if by else ""
    return f"sum{grouped}(rate({metric.name}{suffix}{where}[{INTERVAL}]))"


def _quantile(share: float, metric: Metric, *by: str, where: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(metric, 'le', *by, where=where, suffix='_bucket')})"


def _stat(title: str, expression: str, unit: str = "short", **limits: float) -> Panel:
    return Panel(title, (Query(expression),), unit, "stat", **limits)


_RUN = '{kind="chat",stage="run",outcome="finished"}'
_CHAT = '{kind="chat",outcome="finished"}'
_FAILED = f'sum(increase({m.ANSWERS.name}{{outcome="failed"}}[10m])) / sum(increase({m.ANSWERS.name}[10m]))'

DASHBOARD: Final = (
    Row(
        "Now",
        (
            _stat("Workers", f"count({m.WORKERS.name}) or vector(0)", red_below=1),
            _stat("Questions waiting", f'sum({m.JOBS.name}{{queue="{_QUESTIONS}",status="queued"}})'),
            _stat("Oldest question", f'max({m.OLDEST.name}{{queue="{_QUESTIONS}"}})', "s", red_from=60),
            _stat("Failed, 10 min", f"({_FAILED} >= 0) or vector(0)", "percentunit", red_from=0.1),
            _stat("Model paused", f"max({m.BREAKER_OPEN.name})", red_from=1),
            _stat("Parts that answer", f"sum({m.PART_UP.name})", red_below=3),
        ),
    ),
    Row(
        "Questions",
        (
            Panel("Ended, by outcome", (Query(_rate(m.ANSWERS, "outcome"), "{{outcome}}"),), "reqps"),
            Panel(
                "Failures, by code", (Query(_rate(m.ANSWERS, "code", where='{outcome="failed"}'), "{{code}}"),), "reqps"
            ),
            Panel(
                "Time to answer",
                tuple(Query(_quantile(share, m.JOB_SECONDS, where=_RUN), f"p{share:.0%}") for share in (0.5, 0.95)),
                "s",
            ),
            Panel(
                "Time to the first token",
                tuple(Query(_quantile(share, m.FIRST_TOKEN), f"p{share:.0%}") for share in (0.5, 0.9)),
                "s",
            ),
            Panel(
                "Stages of an answer, mean",
                (
                    Query(
                        f"{_rate(m.JOB_SECONDS, 'stage', where=_CHAT, suffix='_sum')} / "
                        f"{_rate(m.JOB_SECONDS, 'stage', where=_CHAT, suffix='_count')}",
                        "{{stage}}",
                    ),
                ),
                "s",
            ),
            Panel("Answers from the cache", (Query(_rate(m.CACHE_HITS)),), "reqps"),
        ),
    ),
    Row(
        "Queues and workers",
        (
            Panel("Waiting", (Query(f'sum by (queue) ({m.JOBS.name}{{status="queued"}})', "{{queue}}"),)),
            Panel("Running", (Query(f'sum by (queue) ({m.JOBS.name}{{status="started"}})', "{{queue}}"),)),
            Panel("Oldest job", (Query(f"max by (queue) ({m.OLDEST.name})", "{{queue}}"),), "s"),
            Panel("Workers, by state", (Query(f"count by (state) ({m.WORKERS.name})", "{{state}}"),)),
            Panel(
                "Failed jobs that are kept", (Query(f'sum by (queue) ({m.JOBS.name}{{status="failed"}})', "{{queue}}"),)
            ),
            Panel("Jobs taken over from dead workers", (Query(f"increase({m.RECOVERIES.name}[{INTERVAL}])"),)),
        ),
    ),
    Row(
        "Model",
        (
            Panel(
                "Calls",
                (
                    Query(
                        _rate(m.PROVIDER_SECONDS, "operation", "outcome", suffix="_count"), "{{operation}} {{outcome}}"
                    ),
                ),
                "reqps",
            ),
            Panel(
                "Time of a call, p95", (Query(_quantile(0.95, m.PROVIDER_SECONDS, "operation"), "{{operation}}"),), "s"
            ),
            Panel("Tokens per second", (Query(_rate(m.TOKENS, "model", "direction"), "{{model}} {{direction}}"),)),
        ),
    ),
    Row(
        "Documents and webhooks",
        (
            Panel("Uploads", (Query(f"sum by (status) ({m.UPLOADS.name})", "{{status}}"),)),
            Panel("Pages read per second", (Query(_rate(m.PAGES, "reader"), "{{reader}}"),)),
            Panel("Uploads that the new index lacks", (Query(f"max({m.BUILD_REMAINING.name})"),)),
            Panel("Webhook attempts", (Query(_rate(m.WEBHOOK_ATTEMPTS, "outcome"), "{{outcome}}"),), "reqps"),
            Panel("Webhooks that wait", (Query(f"max({m.WEBHOOKS_DUE.name})"),)),
        ),
    ),
    Row(
        "HTTP and machine",
        (
            Panel(
                "Requests", (Query(_rate(m.HTTP_SECONDS, "http_route", suffix="_count"), "{{http_route}}"),), "reqps"
            ),
            Panel(
                "Time of a request, p95", (Query(_quantile(0.95, m.HTTP_SECONDS, "http_route"), "{{http_route}}"),), "s"
            ),
            Panel(
                "Responses, by status",
                (
                    Query(
                        _rate(m.HTTP_SECONDS, "http_response_status_code", suffix="_count"),
                        "{{http_response_status_code}}",
                    ),
                ),
                "reqps",
            ),
            Panel("Disk free", (Query(f"min({m.DISK_FREE.name} / {m.DISK_SIZE.name})"),), "percentunit"),
            Panel(
                "Memory of Valkey",
                (Query(f"max({m.MEMORY.name})", "used"), Query(f"max({m.MEMORY_LIMIT.name})", "limit")),
                "bytes",
            ),
        ),
    ),
)


def queries() -> list[str]:
    """Return the queries of all panels, with 1 minute for Grafana's variable."""
    return [
        query.expression.replace(INTERVAL, "1m") for row in DASHBOARD for panel in row.panels for query in panel.queries
    ]


def as_json() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in DASHBOARD:
        panels.append(
            {"type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": _place(0, top, 24, 1)}
        )
        top += 1
        left = height = 0
        for panel in row.panels:
            width, height = panel.size
            if left + width > COLUMNS:
                left, top = 0, top + height
            panels.append(_panel_json(panel, _place(left, top, width, height)))
            left += width
        top += height
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "rag",
        "title": TITLE,
        "tags": ["rag"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "editable": True,
        "panels": panels,
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel_json(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend,
        }
        for place, query in enumerate(panel.queries)
    ]
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)}
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    elif panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {"mode": "absolute", "steps": steps}
