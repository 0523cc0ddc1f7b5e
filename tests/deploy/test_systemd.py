"""The units of deploy/systemd, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from settings import Settings
from settings.stop_times import API_GRACE_SECONDS, PROCESS_STOP_SECONDS
from tests.support.processes import ROOT
from tests.support.servers import missing

UNITS = ROOT / "deploy" / "systemd"
# What `systemd-analyze security` says of an exposed service is 9.6; "medium" begins at 5.
MAX_EXPOSURE = 2.0


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units for a service that is installed where the tests run."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    for source in UNITS.iterdir():
        (tmp_path / source.name).write_text(source.read_text().replace("/opt/rag", str(ROOT)))
    return tmp_path


def analyze(units: Path, *arguments: str) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], cwd=units, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_to_complain_of(units: Path) -> None:
    names = ["rag-api.service", "rag-worker@1.service", "rag-backup.service", "rag-backup.timer"]
    assert {path.name.replace("@", "@1") for path in units.iterdir()} - set(names) == {"rag.conf"}
    assert analyze(units, "verify", "--man=no", *(f"./{name}" for name in names)) == ""


@pytest.mark.parametrize("name", ["rag-api.service", "rag-worker@.service", "rag-backup.service"])
def test_the_services_are_shut_in(name: str, units: Path) -> None:
    said = analyze(units, "security", "--offline=true", "--no-pager", f"./{name}")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found
    assert float(found[1]) <= MAX_EXPOSURE


def test_a_stop_leaves_the_time_that_processes_take() -> None:
    for name, seconds in (("rag-api.service", API_GRACE_SECONDS), ("rag-worker@.service", PROCESS_STOP_SECONDS)):
        (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (UNITS / name).read_text(), re.MULTILINE)
        assert int(stop) > seconds


def test_the_example_of_settings_names_settings() -> None:
    lines = (UNITS / "rag.conf").read_text().splitlines()
    names = {line.lstrip("# ").partition("=")[0].lower() for line in lines if "=" in line}
    assert names
    assert names <= Settings.model_fields.keys()
