"""What docker-compose.yml and the Dockerfile promise: least privilege, nothing published, no password by default."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import yaml

from monitoring.dashboard import DATASOURCE
from settings import Settings
from tests.support.processes import ROOT
from tests.support.servers import missing

BASE, TLS = "docker-compose.yml", "docker-compose.tls.yml"
SECRETS = {"VALKEY_PASSWORD": "0123456789abcdef", "QDRANT_API_KEY": "fedcba9876543210"}
STORES = {"valkey", "qdrant"}
APP = {"api", "worker", "rq-dashboard"}
OBSERVE = {"prometheus", "grafana"}
GATE = "secrets-in-env-file"


def composed(*files: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Have docker-compose read and merge these files, with these variables alone."""
    if shutil.which("docker-compose") is None:
        missing("docker-compose")
    chosen = [part for file in files for part in ("-f", file)]
    with NamedTemporaryFile() as empty:  # in the place of .env
        return subprocess.run(
            ["/usr/bin/env", "docker-compose", "--env-file", empty.name, *chosen, "config"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            check=False,
        )


def services(name: str = BASE) -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text())["services"]
    return read


def test_without_a_profile_only_the_stores_start() -> None:
    assert {name for name, parts in services().items() if "profiles" not in parts} == STORES
    assert {name for name, parts in services().items() if parts.get("profiles") == ["app"]} == {*APP, GATE}
    assert {name for name, parts in services().items() if parts.get("profiles") == ["observe"]} == OBSERVE


@pytest.mark.parametrize("name", sorted(STORES | APP | OBSERVE))
def test_every_container_has_the_least_it_needs(name: str) -> None:
    parts = services()[name]
    assert parts["read_only"] is True
    assert parts["cap_drop"] == ["ALL"]
    assert parts["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", parts["user"])
    assert parts["mem_limit"]
    assert int(parts["pids_limit"]) > 0
    assert all(mount.startswith("/tmp:size=") for mount in parts["tmpfs"])
    assert parts["healthcheck"]["test"]
    for forbidden in ("privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"):
        assert forbidden not in parts
    assert "docker.sock" not in str(parts)


@pytest.mark.parametrize("name", sorted(STORES | APP | OBSERVE))
def test_only_volumes_can_be_written_to(name: str) -> None:
    for mount in services()[name].get("volumes", []):
        if isinstance(mount, dict):
            assert mount["read_only"] is True
            continue
        source = mount.partition(":")[0]
        assert source in {"valkey", "qdrant", "data", "prometheus", "grafana"} or mount.endswith(":ro"), mount


@pytest.mark.parametrize("name", sorted(STORES | APP | OBSERVE))
def test_ports_are_published_on_loopback_only(name: str) -> None:
    ports = services()[name].get("ports", [])
    assert all(str(port).startswith("127.0.0.1:") for port in ports)
    assert len(ports) == (0 if name == "worker" else 1)


def test_jobs_are_kept_and_workers_can_be_scaled() -> None:
    valkey = services()["valkey"]
    assert valkey["container_name"] == "valkey_queue"
    command = valkey["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--appendfsync") + 1] == "${VALKEY_APPENDFSYNC:-always}"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert all(any(":/" in mount for mount in services()[name]["volumes"]) for name in STORES)
    assert "container_name" not in services()["worker"]


def test_every_setting_reaches_the_containers() -> None:
    # What containers have of their own; more processes are more containers; TLS has its file.
    own = {"HOST", "PORT", "AUTH_REQUIRED", "ALLOW_ANONYMOUS", "DATA_DIR", "VALKEY_URL", "QDRANT_URL", "QDRANT_API_KEY"}
    own |= {"WORKER_PROCESSES", "TLS_CA_FILE", "VALKEY_APPENDFSYNC", "HEARTBEAT_FILE", "METRICS_PORT", "METRICS_HOST"}
    passed = {name for name, value in services()["api"]["environment"].items() if value == f"${{{name}:-}}"} - {
        "QDRANT_API_KEY"
    }
    assert passed == {name.upper() for name in Settings.model_fields} - own - {"LOG_FORMAT"}
    extra = {"HEARTBEAT_FILE": "/tmp/worker-heartbeat"}
    assert services()["worker"]["environment"] == services()["api"]["environment"] | extra


def test_the_profile_observe_reads_what_is_generated() -> None:
    for path in ("prometheus.yml", "alerts.yml", "dashboard.json", "grafana/datasource.yml", "grafana/dashboards.yml"):
        assert (ROOT / "deploy/observe" / path).exists()
    scraped = yaml.safe_load((ROOT / "deploy/observe/prometheus.yml").read_text())
    (target,) = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    api = services()["api"]
    assert (target, api["environment"]["METRICS_PORT"]) == ("api:9464", "${METRICS_PORT:-9464}")
    assert "metrics" in api["networks"]
    assert all("9464" not in str(port) for port in api["ports"])
    assert {str(services()[name]["networks"]) for name in OBSERVE} == {"['metrics']"}
    source = yaml.safe_load((ROOT / "deploy/observe/grafana/datasource.yml").read_text())["datasources"][0]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    provider = yaml.safe_load((ROOT / "deploy/observe/grafana/dashboards.yml").read_text())["providers"][0]
    mounts = " ".join(services()["grafana"]["volumes"])
    assert f":{provider['options']['path']}/dashboard.json:ro" in mounts


