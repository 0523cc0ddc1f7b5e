"""The Helm chart: what it renders is valid for Kubernetes, hardened, and has the settings and queues of the code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from client.rq.records import QUEUES
from settings import VERSION, Settings
from tests.support.processes import ROOT
from tests.support.servers import missing

CHART = ROOT / "deploy" / "helm"
REQUIRED = {
    "existingSecret": "rag-query",
    "settings.QDRANT_URL": "http://qdrant:6333",
    "settings.FILE_STORE_URL": "s3://uploads/rag",
}
SCALING = {
    "workers.questions.autoscaling.enabled": "true",
    "workers.documents.autoscaling.enabled": "true",
    "autoscaling.valkeyAddress": "valkey:6379",
    "autoscaling.prometheusUrl": "http://prometheus:9090",
}
KUBERNETES = "1.30"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("helm")
    if program is None:
        missing("helm")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)


def flags(values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


@cache
def rendered(*more: tuple[str, str]) -> tuple[dict[str, Any], ...]:
    done = helm("template", "shop", str(CHART), "--kube-version", KUBERNETES, *flags(REQUIRED | dict(more)))
    assert done.returncode == 0, done.stderr
    return tuple(part for part in yaml.safe_load_all(done.stdout) if part)


def everything() -> tuple[dict[str, Any], ...]:
    return rendered(*SCALING.items(), ("ingress.enabled", "true"), ("ingress.host", "rag.example"))


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod of each Deployment and Job, by name."""
    kinds = {"Deployment", "Job"}
    return {
        part["metadata"]["name"]: part["spec"]["template"]["spec"] for part in everything() if part["kind"] in kinds
    }


def test_the_chart_passes_lint() -> None:
    done = helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART), *flags(REQUIRED | SCALING))
    assert done.returncode == 0, done.stdout


def test_what_is_rendered_is_valid_for_kubernetes() -> None:
    for part in everything():
        if not part["apiVersion"].startswith("keda.sh/"):  # which brings types of its own
            kubernetes_validate.validate(part, KUBERNETES, strict=True)
    names = [(part["kind"], part["metadata"]["name"]) for part in everything()]
    assert len(names) == len(set(names))
    assert {kind for kind, _ in names} >= {"Deployment", "Service", "Job", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize("name", REQUIRED)
def test_what_must_be_set_is_asked_for(name: str) -> None:
    done = helm("template", "shop", str(CHART), "--kube-version", KUBERNETES, *flags(REQUIRED | {name: ""}))
    assert done.returncode != 0
    assert name.rpartition(".")[2] in done.stderr


def test_every_container_is_locked_down_as_composes_are() -> None:
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"] + pod["initContainers"]:
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["image"] == f"rag-query:{VERSION}"


def test_the_workers_serve_every_queue_with_settings_that_exist() -> None:
    served, known = set(), {name.upper() for name in Settings.model_fields} | {"TMPDIR"}
    for pod in pods().values():
        variables = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
        assert set(variables) <= known
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "rag-query"}}]
        served |= set(variables.get("WORKER_QUEUES", "").split(",")) - {""}
    assert served == set(QUEUES.values())


def test_workers_are_scaled_by_what_waits_and_what_runs() -> None:
    scaled = {part["metadata"]["name"]: part["spec"] for part in everything() if part["kind"] == "ScaledObject"}
    assert {spec["scaleTargetRef"]["name"] for spec in scaled.values()} == {"shop-questions", "shop-documents"}
    triggers = scaled["shop-questions"]["triggers"]
    assert {one["metadata"]["listName"] for one in triggers if one["type"] == "redis"} == {
        "rq:queue:rag_queries",
        "rq:queue:rag_webhooks",
    }
    assert 'rq_jobs{queue="rag_queries",status="started"}' in str(triggers)
    for part in everything():
        if part["kind"] == "Deployment" and part["metadata"]["name"] != "shop-api":
            assert "replicas" not in part["spec"]  # which would undo the autoscaler's number at each upgrade


def test_selectors_match_their_own_pods_alone() -> None:
    running = [part for part in everything() if part["kind"] in {"Deployment", "Job"}]
    labels = {part["metadata"]["name"]: part["spec"]["template"]["metadata"]["labels"] for part in running}
    for part in running:
        if part["kind"] == "Deployment":
            selector = part["spec"]["selector"]["matchLabels"].items()
            assert [name for name, own in labels.items() if selector <= own.items()] == [part["metadata"]["name"]]


def test_the_image_is_of_this_version() -> None:
    chart = yaml.safe_load((Path(CHART) / "Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION
