"""The requests of Open WebUI 0.12.4, as its source builds them; the program itself is too large for a test.

It has two kinds of connections: chat completions, and responses. Of an answer it reads the text and, of each citation,
the address and the title.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.v1.conftest import Service

HEADERS = {
    "Authorization": "Bearer not-needed",
    "Content-Type": "application/json",
    "X-OpenWebUI-User-Name": "Ann%20Other",
    "X-OpenWebUI-Chat-Id": "chat-1",
}
SYSTEM = {"role": "system", "content": "Answer in short sentences."}
TURNS = [
    {"role": "user", "content": "Who built the lighthouse?"},
    {"role": "assistant", "content": "Tamsin Vale [1]."},
    {"role": "user", "content": "When was the lighthouse built?"},
]


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the data of a stream as Open WebUI reads it: line by line, without the names of events."""
    assert answer.status_code == 200, answer.text
    data = [line[len("data:") :].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(one) for one in data if one != "[DONE]"]


def test_the_connection_is_checked_by_its_models(service: Service) -> None:
    models = service.api.get("/v1/models", headers=HEADERS).json()
    assert {"rag", "rag-sources", "large"} <= {model["id"] for model in models["data"]}


def test_a_chat_by_completions_has_its_sources(service: Service) -> None:
    body = {
        "stream": True,
        "model": "rag",
        "messages": [SYSTEM, *TURNS],
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 0.9,
        "logit_bias": {"42": -100},
    }
    service.model.answer = lambda messages: (
        "When was the lighthouse built?" if "<turn-" in str(messages) else "It was built in 1887 [1]."
    )
    chunks = events_of(service.api.post("/v1/chat/completions", json=body, headers=HEADERS))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "It was built in 1887 [1]."
    (cited,) = (one["url_citation"] for delta in deltas for one in delta.get("annotations") or [])
    assert cited["title"] == "lighthouse.pdf, page 1"
    assert service.api.get(cited["url"]).status_code == 200
    assert "Answer in short sentences." in service.model.chats[-1]["messages"][-1]["content"]


def test_a_chat_by_responses_has_its_sources(service: Service) -> None:
    parts = {"user": "input_text", "assistant": "output_text"}
    items = [
        {
            "type": "message",
            "role": turn["role"],
            "content": [{"type": parts[turn["role"]], "text": turn["content"]}],
        }
        for turn in TURNS
    ]
    body: dict[str, Any] = {"stream": True, "model": "rag", "input": items, "instructions": SYSTEM["content"]}
    service.model.answer = lambda messages: (
        "When was the lighthouse built?" if "<turn-" in str(messages) else "It was built in 1887 [1]."
    )
    events = events_of(service.api.post("/v1/responses", json=body, headers=HEADERS))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    (cited,) = (one for item in done for part in item["content"] for one in part["annotations"])
    assert (cited["type"], cited["title"]) == ("url_citation", "lighthouse.pdf, page 1")
    # The next turn sends the items of this one back.
    body["input"] = [
        *items,
        *done,
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "?"}]},
    ]
    again = events_of(service.api.post("/v1/responses", json=body, headers=HEADERS))
    assert again[-1]["type"] == "response.completed"


TASKS = ("Generate a short title.", "Generate tags.", "Suggest what to ask next.", "Write search queries.")


@pytest.mark.parametrize("task", TASKS)
def test_what_its_own_screen_needs_comes_from_the_model_alone(task: str, service: Service) -> None:
    """Its tasks begin alike, and hold the chat; each is one message, asked for in one piece."""
    service.model.answer = '{ "title": "A lighthouse" }'
    text = f"### Task:\n{task}\n### Chat History:\n<chat_history>\nUSER: When?\n</chat_history>"
    body = {
        "model": "rag",
        "messages": [{"role": "user", "content": text}],
        "stream": False,
        "max_tokens": 1000,
    }
    answer = service.api.post("/v1/chat/completions", json=body, headers=HEADERS)
    assert answer.json()["choices"][0]["message"]["content"] == service.model.answer
    (call,) = service.model.chats
    assert "Tamsin Vale" not in str(call)
