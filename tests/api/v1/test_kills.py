"""OpenAI's own client, and a service whose parts are killed while it answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

from tests.api.v1.clients import client_of
from tests.support.service import service_with_model

QUESTION = "How long does a full charge take?"
ANSWER = f"A full charge takes 3 hours [1]. {' '.join(f'Word {n}.' for n in range(24))}"
LATER = "response.output_text.delta"


def test_a_background_response_is_read_to_its_end_though_every_part_is_killed(tmp_path: Path) -> None:
    """Each time the client has read some words of the answer, a part dies. The client goes on after the last event."""
    with service_with_model(tmp_path, EMBEDDING_MODEL="bm25") as service, client_of(service.client) as client:
        service.upload("handbook.pdf", (Path("samples") / "handbook.pdf").read_bytes())
        service.model.answer, service.model.pause_seconds = ANSWER, 0.1
        events: list[dict[str, Any]] = []
        for part in ("worker", "api", "valkey"):
            _read(client, events, words=4)
            service.kill(part)
        _read(client, events)

        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        final = events[-1]["response"]
        assert events[-1]["type"] == "response.completed"
        assert "3 hours" in final["output"][-1]["content"][0]["text"]
        assert client.responses.retrieve(final["id"]).to_dict() == final
        # Whoever comes later, from whichever event on, reads the same.
        for after in range(len(events) - 1):
            with client.responses.retrieve(final["id"], stream=True, starting_after=after) as stream:
                assert [event.to_dict() for event in stream] == events[after + 1 :]
        assert len(service.model.calls) <= 4


def _read(client: OpenAI, events: list[dict[str, Any]], *, words: int | None = None, seconds: float = 90.0) -> None:
    """Read events until so many words of the answer have come, or to the end. A connection that fails is made again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with _stream(client, events) as stream:
                for event in stream:
                    events.append(event.to_dict())
                    words = words - 1 if words and event.type == LATER else words
                    if words == 0 or event.type == "response.completed":
                        return
        except (openai.APIConnectionError, openai.InternalServerError, openai.APIError):
            time.sleep(0.3)
    raise AssertionError(f"the response has not ended: {events[-3:]}")


def _stream(client: OpenAI, events: list[dict[str, Any]]) -> Any:
    if not events:
        return client.responses.create(model="rag", input=QUESTION, background=True, stream=True)
    response_id = events[0]["response"]["id"]
    return client.responses.retrieve(response_id, stream=True, starting_after=events[-1]["sequence_number"])
