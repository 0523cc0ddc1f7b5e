"""Programs as forks: what a test sees of a fork and of a new interpreter is the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import NO_VALKEY
from tests.support import forkserver
from tests.support.processes import PYTHON, RQ, Fresh, environment, processes_of, run, running, wait_until


@pytest.mark.parametrize("kind", [list, Fresh], ids=["fork", "new interpreter"])
def test_a_program_has_its_own_arguments_environment_outputs_and_exit_status(
    kind: type[list[str]], tmp_path: Path
) -> None:
    done = run(kind([PYTHON, "main.py", "keys", "create", "--name", "ci"]), DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "of user local" in done.stdout
    assert (tmp_path / "uploads.db").exists()
    refused = run(kind([PYTHON, "main.py", "keys"]), DATA_DIR="/proc/nope")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("usage: main.py keys")


@pytest.mark.parametrize("kind", [list, Fresh], ids=["fork", "new interpreter"])
def test_a_program_runs_in_a_session_of_its_own_and_can_be_killed(kind: type[list[str]], tmp_path: Path) -> None:
    use = {"DATA_DIR": str(tmp_path / "data"), "VALKEY_URL": NO_VALKEY}
    with running(kind([PYTHON, "main.py", "worker"]), tmp_path / "log", **use) as worker:
        wait_until(lambda: "Valkey is away" in worker.output, seconds=40, what=lambda: worker.output)
        assert worker.process.poll() is None
        assert os.getsid(worker.process.pid) == worker.process.pid
        assert Path(f"/proc/{worker.process.pid}/cwd").readlink() == forkserver.ROOT
        worker.kill()
        assert worker.process.poll() == worker.process.wait() == -signal.SIGKILL
        assert not Path(f"/proc/{worker.process.pid}").exists()


def test_a_program_left_behind_is_found(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.getbasetemp())
    assert run([RQ, "--version"]).returncode == 0  # the process that forks runs now, and is found itself
    before = len(processes_of(folder))
    with running([PYTHON, "main.py", "worker"], tmp_path / "log", DATA_DIR=str(tmp_path), VALKEY_URL=NO_VALKEY):
        wait_until(lambda: len(processes_of(folder)) == before + 1)


def test_another_program_is_no_fork() -> None:
    files = {"stdout": 1, "stderr": 2}
    assert forkserver.start(["sh", "-c", "exit 3"], environment=environment(), **files) is None
    assert run(["sh", "-c", "exit 3"]).returncode == 3
