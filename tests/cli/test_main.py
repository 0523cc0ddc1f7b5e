"""`python main.py` as a user runs it: everything, in processes that may be killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from client.valkey import embedded as embedded_valkey
from client.valkey.embedded import EmbeddedValkey
from tests.queues.test_chat import answer
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.processes import (
    PYTHON,
    ROOT,
    Fresh,
    Running,
    environment,
    free_port,
    refused,
    run,
    running,
    wait_until,
)
from tests.support.valkeys import wait_until_on_disk


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


def wait_for_line(started: Service, words: str) -> None:
    wait_until(lambda: words in started.process.output, seconds=110, what=lambda: started.process.output)


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
        wait_until(started.ready, seconds=110, what=lambda: f"the start of the service, which said {process.output}")
        yield started


def upload(pdf: Path, api: httpx.Client) -> None:
    """Have the service index a document: without an interpreter for index.py, which takes 2 s of CPU."""
    job_id = api.post("/uploads", files={"file": (pdf.name, pdf.read_bytes())}).json()["job_id"]
    wait_until(lambda: api.get(f"/result/{job_id}").status_code == 200)


def index(pdf: Path, data_dir: Path) -> None:
    done = run([PYTHON, "index.py", str(pdf)], DATA_DIR=str(data_dir))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "the end of the terminal"])
def test_one_command_starts_and_stops_all_parts(number: signal.Signals, tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        index(pdf, started.data_dir)
        assert "1887" in answer(started.api)["result"]
        assert started.api.get("/ready").json()["status"] == "ready"
        assert "offline" in started.process.output
        assert f"rq worker --url {started.valkey_url} rag_queries" in started.process.output
        children = started.children()
        assert set(children) == {"api", "worker", "valkey"}
        started.process.process.send_signal(number)
        assert started.process.ended(60) == 0
        assert started.children() == {}
        with pytest.raises(ProcessLookupError):
            os.kill(children["valkey"], 0)
        assert "Traceback" not in started.process.output


def test_the_printed_commands_work_as_printed(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        (indexing,) = re.findall(r"^  index +(\S.*) PATH$", started.process.output, re.MULTILINE)
        (worker,) = re.findall(r"^  worker +(\S.*?)   \(", started.process.output, re.MULTILINE)
        plain = {"PATH": "/usr/bin:/bin", "DATA_DIR": str(started.data_dir)}
        done = subprocess.run(
            ["sh", "-c", f"{indexing} {pdf}"],
            cwd=ROOT,
            env=environment(**plain),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with running(["sh", "-c", f"exec {worker}"], tmp_path / "rq.log", **plain) as stock:
            wait_until(lambda: "Listening on" in stock.output, seconds=110, what=lambda: stock.output)
        assert "1887" in answer(started.api)["result"]


def test_documents_and_answers_survive_a_restart(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        upload(pdf, started.api)
        job_id = answer(started.api)["job_id"]
    with service(tmp_path) as again:
        assert "1887" in again.api.get(f"/result/{job_id}").json()["result"]
        assert "1887" in answer(again.api)["result"]


@pytest.mark.parametrize("victim", ["api", "worker", "valkey"])
def test_a_killed_part_comes_back_and_no_job_is_lost(victim: str, tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path) as started:
        upload(pdf, started.api)
        before = started.children()[victim]
        waiting = [started.api.post("/chat", params={"query": "When was it built?"}).json()["job_id"]]
        if victim == "valkey":
            with Redis.from_url(started.valkey_url) as valkey:
                wait_until_on_disk(valkey)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: started.children().get(victim, before) != before, what=f"another {victim}")
        wait_until(started.ready, seconds=40, what="readiness")
        waiting.append(answer(started.api)["job_id"])
        for job_id in waiting:
            wait_until(lambda job_id=job_id: started.api.get(f"/result/{job_id}").status_code == 200, seconds=30)  # type: ignore[misc]


def test_the_parts_end_when_main_is_killed_and_the_next_start_takes_over(tmp_path: Path, pdf: Path) -> None:
    with service(tmp_path, "first.log") as started:
        upload(pdf, started.api)
        job_id = answer(started.api)["job_id"]
        os.kill(started.process.process.pid, signal.SIGKILL)
        wait_until(lambda: set(started.children()) <= {"valkey"}, what="the end of API and worker")
        left = started.children().get("valkey")
    with service(tmp_path, "second.log") as again:
        assert again.children()["valkey"] == left  # taken over, not doubled
        assert "1887" in again.api.get(f"/result/{job_id}").json()["result"]


def test_a_start_after_a_kill_waits_for_the_worker_that_finishes_its_job(
    tmp_path: Path, pdf: Path, stub: OpenAIStub
) -> None:
    use = {"OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": KEY, "EMBEDDING_MODEL": "bm25"}
    asked, go_on = threading.Event(), threading.Event()

    def say(_messages: list[dict[str, Any]]) -> str:
        asked.set()
        go_on.wait(20)  # less than the grace time of a worker
        return "It was built in 1887 [1]."

    stub.behaviour.answer = say
    with service(tmp_path, "first.log", **use) as started:
        upload(pdf, started.api)
        job_id = started.api.post("/chat", params={"query": "When was it built?"}).json()["job_id"]
        assert asked.wait(20)
        os.kill(started.process.process.pid, signal.SIGKILL)
        with service(tmp_path, "second.log", **use) as again:
            wait_for_line(again, "waiting up to 40 s for the embedded store")
            go_on.set()
            wait_for_line(again, "working on")
            assert "1887" in again.api.get(f"/result/{job_id}").json()["result"]
            assert len(stub.behaviour.calls) == 1  # the first worker finished it
            assert "cannot start" not in again.process.output


def test_a_second_main_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with service(tmp_path):
        said = refused(DATA_DIR=str(tmp_path / "data"), PORT=str(free_port()))
        assert "another main.py runs" in said
        assert said.count("\n") == 1


def test_a_second_worker_on_the_embedded_store_is_told_to_set_qdrant_url(tmp_path: Path) -> None:
    with service(tmp_path):
        said = refused("worker", DATA_DIR=str(tmp_path / "data"))
        assert "QDRANT_URL" in said


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(DATA_DIR=str(tmp_path), PORT=str(port))
    assert f"PORT {port}" in said


def test_a_valkey_whose_port_is_taken_for_a_moment_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedValkey(tmp_path)
    assert server.start()
    spawn, port = server._spawn, int(server.url.rpartition(":")[2])
    tried = []

    def spawn_while_taken() -> bool:
        tried.append(port)
        if len(tried) > 1:
            return spawn()
        with socket.create_server(("127.0.0.1", port)):
            return spawn()

    monkeypatch.setattr(server, "_spawn", spawn_while_taken)
    try:
        with Redis.from_url(server.url) as valkey:
            valkey.set("kept", "yes")
            valkey.shutdown(nosave=True)
        with server.keep_running():
            wait_until(lambda: "trying once more" in caplog.text, what=lambda: caplog.text)
            wait_until(lambda: "was started again" in caplog.text, what=lambda: caplog.text)
            with Redis.from_url(server.url) as valkey:
                assert valkey.get("kept") == b"yes"
    finally:
        server.stop()


def test_a_part_run_alone_keeps_its_valkey_running(tmp_path: Path, pdf: Path) -> None:
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port}
    index(pdf, tmp_path / "data")
    url_file = tmp_path / "data" / "valkey" / "url"
    with (
        running([PYTHON, "main.py", "api"], tmp_path / "api.log", **use) as api_process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until(lambda: "running on" in api_process.output, seconds=110, what=lambda: api_process.output)
        with Redis.from_url(url_file.read_text()) as valkey:
            os.kill(int(valkey.info("server")["process_id"]), signal.SIGKILL)
        wait_until(lambda: "was started again" in api_process.output, what=lambda: api_process.output)
        with running([PYTHON, "main.py", "worker"], tmp_path / "worker.log", **use) as worker:
            assert "1887" in answer(api)["result"], worker.output
    assert not url_file.exists()  # SIGTERM ended the server, too


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DATA_DIR": "/etc/hostname"}, "DATA_DIR must be a folder"),
        ({"DATA_DIR": "/proc/nope"}, "DATA_DIR must be a folder"),
        ({"DATABASE_URL": "sqlite:////nonexistent/x/y.db"}, "DATABASE_URL must name a database that can be opened"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x?nonsense=1"}, "DATABASE_URL must name a database"),
        ({"HOST": "not_an_address"}, "HOST not_an_address is not an address of this machine"),
        ({"HOST": "192.0.2.1", "ALLOW_ANONYMOUS": "1"}, "HOST 192.0.2.1 is not an address of this machine"),
    ],
)
@pytest.mark.parametrize("part", ["all", "api"])
def test_an_unusable_setting_stops_the_start_with_a_sentence(
    part: str, variables: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    said = refused(part, **{"DATA_DIR": str(tmp_path / "data"), "PORT": "0"} | variables)
    assert said.startswith(f"error: {sentence}")
    assert said.count("\n") == 1


def test_a_worker_does_not_start_without_its_database(tmp_path: Path) -> None:
    (tmp_path / "uploads.db").write_bytes(b"no database, and long enough to be looked at: " * 10)
    said = refused("worker", DATA_DIR=str(tmp_path))
    assert said.startswith(f"error: {tmp_path / 'uploads.db'} must be one that can be opened")
    assert said.count("\n") == 1


def test_an_unreachable_database_server_does_not_stop_the_service(tmp_path: Path) -> None:
    with service(tmp_path, DATABASE_URL="postgresql://rag:hush@127.0.0.1:1/x") as started:
        assert started.api.get("/uploads").status_code == 503
        assert started.api.get("/health").status_code == 200
        assert "database of uploads failed" in started.process.output
        assert "ended with status" not in started.process.output
        assert "hush" not in started.process.output
        assert "Traceback" not in started.process.output


def test_other_machines_are_not_let_in_while_the_keys_cannot_be_read(tmp_path: Path) -> None:
    use = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "HOST": "0.0.0.0", "PORT": str(free_port())}
    log = tmp_path / "main.log"
    with running([PYTHON, "main.py"], log, DATA_DIR=str(tmp_path / "data"), **use) as process:
        wait_until(lambda: "waits for the list of keys" in process.output, what=lambda: process.output)
        assert process.process.poll() is None
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{use['PORT']}/health")


def test_port_0_takes_a_free_port_and_prints_it(tmp_path: Path) -> None:
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0"}
    with running([PYTHON, "main.py"], tmp_path / "main.log", **use) as process:
        wait_until(lambda: "running on" in process.output, seconds=60, what=lambda: process.output)
        url = re.findall(r"API +(http://127\.0\.0\.1:\d+)", process.output)[0]
        assert httpx.get(f"{url}/health").status_code == 200


def test_the_embedded_valkey_keeps_acknowledged_writes(tmp_path: Path) -> None:
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


def test_two_servers_started_at_once_do_not_share_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_first_server_takes_the_default_port_and_the_second_another(
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


def test_a_restart_takes_the_same_port_so_that_worker_terminals_stay_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = free_port()
    monkeypatch.setattr(embedded_valkey, "DEFAULT_PORT", default)
    urls = []
    with socket.create_server(("127.0.0.1", default)):
        for _ in range(2):
            server = EmbeddedValkey(tmp_path)
            assert server.start()
            urls.append(server.url)
            server.stop()
    server = EmbeddedValkey(tmp_path)  # the default port is free now; terminals still name the other one
    assert server.start()
    urls.append(server.url)
    server.stop()
    assert urls == [urls[0]] * 3
    assert urls[0] != f"redis://127.0.0.1:{default}"


@pytest.mark.parametrize("text", ["", "0", "70000", "no number"])
def test_a_damaged_record_of_the_port_is_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "port").write_text(text)
    server = EmbeddedValkey(tmp_path)
    assert server.start()
    server.stop()


def test_api_and_worker_can_be_run_apart(tmp_path: Path, pdf: Path) -> None:
    index(pdf, tmp_path / "data")
    port = str(free_port())
    use = {"DATA_DIR": str(tmp_path / "data"), "PORT": port}
    with (
        running(Fresh([PYTHON, "main.py", "api"]), tmp_path / "api.log", **use) as api_process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until((tmp_path / "data" / "valkey" / "url").exists)
        with running(Fresh([PYTHON, "main.py", "worker"]), tmp_path / "worker.log", **use) as worker:
            wait_until(
                lambda: re.search("running on", api_process.output, re.IGNORECASE), what=lambda: api_process.output
            )
            assert "1887" in answer(api)["result"], worker.output
