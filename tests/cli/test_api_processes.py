"""Several API processes on one port, as API_PROCESSES starts them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.cli.test_main import Service, service, upload
from tests.support.pdfs import write_pdf
from tests.support.processes import PYTHON, Fresh, Running, descendants, free_port, refused, running, wait_until


def api_processes(main: Running) -> list[int]:
    """Return the process ids of the API processes of a main.py."""
    found = []
    for process in descendants(main.process.pid):
        with suppress(OSError):
            if b"\0--listen-fd=" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def wait_for_starts(main: Running, number: int) -> None:
    """Wait until API processes have started this many times."""
    wait_until(
        lambda: main.output.count("Application startup complete") >= number, seconds=40, what=lambda: main.output
    )


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop an API process, so that the other one has to answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text())
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ask(base_url: str) -> str:
    """Ask a question over a connection of its own."""
    response = httpx.post(f"{base_url}/chat", params={"query": "When was it built?"}, timeout=20)
    assert response.status_code == 202
    return str(response.json()["job_id"])


def wait_for_result(base_url: str, job_id: str) -> str:
    response = httpx.get(f"{base_url}/result/{job_id}", params={"wait": 30}, timeout=40)
    assert response.status_code == 200
    return str(response.json()["result"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run everything with two API processes, and a document that says when it was built."""
    folder = tmp_path_factory.mktemp("two")
    with service(folder, API_PROCESSES="2") as started:
        wait_for_starts(started.process, 2)
        upload(write_pdf(folder / "lighthouse.pdf", ["The lighthouse was built in 1887."]), started.api)
        started.api.close()  # each request of the tests has a connection of its own
        yield started


def test_each_process_answers_for_the_questions_of_the_others(two: Service) -> None:
    base_url = str(two.api.base_url)
    first, second = api_processes(two.process)
    for one, other in ((first, second), (second, first)):
        with stopped(other):
            job_id = ask(base_url)
        with stopped(one):
            assert "1887" in wait_for_result(base_url, job_id)
            stream = httpx.get(f"{base_url}/jobs/{job_id}/events", timeout=20).text
            assert "event: started" in stream
            assert "event: finished" in stream


def test_a_killed_process_is_started_again_and_no_question_is_lost(two: Service) -> None:
    base_url = str(two.api.base_url)
    victim, other = api_processes(two.process)
    starts = two.process.output.count("Application startup complete")
    with stopped(other):
        job_id = ask(base_url)
        os.kill(victim, signal.SIGKILL)
    assert "1887" in wait_for_result(base_url, job_id)
    wait_for_starts(two.process, starts + 1)
    with stopped(other):
        assert "1887" in wait_for_result(base_url, ask(base_url))


def test_the_api_run_alone_starts_its_processes_and_ends_them(tmp_path: Path) -> None:
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port, "API_PROCESSES": "2"}
    with running(Fresh([PYTHON, "main.py", "api"]), tmp_path / "api.log", **use) as process:
        wait_for_starts(process, 2)
        assert f"2 API processes on 127.0.0.1, port {port}" in process.output
        assert httpx.get(f"http://127.0.0.1:{port}/ready", timeout=20).status_code == 200
        assert f"PORT {port}" in refused("api", **use)
        below = descendants(process.process.pid)
        assert len(api_processes(process)) == 2
        process.process.terminate()
        assert process.ended(30) == 0
        assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]  # Valkey has ended, too
        assert "Traceback" not in process.output
