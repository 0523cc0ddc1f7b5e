"""`python main.py` as a user runs it: everything, in processes that may be killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from client import embedded_valkey
from client.embedded_valkey import EmbeddedValkey
from tests.integration.test_chat import answer
from tests.processes import PYTHON, ROOT, Running, environment, free_port, running, wait_until


class Service:
    """A running `python main.py` and a client of its API."""

    def __init__(self, process: Running, api: httpx.Client, data_dir: Path) -> None:
        self.process = process
        self.api = api
        self.data_dir = data_dir

    @property
    def valkey_url(self) -> str:
        return (self.data_dir / "valkey" / "url").read_text()

    def children(self) -> dict[str, int]:
        """Return the process ids of the API, the worker and Valkey, by name."""
        pids = {}
        for line in subprocess.check_output(["ps", "-eww", "-o", "pid,args"], text=True).splitlines():
            pid, _, command = line.strip().partition(" ")
            for name, mark in (("api", " api --supervised"), ("worker", " worker --supervised")):
                if mark in command and f"DATA_DIR={self.data_dir}" in _environment_of(pid):
                    pids[name] = int(pid)
        with suppress(OSError, RedisError), Redis.from_url(self.valkey_url, socket_timeout=1) as valkey:
            pids["valkey"] = int(valkey.info("server")["process_id"])
        return pids

    def ready(self) -> bool:
        with suppress(httpx.TransportError, KeyError):
            return bool(self.api.get("/ready").json()["parts"]["workers"] == "ready")
        return False


def _environment_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def service(tmp_path: Path, log: str = "main.log", **variables: str) -> Iterator[Service]:
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port} | variables
    with (
        running([PYTHON, "main.py"], tmp_path / log, **use) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        started = Service(process, api, tmp_path / "data")
        wait_until(started.ready, seconds=40, what=lambda: f"the start of the service, which said {process.output}")
        yield started


def index(pdf: Path, data_dir: Path) -> None:
    subprocess.run(
        [PYTHON, "index.py", str(pdf)],
        cwd=ROOT,
        env=environment(DATA_DIR=str(data_dir)),
        check=True,
        capture_output=True,
    )


def test_one_command_serves_and_ctrl_c_ends_it_all(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        index(pdf, started.data_dir)
        assert "1887" in answer(started.api)["result"]
        assert started.api.get("/ready").json()["status"] == "ready"
        assert "offline" in started.process.output
        assert f"rq worker --url {started.valkey_url} rag_queries" in started.process.output
        children = started.children()
        assert set(children) == {"api", "worker", "valkey"}
        started.process.process.send_signal(signal.SIGINT)
        assert started.process.process.wait(20) == 0
        assert started.children() == {}
        with pytest.raises(ProcessLookupError):
            os.kill(children["valkey"], 0)
        assert "Traceback" not in started.process.output


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        index(pdf, started.data_dir)
        job_id = answer(started.api)["job_id"]
    with service(tmp_path) as again:
        assert "1887" in again.api.get(f"/result/{job_id}").json()["result"]
        assert "1887" in answer(again.api)["result"]


@pytest.mark.parametrize("victim", ["api", "worker", "valkey"])
def test_a_killed_part_comes_back_and_no_job_is_lost(victim: str, tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        index(pdf, started.data_dir)
        before = started.children()[victim]
        waiting = [started.api.post("/chat", params={"query": "When was it built?"}).json()["job_id"]]
        if victim == "valkey":
            time.sleep(1.1)  # its file is synced once a second
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: started.children().get(victim, before) != before, what=f"another {victim}")
        wait_until(started.ready, seconds=40, what="readiness")
        waiting.append(answer(started.api)["job_id"])
        for job_id in waiting:
            wait_until(lambda job_id=job_id: started.api.get(f"/result/{job_id}").status_code == 200, seconds=30)  # type: ignore[misc]


def test_the_parts_end_when_main_is_killed_and_the_next_start_goes_on(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path, "first.log") as started:
        index(pdf, started.data_dir)
        job_id = answer(started.api)["job_id"]
        os.kill(started.process.process.pid, signal.SIGKILL)
        wait_until(lambda: set(started.children()) <= {"valkey"}, what="the end of API and worker")
        left = started.children().get("valkey")
    with service(tmp_path, "second.log") as again:
        assert again.children()["valkey"] == left  # taken over, not doubled
        assert "1887" in again.api.get(f"/result/{job_id}").json()["result"]


def test_a_second_main_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with service(tmp_path):
        second = subprocess.run(
            [PYTHON, "main.py"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(tmp_path / "data"), PORT=str(free_port())),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert "another main.py runs" in second.stderr
        assert second.stderr.count("\n") == 1


def test_a_second_worker_on_the_embedded_store_is_told_to_set_qdrant_url(tmp_path: Path) -> None:
    with service(tmp_path):
        second = subprocess.run(
            [PYTHON, "main.py", "worker"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(tmp_path / "data")),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert "QDRANT_URL" in second.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [PYTHON, "main.py"],
            cwd=ROOT,
            env=environment(DATA_DIR=str(tmp_path), PORT=str(port)),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert f"PORT {port}" in done.stderr


def test_the_embedded_valkey_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    assert server.start()
    try:
        with Redis.from_url(server.url) as valkey:
            assert valkey.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert valkey.config_get("appendonly")["appendonly"] == "yes"
            assert valkey.config_get("bind")["bind"] == "127.0.0.1"
            valkey.set("kept", "yes")
        other = EmbeddedValkey(tmp_path)
        assert not other.start()
        assert other.url == server.url
        other.stop()
        with Redis.from_url(server.url) as valkey:
            assert valkey.get("kept") == b"yes"
    finally:
        server.stop()
    assert not (tmp_path / "url").exists()


def test_two_that_start_at_once_do_not_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = EmbeddedValkey(tmp_path / "first"), EmbeddedValkey(tmp_path / "second")
    taken = free_port()
    ports = iter([taken, taken, free_port()])  # both saw the same port free
    monkeypatch.setattr(EmbeddedValkey, "_free_port", lambda _self: next(ports))
    try:
        assert first.start()
        assert second.start()
        assert first.url != second.url
        for server, folder in ((first, "first"), (second, "second")):
            with Redis.from_url(server.url) as valkey:
                assert valkey.config_get("dir")["dir"] == str(tmp_path / folder)
    finally:
        first.stop()
        second.stop()


def test_the_first_takes_the_port_that_clients_expect_and_the_second_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = free_port()
    monkeypatch.setattr(embedded_valkey, "DEFAULT_PORT", default)
    first, second = EmbeddedValkey(tmp_path / "first"), EmbeddedValkey(tmp_path / "second")
    try:
        assert first.start()
        assert second.start()
        assert first.url == f"redis://127.0.0.1:{default}"
        assert second.url != first.url
    finally:
        first.stop()
        second.stop()


def test_api_and_worker_can_be_run_apart(tmp_path: Path, pdf: Path) -> None:
    index(pdf, tmp_path / "data")
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port}
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as api_process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until((tmp_path / "data" / "valkey" / "url").exists)
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use) as worker:
            wait_until(
                lambda: re.search("running on", api_process.output, re.IGNORECASE), what=lambda: api_process.output
            )
            assert "1887" in answer(api)["result"], worker.output
