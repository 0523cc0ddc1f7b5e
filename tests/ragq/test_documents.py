"""docs/ragq.md: its recording is what a terminal shows, and its Python program runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from ragq import Client
from ragq.cli import main
from tests.ragq.conftest import ANSWER, Served
from tests.support.documents import all_snippets
from tests.support.processes import PYTHON, ROOT, environment
from tests.support.terminals import in_terminal

DOCUMENT = (ROOT / "docs" / "ragq.md").read_text()
# What differs from run to run.
_VARIABLE = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "ID",
    r"\d{4}-\d\d-\d\d \d\d:\d\d": "TIME",
    r"http://127\.0\.0\.1:\d+": "SERVER",
}


def masked(text: str) -> str:
    for pattern, name in _VARIABLE.items():
        text = re.sub(pattern, name, text)
    return text


def test_the_recording_is_what_a_terminal_shows(served: Served, tmp_path: Path) -> None:
    with Client(served.url) as client:
        for upload in client.uploads():
            client.delete(upload.upload_id)
    (recording,) = (block.text for block in all_snippets("console"))
    shown = ""
    for line in re.findall(r"^\$ (.+)$", recording, re.MULTILINE):
        command, *arguments = shlex.split(line)
        assert command == "ragq"
        use = {"RAGQ_URL": served.url, "XDG_CONFIG_HOME": str(tmp_path)}
        shown += f"$ {line}\n" + in_terminal([PYTHON, "-m", "ragq", *arguments], **use).screen
    assert masked(shown) == masked(recording), shown


def test_the_program_runs(served: Served, tmp_path: Path) -> None:
    (program,) = (block.text for block in all_snippets("python") if "from ragq" in block.text)
    script = tmp_path / "program.py"
    script.write_text(program.replace("http://127.0.0.1:8000", served.url).replace("samples/", f"{ROOT}/samples/"))
    done = subprocess.run(
        [PYTHON, str(script)],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{ANSWER}\n[1] handbook.pdf, page 4: ")
    assert done.stdout.endswith(ANSWER)


def test_every_command_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `ragq (\w+)", DOCUMENT, re.MULTILINE)) == set(main.commands)


def test_the_exit_statuses_are_those_of_the_help() -> None:
    told = re.findall(r"^ +(\d+)  ", main.help or "", re.MULTILINE)
    assert re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE) == told
