"""Cancel a job, whether it waits or runs."""

from __future__ import annotations

import httpx
import pytest

from tests.support.openai_stub import Behaviour
from tests.support.processes import wait_until


@pytest.mark.usefixtures("handbook_id")
def test_cancel(client: httpx.Client, model: Behaviour) -> None:
    # A model that takes a minute, and a question that is at the model already.
    model.chat_delay_seconds = 60
    question = {"query": "How heavy is the lamp?", "cache": False}
    job_id = client.post("/chat", json=question).json()["job_id"]
    wait_until(lambda: model.chats)
    assert client.get(f"/job-status/{job_id}").json()["status"] == "started"

    # Cancel the job. The worker drops the call of the model and is free for the next job; tokens cost no more.
    assert client.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"

    # `cancelled` is final, as `finished` and `failed` are: the status of such a job never changes again.
    assert client.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
    result = client.get(f"/result/{job_id}").json()
    assert result["status"] == "cancelled"
    assert "result" not in result

    # The worker goes on: the next question does not wait for that minute.
    model.chat_delay_seconds = 0
    job_id = client.post("/chat", json=question).json()["job_id"]
    assert client.get(f"/result/{job_id}", params={"wait": 30}).json()["status"] == "completed"
