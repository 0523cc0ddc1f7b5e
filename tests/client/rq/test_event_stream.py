"""The subscription that wakes those who wait for a job."""

from __future__ import annotations

import time

import pytest

from client.rq import event_stream
from client.rq.event_stream import JobNotifier
from tests.client.valkey.test_multiplexed import client, proxy, run


def test_a_connection_that_is_lost_without_a_word_is_noticed(valkey_url: str) -> None:
    """Without the pings the job would be read again after 12 s at the earliest."""

    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url) as through:
            notifier = JobNotifier(through)
            with notifier.subscribe("job") as subscription:
                await subscription.wait(60)  # for the subscription itself, which wakes all
                between.lose()
                began = time.monotonic()
                while sum(b"SUBSCRIBE" in write for write in between.writes) < 2:
                    await subscription.wait(60)
                assert time.monotonic() - began < 8  # 2.6 s and the time of a busy machine
            await notifier.close()

    run(scenario)


def test_a_quiet_connection_is_kept(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.05)
    monkeypatch.setattr(event_stream, "SILENT_PINGS", 100)

    async def scenario() -> None:
        async with proxy(valkey_url) as (between, url), client(url) as through:
            notifier = JobNotifier(through)
            with notifier.subscribe("job") as subscription:
                while sum(b"PING" in write for write in between.writes) < 10:
                    await subscription.wait(0.05)
            assert between.connections == 1
            await notifier.close()

    run(scenario)
