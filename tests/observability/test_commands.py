"""Commands that are printed for somebody to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from main import _banner as banner
from observability import commands
from tests.conftest import MakeSettings
from tests.support.processes import ROOT


def test_commands_are_short_in_the_folder_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv" / "bin" / "python"))
    monkeypatch.chdir(ROOT)
    assert commands.script("index.py") == ".venv/bin/python index.py"
    assert commands.rq_worker("redis://h:1") == ".venv/bin/rq worker --url redis://h:1 rag_queries"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.chdir(tmp_path)
    assert commands.program("rq") == "./rq"


def test_commands_hold_full_paths_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "/opt/my tools/python")
    assert commands.script("main.py") == f"'/opt/my tools/python' {ROOT}/main.py"
    assert commands.rq_worker("redis://h:1").endswith(f"rag_queries --path {ROOT}")


def test_rq_worker_knows_the_path_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        ["sh", "-c", f"{commands.program('rq')} worker --help"], capture_output=True, text=True, check=True
    )
    assert "--path" in done.stdout


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")],
)
def test_the_address_that_main_prints_can_be_opened(host: str, shown: str, make_settings: MakeSettings) -> None:
    printed = banner(make_settings(host=host, port=8123), "redis://127.0.0.1:1")
    assert f"page     http://{shown}:8123\n" in printed
    assert f"http://{shown}:8123/docs\n" in printed
