"""deploy/sentinel: HAProxy leads to the Valkey that two of three Sentinels name, also after a failover."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from bench.sentinel import PATHS, Trio, takes_writes
from tests.support.processes import wait_until
from tests.support.servers import missing


def test_haproxy_leads_to_the_primary_that_two_sentinels_name(tmp_path: Path) -> None:
    if shutil.which("haproxy", path=PATHS) is None:
        missing("HAProxy")
    with ExitStack() as stack:
        trio = Trio(stack, tmp_path, min_replicas=0, replicas=1)
        trio.start()
        wait_until(trio.is_complete, seconds=60, what="a trio that knows itself")
        url = trio.start_haproxy()
        wait_until(lambda: takes_writes(url), what="a primary behind HAProxy")
        first, second, third = trio.machines
        assert third.sentinel is not None
        third.sentinel.process.kill()  # two are left, and two are enough
        with Redis.from_url(url) as valkey, Redis(second.address, second.port) as replica:
            valkey.set("rag:kept", "1")
            wait_until(lambda: replica.get("rag:kept") == b"1", what="the key on the replica")
            standing = stack.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60))
            with Redis(first.address, trio.sentinel_port) as sentinel:
                wait_until(lambda: _fails_over(sentinel), seconds=60, what="a failover")
            wait_until(lambda: replica.info("replication")["role"] == "master", seconds=60, what="another primary")
            assert standing.recv(1) == b""  # the way to the old primary, which still lives, is closed
            wait_until(lambda: takes_writes(url), seconds=60, what="the new primary behind HAProxy")
            assert valkey.get("rag:kept") == b"1"


def _fails_over(sentinel: Redis) -> bool:
    return bool(sentinel.sentinel_failover("rag"))
