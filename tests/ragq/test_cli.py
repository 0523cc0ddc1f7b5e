"""The command `ragq` against a running service: what it prints for people and for programs, and its exit status."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ragq import Client
from tests.ragq.conftest import ANSWER, QUESTION, Served, ragq
from tests.support.processes import PYTHON, ROOT, environment, free_port
from tests.support.terminals import in_terminal

RAGQ = [PYTHON, "-m", "ragq"]
ANSWERED = f"""\
{ANSWER}

[1] handbook.pdf, page 2 (page 4 of the file)
    “A full charge takes three hours and twenty minutes.”
"""


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_ask_prints_the_answer_and_its_sources(served: Served) -> None:
    for arguments in (["--no-cache"], ["--no-cache", "--stream"], ["-d", "handbook.pdf", "--pages", "3-5", "-k", "4"]):
        done = ragq("ask", QUESTION, *arguments, url=served.url)
        assert (done.exit_code, done.stdout) == (0, ANSWERED), done.stderr
    assert ragq("ask", "-", url=served.url, text=QUESTION).stdout == ANSWERED


def test_ask_for_programs(served: Served) -> None:
    (answer,) = records(ragq("ask", QUESTION, "--json", url=served.url).stdout)
    assert (answer["result"], answer["sources"][0]["page"], answer["status"]) == (ANSWER, 4, "completed")
    events = records(ragq("ask", QUESTION, "--json", "--stream", "--no-cache", url=served.url).stdout)
    assert [event["event"] for event in events][:2] == ["queued", "started"]
    assert "".join(event["data"]["text"] for event in events if event["event"] == "token") == ANSWER
    assert events[-1]["data"]["result"] == ANSWER


def test_an_answer_that_no_document_supports_has_its_own_exit_status(served: Served) -> None:
    served.model.answer = "I could not find this in the documents."
    done = ragq("ask", "Who won the regatta of 1903?", "--no-cache", url=served.url)
    assert done.exit_code == 3


def test_a_streamed_answer_is_printed_again_where_the_check_changed_it(served: Served) -> None:
    served.model.answer = f"{ANSWER} It weighs a ton [1]."
    done = ragq("ask", QUESTION, "--stream", "--no-cache", url=served.url)
    written, _, checked = done.stdout.partition("The answer after the check of its citations:")
    assert "weighs a ton [1]." in written
    assert "weighs a ton." in checked


def test_what_controls_a_terminal_is_not_printed(served: Served) -> None:
    served.model.answer = f"\x1b]0;title\x07\x1b[2J\u202eevil\u2028 {ANSWER}"
    for arguments in ([], ["--stream"], ["--json"], ["--json", "--stream"]):
        done = ragq("ask", QUESTION, "--no-cache", *arguments, url=served.url)
        assert "three hours" in done.stdout
        assert not set("\x1b\x07\u202e\u2028") & set(done.stdout + done.stderr)


def test_open_shows_the_page_of_a_source(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_it(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", open_it)
    assert ragq("open", "1", url=served.url).exit_code == 2  # nothing was asked yet
    (answer,) = records(ragq("ask", QUESTION, "--json", url=served.url).stdout)
    upload_id, job_id = answer["sources"][0]["upload_id"], answer["job_id"]
    address = f"{served.url}/#/ask?view={upload_id}&page=4&job={job_id}&n=1"
    assert ragq("open", "1", url=served.url).stdout == f"{address}\n"
    assert opened == [address]
    assert records(ragq("open", "1", "--print", "--json", url=served.url).stdout) == [{"url": address, "opened": False}]
    assert ragq("open", "1", "--job", job_id, "--print", url=served.url).stdout == f"{address}\n"
    missing = ragq("open", "2", url=served.url)
    assert (missing.exit_code, missing.stderr) == (1, "error: the answer has no source 2: its sources are 1\n")


def test_upload_of_files_and_folders(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    (folder / "deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "no.txt").write_text("hidden")
    (folder / "a.txt").write_text("The ferry to Brindle Point leaves at seven.")
    (folder / "deeper" / "b.txt").write_text("The ferry returns at nine.")
    (folder / "song.mp3").write_bytes(b"ID3\x03\x00\x00\x00\x00\x00\x21" + bytes(range(256)) * 20)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4\nbroken")
    done = ragq("upload", str(folder), "--wait", "--collection", "ferries", url=served.url)
    assert done.exit_code == 1
    assert f"{folder / 'a.txt'}: ready, 1 page\n" in done.stdout
    assert f"{folder / 'deeper' / 'b.txt'}: ready, 1 page\n" in done.stdout
    assert f"{folder / 'song.mp3'}: skipped, " in done.stderr
    assert f"{folder / 'broken.pdf'}: failed: " in done.stderr
    assert "indexing a.txt" in done.stderr
    assert "4 files: " in done.stderr
    again = records(ragq("upload", str(folder / "a.txt"), "--wait", "--json", url=served.url).stdout)
    assert [(one["path"], one["status"], one["duplicate"]) for one in again] == [(str(folder / "a.txt"), "ready", True)]
    named = ragq("upload", str(folder / "song.mp3"), "--json", url=served.url)
    assert named.exit_code == 1
    (failed,) = records(named.stdout)
    assert (failed["status"], failed["error"]["status"]) == ("failed", 415)


def test_ls_and_rm(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "gone.txt"
    file.write_text("This will be deleted.")
    assert ragq("upload", str(file), "--wait", url=served.url).exit_code == 0
    (row,) = ragq("ls", "--name", "gone", url=served.url).stdout.splitlines()
    assert row.split("\t")[:3] == ["gone.txt", "ready", "1"]
    (listed,) = records(ragq("ls", "--name", "gone", "--json", url=served.url).stdout)
    assert listed["upload_id"] == row.split("\t")[-1]
    assert ragq("rm", "gone.txt", url=served.url).stdout == "gone.txt: deleted\n"
    assert ragq("rm", "gone.txt", url=served.url).exit_code == 4
    assert ragq("ls", "--name", "gone", "--status", "ready", url=served.url).stdout == ""


def test_jobs_watch_and_cancel(served: Served) -> None:
    served.model.chat_delay_seconds = 20
    with Client(served.url) as client:
        job_id = client.submit(QUESTION, cache=False)
    (row,) = ragq("jobs", "--kind", "chat", "--limit", "1", url=served.url).stdout.splitlines()
    assert row.split("\t")[3:] == [QUESTION, job_id]
    assert ragq("cancel", job_id, url=served.url).stdout == f"{job_id}: cancelled\n"
    assert records(ragq("cancel", job_id, "--json", url=served.url).stdout)[0]["status"] == "cancelled"
    watched = ragq("watch", job_id, url=served.url)
    assert (watched.exit_code, watched.stdout) == (1, "")
    assert "cancelled" in watched.stderr
    served.model.chat_delay_seconds = 0
    assert ragq("ask", QUESTION, "--no-cache", url=served.url).exit_code == 0
    last = ragq("watch", url=served.url)
    assert last.stdout == ANSWERED
    assert "searching" in last.stderr
    events = records(ragq("watch", "--json", url=served.url).stdout)
    assert events[-1]["event"] == "finished"


def test_errors_say_what_to_do_and_have_their_exit_status(served: Served) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    absent = ragq("ls", url=url)
    assert absent.exit_code == 5
    assert absent.stderr.startswith(f"error: no server answers at {url}")
    assert "make run" in absent.stderr
    refused = ragq("ask", QUESTION, "--model", "other", "--json", url=served.url)
    assert (refused.exit_code, refused.stdout) == (4, "")
    error = json.loads(refused.stderr)["error"]
    assert (error["kind"], error["status"], error["exit_status"]) == ("RequestRefused", 422, 4)
    assert "model" in error["detail"]
    assert ragq("ask", QUESTION, "--pages", "9-x", url=served.url).exit_code == 2
    assert ragq("watch", "01a1fd24-229b-74a9-850a-3c900807816f", url=served.url).exit_code == 4
    assert ragq("upload", "/nowhere", url=served.url).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, served: Served) -> None:
    script = ragq("completion", shell, url=served.url).stdout
    assert f"_RAGQ_COMPLETE={shell}_complete" in script
    use = {"_RAGQ_COMPLETE": f"{shell}_complete", "COMP_WORDS": "ragq ask --document hand", "COMP_CWORD": "3"}
    if shell == "fish":
        use["COMP_CWORD"] = "hand"
    done = subprocess.run(
        [PYTHON, "-c", "from ragq.cli import main; main(prog_name='ragq')"],
        cwd=ROOT,
        env=environment(RAGQ_URL=served.url, **use),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "handbook.pdf" in done.stdout, done.stderr


def test_in_a_terminal_progress_is_drawn(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "drawn.txt"
    file.write_text("The bell of Brindle Point was cast in 1790.")
    sent = in_terminal([*RAGQ, "upload", "--wait", str(file)], RAGQ_URL=served.url)
    assert sent.status == 0
    assert "indexing drawn.txt" in sent.written
    assert "━" in sent.written
    assert sent.screen == f"{file}: ready, 1 page\n"
    listed = in_terminal([*RAGQ, "ls", "--name", "drawn"], RAGQ_URL=served.url).screen.splitlines()
    assert [line.split()[0] for line in listed] == ["name", "drawn.txt"]


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(served: Served) -> None:
    served.model.chat_delay_seconds = 3
    asked = in_terminal([*RAGQ, "ask", QUESTION, "--no-cache"], interrupt_at="answering", RAGQ_URL=served.url)
    assert asked.status == 130
    assert "The job goes on" in asked.screen
    assert "Traceback" not in asked.written
    assert ragq("watch", url=served.url).stdout == ANSWERED


def test_importing_the_package_needs_nothing_of_the_server(tmp_path: Path) -> None:
    ours = {"api", "settings", "schemas", "errors", "observability", "fastapi", "rq", "redis", "pydantic"}
    look = f"import sys, ragq.cli; print(sorted({ours} & set(sys.modules)))"
    done = subprocess.run(
        [PYTHON, "-c", look],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
