"""The rules of the alerts, as promtool reads and runs them; and that what is generated is up to date."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from checks import monitoring_files
from monitoring import dashboard
from monitoring.alerts import ALERTS
from observability.metrics import METRICS
from tests.monitoring.rule_tests import RAISING, unit_tests
from tests.support.processes import ROOT
from tests.support.servers import missing

RULES = ROOT / "deploy/observe/alerts.yml"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        missing("promtool")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_generated_files_are_up_to_date() -> None:
    assert monitoring_files.check() == []


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for arguments in (("check", "rules", str(RULES)), ("check", "config", str(ROOT / "deploy/observe/prometheus.yml"))):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stderr
        assert f"{len(ALERTS)} rules found" in done.stdout


def test_each_alert_is_raised_by_its_case_alone(tmp_path: Path) -> None:
    assert set(RAISING) == {alert.name for alert in ALERTS}
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump(unit_tests(str(RULES)), sort_keys=False))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_test_that_is_wrong_fails(tmp_path: Path) -> None:
    tests = unit_tests(str(RULES))
    tests["tests"][0]["promql_expr_test"][0]["exp_samples"] = [{"labels": '{alertname="RagNoWorker"}', "value": 1}]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump(tests, sort_keys=False))
    assert promtool("test", "rules", str(file)).returncode == 1


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_shown_or_woken_by(metric: str) -> None:
    used = " ".join([*dashboard.queries(), *(alert.expression for alert in ALERTS)])
    assert metric in used


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.as_json()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= dashboard.COLUMNS
        taken |= cells
