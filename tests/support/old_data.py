"""Make the data folder of an earlier version: `python -m tests.support.old_data COMMIT FILE`.

The version of the commit, on embedded engines, indexes a document and answers a question. Then its API alone accepts a
document and a question, which wait. The folder is packed into FILE, a .tar.zst. Needs the history of the repository.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import zstandard

from tests.support.processes import PYTHON, ROOT, environment, free_port, wait_until

DOCUMENT = b"The lighthouse of Brindle Point was built in 1887.\n\nIts lamp turns once in twelve seconds."
WAITING = b"The keeper's cottage has been a museum since 1974."
QUESTION = "When was the lighthouse built?"
SECONDS = 900.0
# Ten years, the longest there is: what has expired cannot be read.
TTL_SECONDS = 315_360_000
# What a start makes again.
LEFT_OUT = {"valkey.log", "server.lock", "url", "port", "turn.lock", "next.lock", "owner.lock", "page-cache", "pages"}


def main(commit: str, target: Path) -> None:
    """Make the data, and pack it."""
    with tempfile.TemporaryDirectory(prefix="old-") as folder:
        code, data = Path(folder) / "code", Path(folder) / "data"
        subprocess.run(["git", "worktree", "add", "--detach", "-q", str(code), commit], cwd=ROOT, check=True)
        try:
            _use(code, data, ["main.py"], DOCUMENT, answered=True)
            _use(code, data, ["main.py", "api"], WAITING, answered=False)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=ROOT, check=True)
        _pack(data, target)


def _use(code: Path, data: Path, arguments: list[str], document: bytes, *, answered: bool) -> None:
    """Run a part of the old version, send a document and ask a question; wait for the answer if there is a worker."""
    port = free_port()
    variables = environment(
        DATA_DIR=str(data), PORT=str(port), PYTHONPATH=str(code), RESULT_TTL_SECONDS=str(TTL_SECONDS)
    )
    with (
        subprocess.Popen([PYTHON, *arguments], cwd=code, env=variables) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as api,
    ):
        try:
            wait_until(lambda: _answers(api), seconds=SECONDS, what="the API")
            sent = api.post("/uploads", files={"file": (f"{len(document)}.txt", document)}).raise_for_status().json()
            if answered:
                wait_until(lambda: _status(api, sent["upload_id"]) == "ready", seconds=SECONDS, what="the indexing")
            job = (
                api.post("/chat", json={"query": QUESTION, "conversation_id": "old"})
                .raise_for_status()
                .json()["job_id"]
            )
            if answered:
                wait_until(lambda: api.get(f"/result/{job}").status_code == 200, seconds=SECONDS, what="the answer")
                (data / "answered").write_text(job)
            else:
                (data / "waiting").write_text(job)
        finally:
            process.terminate()
            process.wait(SECONDS)


def _answers(api: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return api.get("/health").is_success
    return False


def _status(api: httpx.Client, upload_id: str) -> str:
    return str(api.get(f"/uploads/{upload_id}").json()["status"])


def _pack(data: Path, target: Path) -> None:
    for path in [*data.rglob("*")]:
        if path.name in LEFT_OUT and path.is_file():
            path.unlink()
    shutil.rmtree(data / "pages", ignore_errors=True)
    with (
        target.open("wb") as file,
        zstandard.ZstdCompressor(19).stream_writer(file) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        tar.add(data, arcname="data")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
