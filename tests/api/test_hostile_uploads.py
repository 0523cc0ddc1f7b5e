"""Hostile files and hostile names through the front door: uploaded over HTTP to a service with a worker of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from documents.incoming import MAX_NAME_CHARS
from settings import Settings
from tests.api.test_uploads import post, state, uploaded
from tests.support.hostile_pdfs import tree_loops
from tests.support.hostile_streams import billion_laughs, gibibyte, shared_work
from tests.support.hostile_texts import docx_bomb, html_comments
from tests.support.processes import PYTHON, descendants, running, wait_until

EXTRACT_SECONDS = "3"  # of CPU, which take longer beside other work; `make bench-hostile` measures with the default
ENDED = {"ready", "failed"}
# Each file with the reasons for which it may fail. None: the file must be read.
WORST: dict[str, tuple[Callable[[], bytes], set[str | None]]] = {
    "shared-work.pdf": (shared_work, {"timeout"}),
    "gibibyte.pdf": (gibibyte, {"timeout", "too_large"}),
    "billion-laughs.pdf": (billion_laughs, {None, "timeout", "too_large", "no_text"}),
    "bomb.docx": (docx_bomb, {"timeout", "too_large", "broken"}),
    "loops.pdf": (tree_loops, {None}),
    "comments.txt": (html_comments, {None}),
}


def _workers(pid: int) -> set[int]:
    """Return a worker and the processes below it, but not the readers of files."""
    found = {pid, *descendants(pid)}
    return {one for one in found if b"rag.ingest.reader_process" not in Path(f"/proc/{one}/cmdline").read_bytes()}


@pytest.mark.timeout(300)
def test_the_worst_files_end_with_a_reason_and_the_worker_goes_on(
    api: httpx.Client, settings: Settings, pdf: Path, tmp_path: Path
) -> None:
    use = {"DATA_DIR": str(settings.data_dir), "VALKEY_URL": settings.queue_url, "EXTRACT_SECONDS": EXTRACT_SECONDS}
    with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use) as worker:
        first = uploaded(api, ("first.txt", b"The first file says that the harbour froze in 1901."))
        wait_until(lambda: state(api, first)["status"] == "ready", what="the first file")
        before = _workers(worker.process.pid)
        ids = {name: uploaded(api, (name, make())) for name, (make, _) in WORST.items()}
        for name, upload_id in ids.items():
            wait_until(lambda one=upload_id: state(api, one)["status"] in ENDED, seconds=200, what=name)  # type: ignore[misc]
            ended = state(api, upload_id)
            assert ended.get("reason") in WORST[name][1], name
            assert ended["status"] == ("failed" if "reason" in ended else "ready")
        good = uploaded(api, pdf)
        asked = api.post(
            "/chat", json={"query": "When was the lighthouse built?", "upload_id": good, "after_upload": True}
        ).json()["job_id"]
        wait_until(lambda: api.get(f"/result/{asked}").status_code == 200, what="the answer")
        assert "1887" in api.get(f"/result/{asked}").json()["result"], worker.output
        assert state(api, good)["status"] == "ready"
        assert worker.process.poll() is None
        assert before <= _workers(worker.process.pid), "the same processes as before"
        assert api.get("/health").status_code == 200


NAMES = {
    "up": "../../etc/passwd.txt",
    "up in Windows": "..\\..\\x.txt",
    "absolute": "/etc/cron.d/evil.txt",
    "drive": "C:\\Windows\\evil.txt",
    "dots": "..",
    "slashes": "////",
    "NUL": "a\x00b.txt",
    "escaped NUL": "a%00b.txt",
    "long": "x" * 3_500 + ".txt",
    "right to left": "invoice\u202egnp.txt",
    "new lines": "a\r\nX-Injected: yes\r\n\r\n<html>.txt",
    "other new lines": "a\u2028b\u0085c.txt",
    "quote": 'a"; filename="evil.exe',
    "parameter": "a.txt; filename*=UTF-8''evil.exe",
    "device": "con.txt",
    "stream": "a.txt:evil.exe",
    "emoji": "\U0001f469\u200d\U0001f4bb\U0001f3f4.txt",
    "HTML": "<img src=x onerror=alert(1)>.txt",
    "template": "{{7*7}}${7*7}#{7*7}%d%s%n.txt",
    "shell": "$(touch pwned) `touch pwned`; touch pwned | x & y > z.txt",
    "dash": "--help -rf.txt",
    "SQL": "'; DROP TABLE uploads; --.txt",
    "spaces": "   \t ",
    "combining": "e" + "\u0301" * 1_000 + ".txt",
    "tilde": "~root.txt",
    "partial": "evil.partial",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_are_only_data(kind: str, api: httpx.Client, settings: Settings, tmp_path: Path) -> None:
    name, data = NAMES[kind], f"What the file says: {kind}.".encode()
    body = post(api, (name, data)).json()
    upload_id, shown = body["upload_id"], body["name"]
    assert shown
    assert shown.isprintable()
    assert len(shown) <= MAX_NAME_CHARS
    assert not {"/", "\\"} & set(shown)
    assert state(api, upload_id)["name"] == shown

    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == data]
    assert [path.parent for path in files] == [settings.files_dir], "the file is in the store, once, and nowhere else"
    assert set(files[0].name) <= set("0123456789abcdef-")
    assert len(files[0].name) == len("0190a8c4-1d2e-7c3a-9f00-0123456789ab")
    assert not Path("pwned").exists()

    download = api.get(f"/uploads/{upload_id}/file")
    assert download.content == data
    assert "x-injected" not in download.headers
    disposition = download.headers.get_list("content-disposition")
    assert len(disposition) == 1
    start, _, quoted = disposition[0].partition("''")
    assert start == "attachment; filename*=UTF-8"
    assert set(quoted) <= set("%-_.~") | set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    assert download.headers["content-security-policy"] == "sandbox"
    assert api.get("/uploads", params={"name": shown[:100]}).json()["uploads"][0]["upload_id"] == upload_id


def test_a_name_of_ten_thousand_letters_is_a_422(api: httpx.Client, settings: Settings) -> None:
    response = post(api, ("x" * 10_000 + ".txt", b"Hello"))
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body"
    assert "xxx" not in response.text
    assert not settings.files_dir.exists()


@pytest.mark.parametrize(
    "parameter",
    [b'filename="\xff\xfe\xed\xa0\x80.txt"', b'filename="a\x01\x7f\x9b.txt"', b'filename=""', b"filename*=x"],
)
def test_a_name_in_raw_bytes_is_only_data(parameter: bytes, api: httpx.Client, settings: Settings) -> None:
    """A name that no client library would send: half a character, bare control characters, no name at all."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; ' + parameter + b"\r\n\r\nHello\r\n--b--\r\n"
    response = api.post("/uploads", content=part, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code in {202, 422}, response.text
    if response.status_code == 202:
        assert response.json()["name"].isprintable()
        (stored,) = settings.files_dir.iterdir()
        assert set(stored.name) <= set("0123456789abcdef-")
