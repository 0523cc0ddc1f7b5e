"""`pip install .` as a user runs it: into a bare environment, from the package index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from settings import VERSION
from tests.ragq.conftest import ANSWER, QUESTION, Served
from tests.support.processes import PYTHON, ROOT, environment

UV = str(Path(PYTHON).with_name("uv"))
# All that comes with the command. Another package must be worth its size.
PACKAGES = {"ragq", "anyio", "certifi", "click", "h11", "httpcore", "httpx", "httpx-sse", "idna"}
PACKAGES |= {"markdown-it-py", "mdurl", "pygments", "rich", "typing-extensions"}
TYPED = """\
from ragq import Answer, Client, EventStream

def ask(client: Client) -> tuple[Answer, EventStream]:
    return client.ask("a", k=3), client.ask("a", stream=True, collection="b")

def wrong(client: Client) -> None:
    client.ask("a", colection="b")
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has `ragq` alone."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    run(UV, "venv", "--quiet", "--python", PYTHON, str(folder))
    run(UV, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), str(ROOT))
    return folder / "bin"


def run(*command: str, folder: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installation_is_light(bare: Path) -> None:
    listed = run(UV, "pip", "list", "--python", str(bare / "python"), "--format", "freeze")
    assert {line.partition("==")[0] for line in listed.splitlines()} <= PACKAGES
    top = {path.name for path in (bare.parent).glob("lib/python3*/site-packages/*")}
    assert not top & {"api", "client", "settings", "queues", "tests"}
    assert not list(ROOT.glob("*.egg-info")) + list(ROOT.glob("build"))


def test_the_command_works(bare: Path, served: Served, tmp_path: Path) -> None:
    assert run(str(bare / "ragq"), "--version", folder=tmp_path) == f"ragq, version {VERSION}\n"
    assert "Exit status:" in run(str(bare / "ragq"), "--help", folder=tmp_path)
    assert ANSWER in run(str(bare / "ragq"), "ask", QUESTION, folder=tmp_path, RAGQ_URL=served.url)


def test_programs_see_the_types(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TYPED)
    command = [PYTHON, "-m", "mypy", "--strict", "--python-executable", str(bare / "python"), "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert {error.partition(" ")[0] for error in errors} == {"program.py:7:"}, done.stdout
    assert any("colection" in error for error in errors)
