"""What the embedded Valkey has replied to is on disk, even on a slow one."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from bench.chaos import faults
from bench.chaos.faults import Faults
from client.valkey.embedded import EmbeddedValkey, serving
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.processes import wait_until
from tests.support.servers import missing

CLIENTS = 16


def appendfsync(url: str) -> str:
    """Return what the server says of the setting."""
    with Redis.from_url(url, decode_responses=True) as valkey:
        return str(valkey.config_get("appendfsync")["appendfsync"])


def lost_writes(folder: Path, *, policy: str, milliseconds: int) -> int:
    """Kill the server during a sync, once clients have had 32 replies since its begin; return the lost writes."""
    server = EmbeddedValkey(folder / "valkey", appendfsync=policy)
    if not faults.AVAILABLE:
        missing("a C compiler for Linux")
    disk = Faults(folder)
    with disk.in_effect():
        assert server.start()
    disk.now.sync_ms = milliseconds
    acknowledged: list[str] = []

    def write(client: int) -> None:
        with suppress(RedisError), Redis.from_url(server.url) as valkey:
            for number in range(1_000_000):
                valkey.set(f"{client}:{number}", "")
                acknowledged.append(f"{client}:{number}")

    clients = [threading.Thread(target=write, args=[client]) for client in range(CLIENTS)]
    try:
        for client in clients:
            client.start()
        wait_until(lambda: disk.now.syncing, seconds=30, what="a sync")
        begun = len(acknowledged)
        wait_until(lambda: len(acknowledged) >= begun + 2 * CLIENTS, seconds=30, what="replies")
        assert server._process is not None
        server._process.kill()
        server._process.wait(20)
        for client in clients:
            client.join()
        assert server.ensure_running()
        with Redis.from_url(server.url, decode_responses=True) as valkey:
            assert valkey.config_get("appendfsync") == {"appendfsync": policy}
            kept = set(valkey.scan_iter(count=10_000))
    finally:
        server.stop()
    return len(set(acknowledged) - kept)


def test_a_kill_on_a_slow_disk_loses_nothing(tmp_path: Path) -> None:
    assert lost_writes(tmp_path, policy="always", milliseconds=300) == 0


def test_a_kill_on_a_slow_disk_loses_writes_synced_once_a_second(tmp_path: Path) -> None:
    """What the setting costs; and that the test above can fail."""
    assert lost_writes(tmp_path, policy="everysec", milliseconds=3_000) > 0


@pytest.mark.parametrize("policy", [None, "everysec"])
def test_the_setting_is_in_effect(policy: str | None, make_settings: MakeSettings) -> None:
    settings: Settings = make_settings(**({} if policy is None else {"valkey_appendfsync": policy}))
    with serving(settings) as url:
        assert appendfsync(url) == (policy or "always")


def test_a_server_that_was_left_behind_gets_the_setting(tmp_path: Path) -> None:
    killed = EmbeddedValkey(tmp_path, appendfsync="everysec")
    assert killed.start()
    killed._lock.release()  # as the end of its process does
    server = EmbeddedValkey(tmp_path)
    try:
        assert server.start()
        assert server.url == killed.url
        assert appendfsync(server.url) == "always"
    finally:
        server.stop()
        assert killed._process is not None
        killed._process.wait(20)