def test_the_stores_start_with_nothing_set() -> None:
    done = composed(BASE)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    merged = yaml.safe_load(done.stdout)["services"]
    assert merged["valkey"]["environment"]["VALKEY_PASSWORD"] == ""
    assert merged["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"] == ""


@pytest.mark.parametrize("missing_one", [None, *sorted(SECRETS)])
def test_the_containers_of_the_app_wait_for_both_secrets(missing_one: str | None) -> None:
    for name in APP:
        assert services()[name]["depends_on"][GATE] == {"condition": "service_completed_successfully"}
    script = services()[GATE]["entrypoint"][1].replace("/etc/valkey", str(ROOT / "deploy/valkey"))
    variables = {name: "" if name == missing_one else value for name, value in SECRETS.items()}
    done = subprocess.run(["/bin/sh", script], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if missing_one is None else 1)
    says = "" if missing_one is None else f'run: echo "{missing_one}=$(openssl rand -hex 32)" >> .env\n'
    assert done.stderr.endswith(says)


@pytest.mark.parametrize("missing_one", sorted(SECRETS))
def test_tls_wants_both_secrets(missing_one: str) -> None:
    done = composed(BASE, TLS, **{name: text for name, text in SECRETS.items() if name != missing_one})
    assert done.returncode != 0
    assert missing_one in done.stderr


@pytest.mark.parametrize("name", [BASE, TLS])
def test_no_secret_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    for secret in SECRETS:
        # Only as ${NAME:?...} or ${NAME:-}, never with a default.
        uses = re.findall(rf"\$\{{{secret}(:-\}}|:\?|[^:])", text)
        assert set(uses) <= {":?", ":-}"}
    for line in text.splitlines():
        found = re.match(r"\s+(?:\w*(?:PASSWORD|API_KEY|SECRET|TOKEN)\w*): *(.*)$", line)
        assert found is None or re.match(r"\$\{\w+:(\?|-\})", found[1]), line
    assert len(re.findall(r"rediss?://", text)) == len(
        re.findall(r"rediss?://rag:(?:\$\{VALKEY_PASSWORD|PASSWORD)", text)
    )


def test_compose_reads_both_files_and_tls_replaces_what_is_not() -> None:
    done = composed(BASE, TLS, **SECRETS)
    assert done.returncode == 0, done.stderr
    merged = yaml.safe_load(done.stdout)["services"]
    for name in ("api", "worker"):
        use = merged[name]["environment"]
        assert use["VALKEY_URL"] == f"rediss://rag:{SECRETS['VALKEY_PASSWORD']}@valkey:6379"
        assert use["QDRANT_URL"] == "https://qdrant:6333"
        assert use["TLS_CA_FILE"] == "/certs/ca.crt"
        assert use["AUTH_REQUIRED"] == "1"
    assert merged["qdrant"]["environment"]["QDRANT__SERVICE__API_KEY"] == SECRETS["QDRANT_API_KEY"]
    assert merged["qdrant"]["environment"]["QDRANT__SERVICE__ENABLE_TLS"] == "true"
    assert "redis://" not in done.stdout
    assert "http://qdrant" not in done.stdout
    for parts in merged.values():
        assert parts["read_only"]
        assert parts["cap_drop"] == ["ALL"]
        assert (
            all(mount.endswith(":ro") for mount in parts["volumes"] if "certs" in mount) if "volumes" in parts else True
        )


def test_the_image_is_not_root_and_installs_only_what_is_locked() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stages = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    for start, end in zip(stages[1:], [*stages[2:], len(lines)], strict=True):
        if lines[start] != "FROM base AS packages":  # of which only the packages are copied
            assert "USER 10001" in lines[start:end], lines[start]
    installs = [line for line in lines if re.search(r"\bpip .*install ", line)]
    assert len(installs) == 5
    assert all("--require-hashes" in line for line in installs)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env*", ".git*", ".venv*", "data", "tests", "deploy"} <= set(ignored)


def test_certificates_are_never_committed() -> None:
    assert "deploy/certs/" in (ROOT / ".gitignore").read_text().split()


def test_scripts_are_plain_sh(tmp_path: Path) -> None:
    for script in (ROOT / "deploy").rglob("*.sh"):
        assert script.read_text().startswith("#!/bin/sh\n")
        assert subprocess.run(["/bin/sh", "-n", script], cwd=tmp_path, check=False).returncode == 0
