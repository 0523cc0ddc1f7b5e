"""Every command with LANG=C, where Python would read names and text as ASCII, on names and text that are not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import main
from tests.cli.test_main import service
from tests.queues.test_chat import answer
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, ROOT, environment, wait_until

ASCII = {"LANG": "C", "LC_ALL": "", "LC_CTYPE": "", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
ASCII |= {"PYTHONIOENCODING": ""}


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command; fail on a traceback. Its output is read as UTF-8."""
    done = subprocess.run(
        [PYTHON, *arguments],
        cwd=ROOT,
        env=environment(**ASCII, **variables),
        capture_output=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "crash" not in done.stderr, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good and a broken document."""
    folder = tmp_path / "Bücher"
    folder.mkdir()
    write_pdf(folder / "Brücke № 1.pdf", ["The bridge of Aşağı was built in 1932 by Zoë Ångström."])
    (folder / "kaputt-ß.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    return folder


def test_python_itself_would_read_ascii() -> None:
    assert command("-c", "import sys; print(sys.getfilesystemencoding())").stdout == "ascii\n"


@pytest.mark.timeout(300)
def test_a_service_and_its_commands_know_every_letter(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "größe"
    home.mkdir()
    with service(home, **ASCII) as started:
        use = {"DATA_DIR": str(started.data_dir)}
        done = command("index.py", str(folder), **use)
        assert done.stdout.startswith("1 file, 1 page, 1 chunk stored; 1 failed: kaputt-ß.pdf (the PDF is broken")
        result = answer(started.api, "When did Zoë Ångström build the bridge?")
        assert [source["name"] for source in result["sources"]] == ["Brücke № 1.pdf"]
        assert "Zoë Ångström" in result["result"]
        job_id = started.api.post("/uploads", files={"file": ("ß.pdf", b"%PDF-1.7\n1 0 obj\n<<")}).json()["job_id"]
        wait_until(lambda: started.api.get(f"/job-status/{job_id}").json()["status"] == "failed")
        assert job_id in command("main.py", "dead", "list", **use).stdout
        assert "ö is not a dead letter" in command("main.py", "dead", "retry", "ö", **use).stderr
        assert command("main.py", "audit", **use).returncode == 0
        assert command("main.py", "keys", "create", "--name", "№ 1", "--user", "Zoë", **use).returncode == 0
        assert "user Zoë" in command("main.py", "keys", "create", "--name", "ß", "--user", "Zoë", **use).stdout
        assert "ö is not a key" in command("main.py", "keys", "revoke", "ö", **use).stderr
        assert "Traceback" not in started.process.output


def test_eval_reads_and_writes_every_letter(folder: Path, tmp_path: Path) -> None:
    question = {"question": "Wer baute die Brücke of Aşağı built?", "upload": "Brücke № 1.pdf", "pages": [1]}
    (tmp_path / "Fragen.jsonl").write_text(json.dumps(question | {"answer": "Zoë"}, ensure_ascii=False), "utf-8")
    report = tmp_path / "Übersicht.html"
    done = command(
        *("main.py", "eval", str(tmp_path / "Fragen.jsonl"), "--index", str(folder), "--report", str(report)),
        DATA_DIR=str(tmp_path / "größe"),
    )
    assert done.returncode == 0
    assert "left out: " in done.stderr
    assert "kaputt-ß.pdf" in done.stderr
    assert "Brücke № 1.pdf" in report.read_text("utf-8")


NOT_UTF_8 = os.fsdecode(b"\xeb")


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", "--user", NOT_UTF_8, "--name", "a"),
        ("keys", "create", "--name", NOT_UTF_8),
        ("keys", "revoke", NOT_UTF_8),
        ("dead", "retry", NOT_UTF_8),
    ],
)
def test_arguments_that_are_not_utf_8_are_refused_with_a_sentence(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(list(arguments))
    assert ": must be " in capsys.readouterr().err


def test_a_data_folder_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    done = command("main.py", "keys", "list", DATA_DIR=f"{tmp_path}/{NOT_UTF_8}")
    assert (done.returncode, done.stderr) == (
        2,
        "error: DATA_DIR must be a path in UTF-8 (if LANG is C, set PYTHONUTF8=1)\n",
    )
