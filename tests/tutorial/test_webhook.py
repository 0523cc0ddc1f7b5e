"""Be called back when a job ends, instead of asking for the result."""

from __future__ import annotations

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from tests.support.processes import wait_until
from tests.support.webhook_receiver import receiving


@pytest.mark.usefixtures("handbook_id")
def test_webhook(client: httpx.Client) -> None:
    # `receiving` is an HTTP server in this process, in the place of yours. It answers 204 and keeps what it got.
    # In production a URL has to be https and public, unless WEBHOOK_ALLOW_HTTP and WEBHOOK_ALLOW_PRIVATE are set.
    with receiving() as receiver:
        # Give the URL with the question. `metadata` comes back as it is, for what your program wants to remember.
        question = {
            "query": "How heavy is the lamp?",
            "webhook_url": f"{receiver.url}/hook",
            "metadata": {"ticket": "42"},
        }
        job_id = client.post("/chat", json=question).json()["job_id"]

        # A worker sends the result when the job has ended, and again later until the receiver answers with 2xx.
        wait_until(lambda: receiver.received)

    request = receiver.received[0]
    assert request.path == "/hook"

    # Anybody can POST to your URL, so check the signature (Standard Webhooks) with the secret of your account.
    # `verify` raises for a wrong signature and for an old message, and returns the event.
    secret = client.get("/webhooks/secret").json()["secret"]
    event = Webhook(secret).verify(request.body, request.headers)
    assert event["type"] == "job.finished"
    assert event["data"]["job_id"] == job_id
    assert event["data"]["result"] == client.get(f"/result/{job_id}").json()["result"]
    assert event["data"]["metadata"] == {"ticket": "42"}

    # A webhook may come twice, when the answer to the first was lost: the header `webhook-id` is then the same.
    assert request.headers["webhook-id"].startswith("msg_")
