"""What a question knows of the turns before it: the last six, and none of the wishes of an earlier response."""

from __future__ import annotations

from typing import Any

from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service

QUESTION = "When was the lighthouse built?"


def rewriting_of(service: Service) -> str:
    """Return what the model was sent to make the last question stand alone."""
    asked = [str(call["messages"][-1]["content"]) for call in service.model.chats if "<turn-" in str(call["messages"])]
    return asked[-1]


def test_wishes_are_not_inherited_by_the_next_response(service: Service) -> None:
    with client_of(service.api) as client:
        first = client.responses.create(
            model="rag",
            instructions="Answer as a pirate.",
            input=[{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": QUESTION}],
        )
        assert first.instructions == "Answer as a pirate."
        assert "Answer as a pirate.\n\nRhyme." in service.model.chats[-1]["messages"][-1]["content"]
        service.model.calls.clear()
        service.model.answer = "Who built the lighthouse?"
        second = client.responses.create(model="rag", input="And who built it?", previous_response_id=first.id)
    assert second.instructions is None
    told = str(service.model.chats)
    assert QUESTION in told
    assert "pirate" not in told
    assert "Rhyme" not in told


def test_the_seventh_turn_back_is_dropped_whichever_way_turns_come(service: Service) -> None:
    turns = [(f"What is thing {number}?", f"Thing {number} is a boat.") for number in range(1, 8)]
    said: list[Any] = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    ask: Any = {"model": "rag", "input": [*said, {"role": "user", "content": "And how old is it?"}]}

    def check() -> None:
        told = rewriting_of(service)
        assert turns[0][0] not in told
        for question, _ in turns[1:]:
            assert f"Question: {question}" in told

    service.model.answer = "How old is the boat?"
    with client_of(service.api) as client:
        client.responses.create(**ask)
        check()
        client.chat.completions.create(model="rag", messages=ask["input"])
        check()
        conversation = client.conversations.create(items=said)
        client.responses.create(model="rag", input="And how old is it?", conversation=conversation.id)
        check()
        compacted = client.responses.compact(model="rag", input=said)
        again: Any = [compacted.output[0].to_dict(), {"role": "user", "content": "And how old is it?"}]
        client.responses.create(model="rag", input=again)
        check()


def test_a_chain_of_responses_reaches_six_turns_back(service: Service) -> None:
    service.model.answer = lambda messages: (
        "How far is the lamp seen?" if "<turn-" in str(messages) else "It turns once in twelve seconds [1]."
    )
    with client_of(service.api) as client:
        last = client.responses.create(model="rag", input="Is the lamp of turn 1 seen?")
        for number in range(2, 8):
            question = f"Is the lamp of turn {number} seen?"
            last = client.responses.create(model="rag", input=question, previous_response_id=last.id)
        client.responses.create(model="rag", input="And how far?", previous_response_id=last.id)
    told = rewriting_of(service)
    assert told.count("Question: ") == 6
    assert "turn 1 seen" not in told


def test_sampling_and_stop_change_nothing_and_the_newer_limit_of_tokens_wins(service: Service) -> None:
    ask: Any = {"model": "rag", "messages": [{"role": "user", "content": QUESTION}]}
    sampling: Any = {"top_p": 0.1, "frequency_penalty": 1.5, "presence_penalty": 1.5, "seed": 7, "stop": ["1887"]}
    with client_of(service.api) as client:
        answer = client.chat.completions.create(
            **ask, **sampling, max_tokens=400, max_completion_tokens=300, user="ann"
        )
        assert "1887" in str(answer.choices[0].message.content)
        assert answer.choices[0].finish_reason == "stop"
        (call,) = service.model.chats
        assert 300 in {call.get("max_tokens"), call.get("max_completion_tokens")}
        assert not set(call) & set(sampling)
        client.chat.completions.create(**ask, max_completion_tokens=10_000_000)
        limits = service.model.chats[-1]
        assert 32_768 in {limits.get("max_tokens"), limits.get("max_completion_tokens")}


def test_what_is_without_effect_is_repeated(service: Service) -> None:
    given: dict[str, Any] = {
        "top_p": 0.5,
        "truncation": "auto",
        "parallel_tool_calls": False,
        "max_tool_calls": 3,
        "reasoning": {"effort": "low"},
        "safety_identifier": "user-1",
        "prompt_cache_key": "cache-1",
        "user": "ann",
        "metadata": {"of": "test"},
        "max_output_tokens": 400,
        "temperature": 0.5,
    }
    with client_of(service.api) as client:
        shown: dict[str, Any] = client.responses.create(model="rag", input=QUESTION, **given).to_dict()
        assert {name: shown[name] for name in given} == given
        tiers = {
            asked: client.responses.create(model="rag", input=QUESTION, service_tier=asked).service_tier
            for asked in (None, "auto", "default", "flex", "priority")
        }
    assert tiers == {None: "default", "auto": "default", "default": "default", "flex": "flex", "priority": "priority"}
