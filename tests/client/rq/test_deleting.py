"""Deleting a job that has ended."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis

from client.rq.outbox import Callback
from client.rq_client import JobQueue
from client.valkey import keys
from errors import JobNotFound


def test_a_job_is_kept_until_its_webhooks_are_queued(
    valkey_url: str, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.rq.delete.TRY_SECONDS", 0.005)

    async def use() -> None:
        queue = JobQueue(valkey_url, job_timeout_seconds=60, result_ttl_seconds=600)
        job = await queue.submit("chat", {"query": "Why?"}, callback=Callback(url="https://example.com/hook"))
        assert valkey.exists(keys.outbox_entry(job.job_id))
        assert not await queue.delete(job.job_id)  # no relay runs here
        assert (await queue.fetch(job.job_id)).status == "cancelled"
        valkey.delete(keys.outbox_entry(job.job_id))
        assert await queue.delete(job.job_id)
        with pytest.raises(JobNotFound):
            await queue.fetch(job.job_id)
        await queue.close()

    asyncio.run(use())
