"""A real Prometheus reads the running service: every query of the dashboard and of the alerts has data there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from monitoring import dashboard
from monitoring.alerts import ALERTS
from tests.support.openai_stub import KEY, OpenAIStub, openai_stub
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, ROOT, free_port, running, wait_until
from tests.support.servers import missing

# Of a whole service, on a busy machine.
START_SECONDS = 100.0
QUESTION = "Who built the lighthouse of Brindle Point?"
# These have no data while all is well. Their parts have.
PARTS = {
    "RagMetricsMissing": ["rag_build_info"],
    "RagNoWorker": [
        'max(rag_part_up{part="valkey"}) == 1',
        'max(rq_workers{queues=~"(.+,)?rag_queries(,.+)?",state!="suspended"})',
    ],
}


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert reply["status"] == "success", reply
        return list(reply["data"]["result"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has read the metrics of a service which answered questions, read a file and sent a webhook."""
    if shutil.which("prometheus") is None:
        missing("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    port, metrics_port, own_port = free_port(), free_port(), free_port()
    with openai_stub() as stub:
        service = running(
            [PYTHON, "main.py"],
            folder / "service.log",
            DATA_DIR=str(folder / "data"),
            PORT=str(port),
            METRICS_PORT=str(metrics_port),
            OPENAI_BASE_URL=stub.url,
            OPENAI_API_KEY=KEY,
        )
        command = _command(folder, own_port, metrics_port)
        with service as started, running(command, folder / "prometheus.log") as reading:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as api:
                wait_until(lambda: _answers(api), seconds=START_SECONDS, what=lambda: started.output)
                _use(api, folder, stub)
            found = Prometheus(f"http://127.0.0.1:{own_port}")
            wait_until(lambda: _has_read(found), seconds=START_SECONDS, what=lambda: reading.output)
            yield found


def _command(folder: Path, port: int, metrics_port: int) -> list[str]:
    """Return the command of a Prometheus that reads the service every second, by the deployed configuration."""
    configuration = yaml.safe_load((ROOT / "deploy/observe/prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(ROOT / "deploy/observe/alerts.yml")]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{metrics_port}"]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    return [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def _answers(api: httpx.Client) -> bool:
    try:
        return bool(api.get("/ready").json()["parts"]["workers"] == "ready")
    except httpx.TransportError:
        return False


def _use(api: httpx.Client, folder: Path, stub: OpenAIStub) -> None:
    pdf = write_pdf(folder / "lighthouse.pdf", ["The lighthouse of Brindle Point was built in 1887 by Tamsin Vale."])
    upload = api.post("/uploads", files={"file": ("lighthouse.pdf", pdf.read_bytes())}).json()["upload_id"]
    uploaded = f"/uploads/{upload}"
    wait_until(lambda: api.get(uploaded).json()["status"] == "ready", seconds=START_SECONDS)
    for number in range(3):
        job_id = api.post("/chat", json={"query": f"{QUESTION} ({number})"}).json()["job_id"]
        result = api.get(f"/result/{job_id}", params={"wait": 30}).json()
        assert result["status"] == "completed", (result, stub.behaviour.calls)


def _has_read(prometheus: Prometheus) -> bool:
    try:
        tokens = prometheus.query('rate(rag_tokens_total{direction="output"}[1m])')
        return bool(tokens and prometheus.query("rate(rag_first_token_seconds_count[1m])"))
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("expression", dashboard.queries())
def test_every_panel_has_data(expression: str, prometheus: Prometheus) -> None:
    assert prometheus.query(expression)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_data_and_is_silent(alert: Any, prometheus: Prometheus) -> None:
    for expression in PARTS.get(alert.name, [re.sub(r"(==|<|>) (?=[\d.])", r"\1 bool ", alert.expression)]):
        assert prometheus.query(expression), expression
    assert prometheus.query(f'ALERTS{{alertname="{alert.name}",alertstate="firing"}}') == []


def test_numbers_are_those_of_the_service(prometheus: Prometheus) -> None:
    (answered,) = prometheus.query('sum(rag_answers_total{outcome="answered"})')
    assert answered["value"][1] == "3"
    (asked,) = prometheus.query('http_server_request_duration_seconds_count{http_route="/chat"}')
    labels = {
        name: asked["metric"][name] for name in ("http_request_method", "http_response_status_code", "url_scheme")
    }
    assert labels == {"http_request_method": "POST", "http_response_status_code": "202", "url_scheme": "http"}
    assert prometheus.query('up{job="rag"}')[0]["value"][1] == "1"
