"""Data of earlier versions, which tests.support.old_data has made, under this version.

`migration-0003` is of a version without an id of the deployment, versions of the index, and conversations in SQL;
`migration-0008` is of the version before backups.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import httpx
import pytest
import zstandard

from tests.cli.test_main import service
from tests.queues.test_chat import answer
from tests.support.old_data import TTL_SECONDS
from tests.support.processes import PYTHON, ROOT, environment, wait_until

FOLDER = Path(__file__).parent
MAX_BYTES = 300_000


def unpack(name: str, target: Path) -> None:
    """Unpack the data of an earlier version, as the folder `data`."""
    packed = FOLDER / f"{name}.tar.zst"
    assert packed.stat().st_size < MAX_BYTES
    with (
        packed.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as content,
        tarfile.open(fileobj=content, mode="r|") as tar,
    ):
        tar.extractall(target, filter="data")


def run(*arguments: str, **use: str) -> str:
    command = [PYTHON, "main.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(**use), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["migration-0003", "migration-0008"])
def test_documents_answers_and_waiting_jobs_are_there_after_an_upgrade(name: str, tmp_path: Path) -> None:
    unpack(name, tmp_path)
    data = tmp_path / "data"
    answered, waiting = ((data / kind).read_text() for kind in ("answered", "waiting"))
    use = {"RESULT_TTL_SECONDS": str(TTL_SECONDS)}
    with service(tmp_path, **use) as started:
        assert "1887" in started.api.get(f"/result/{answered}").json()["result"]
        wait_until(lambda: started.api.get(f"/result/{waiting}").status_code == 200, seconds=60, what="the answer")
        assert "1887" in started.api.get(f"/result/{waiting}").json()["result"]
        uploads = started.api.get("/uploads").json()["uploads"]
        wait_until(lambda: _statuses(started.api) == {"ready"}, seconds=60, what=lambda: str(uploads))
        assert "1974" in answer(started.api, "Since when has the cottage been a museum?")["result"]
        assert started.api.get("/ready").json()["status"] == "ready"
        assert run("audit", "--repair", DATA_DIR=str(data)).splitlines()[-1] == "0 found"
        run("backup", str(tmp_path / "backup"), DATA_DIR=str(data), **use)
    again = {"DATA_DIR": str(tmp_path / "again"), **use}
    run("restore", str(tmp_path / "backup"), **again)
    assert "2 uploads" in run("doctor", **again)


def _statuses(api: httpx.Client) -> set[str]:
    return {each["status"] for each in api.get("/uploads").json()["uploads"]}
