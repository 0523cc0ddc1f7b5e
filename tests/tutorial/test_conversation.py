"""Ask a question that makes sense only after the question before it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.openai_stub import Behaviour

FIRST = "How long does a full charge take?"
FOLLOW_UP = "And how heavy is it?"
REWRITTEN = "How many grams does the lamp weigh with its battery?"
WEIGHT = "The lamp weighs 142 grams with its battery [1]."


@pytest.mark.usefixtures("handbook_id")
def test_conversation(client: httpx.Client, model: Behaviour) -> None:
    # A search for "And how heavy is it?" finds nothing. So the service first asks the model to rewrite a follow-up into
    # a question that stands alone. This is our model: it rewrites, or it answers.
    def write(messages: list[dict[str, Any]]) -> str:
        prompt = messages[-1]["content"]
        if FOLLOW_UP in prompt:
            assert FIRST in prompt  # the model is shown the questions and answers before the follow-up
            return REWRITTEN
        return WEIGHT if REWRITTEN in prompt else "A full charge takes three hours and twenty minutes [1]."

    model.answer = write

    # Questions of one conversation carry the same id, which you choose. They are answered in order.
    conversation = {"conversation_id": "my-first-conversation"}
    first = client.post("/chat", json={"query": FIRST, **conversation}).json()["job_id"]
    second = client.post("/chat", json={"query": FOLLOW_UP, **conversation}).json()["job_id"]

    assert "rewritten" not in client.get(f"/result/{first}", params={"wait": 30}).json()
    answer = client.get(f"/result/{second}", params={"wait": 30}).json()
    assert answer["rewritten"] == REWRITTEN
    assert answer["result"] == WEIGHT
    assert answer["sources"][0]["page"] == 3
