"""Watch a job as it runs: Server-Sent Events, as EventSource reads them in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.openai_stub import Behaviour


def events(client: httpx.Client, job_id: str, last_event_id: str = "") -> Iterator[dict[str, Any]]:
    """Yield a job's events with their `id`, `event` (the type) and `data`, until the job has ended.

    Most languages have a library for this. The format is lines of `name: value`, with an empty line after each event.
    """
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    with client.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
        event: dict[str, Any] = {}
        for line in response.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = json.loads(value) if name == "data" else value
            elif "data" in event:
                yield event
                event = {}


@pytest.mark.usefixtures("handbook_id")
def test_stream(client: httpx.Client, model: Behaviour) -> None:
    model.answer = "A full charge takes three hours and twenty minutes [1]."
    question = {"query": "How long does a full charge take?", "cache": False}
    job_id = client.post("/chat", json=question).json()["job_id"]
    seen = list(events(client, job_id))

    # A job's events come in this order. `progress` says which stage has begun; one `token` holds a few words.
    types = [event["event"] for event in seen]
    assert types[:2] == ["queued", "started"]
    assert "progress" in types
    assert "token" in types
    assert types[-2:] == ["sources", "finished"]

    # The tokens are the answer as the model writes it. Forget them when another `started` comes: the worker died or
    # the model broke off, and the answer begins again.
    written = "".join(event["data"]["text"] for event in seen if event["event"] == "token")
    assert written == model.answer

    # The last event has what GET /result has. Its text counts: citations that no source supports are taken out of it.
    assert seen[-1]["data"]["result"] == written
    assert seen[-1]["data"]["sources"][0]["name"] == "handbook.pdf"

    # After a lost connection, name the last event you saw and the stream goes on behind it, on any API process and also
    # after the job has ended. Browsers do this by themselves.
    assert list(events(client, job_id, last_event_id=seen[1]["id"])) == seen[2:]
