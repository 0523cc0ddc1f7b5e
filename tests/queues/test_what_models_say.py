"""What a model says besides its answer, from the provider to the result: reasoning, a limit, an end that never came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rag.text.language import phrases
from server import create_app
from tests.conftest import MakeSettings
from tests.queues.test_chat import index, variables
from tests.queues.test_conversations import ask, result
from tests.queues.test_drafts import events_of
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, running

QUESTION = "Who built the lighthouse?"
ANSWER = "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale [1]."
REASONING = "Let me look. Source [1] names an engineer, source [2] does not [7]. Wait."
WAYS = {
    "tags": f"<think>\n{REASONING}\n</think>\n\n{ANSWER}",
    "only the end of a tag": f"{REASONING}\n</think>\n\n{ANSWER}",
    "channels": f"<|channel|>analysis<|message|>{REASONING}<|end|><|channel|>final<|message|>{ANSWER}<|return|>",
}


@pytest.fixture
def api(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> Iterator[httpx.Client]:
    """The API, with a worker that asks the stub, and the sample document indexed."""
    settings = make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)
    use = variables(settings, OPENAI_BASE_URL=stub.url, OPENAI_API_KEY=KEY)
    index(pdf, settings, **use)
    with (
        running([PYTHON, "main.py", "worker"], tmp_path / "w.log", **use),
        serving(create_app(settings)) as url,
        httpx.Client(base_url=url, timeout=40) as client,
    ):
        yield client


def tokens(api: httpx.Client, job_id: str) -> str:
    """Return the text of the tokens since the answer last began."""
    said = ""
    for event in events_of(api, job_id):
        said = "" if event["type"] == "started" else said + event["data"].get("text", "")
    return said


def test_reasoning_reaches_nobody(api: httpx.Client, stub: OpenAIStub) -> None:
    for number, said in enumerate(WAYS.values()):
        stub.behaviour.answer = said
        job_id = ask(api, f"{QUESTION} {number}")
        answer = result(api, job_id)
        assert (answer["result"], answer["unsupported"], answer["answered"]) == (ANSWER, 0, True)
        assert answer["usage"]["reasoning_tokens"] is not None
        assert tokens(api, job_id) == ANSWER
        cached = ask(api, f"{QUESTION} {number}")
        assert result(api, cached)["cached"]
        assert tokens(api, cached) == ANSWER


def test_a_model_that_thinks_rewrites_follow_ups(api: httpx.Client, stub: OpenAIStub) -> None:
    result(api, ask(api, QUESTION, conversation_id="c"))
    stub.behaviour.answer = f"<think>\n{REASONING}\n</think>\n\nWhen was the lighthouse built?"
    assert result(api, ask(api, "And when?", conversation_id="c"))["rewritten"] == "When was the lighthouse built?"


def test_a_follow_up_is_answered_as_asked_if_it_cannot_be_rewritten(api: httpx.Client, stub: OpenAIStub) -> None:
    stub.behaviour.answer = ANSWER
    result(api, ask(api, QUESTION, conversation_id="c"))
    stub.behaviour.answer = lambda messages: "" if "rewrite" in messages[0]["content"] else ANSWER
    answer = result(api, ask(api, "And when was the lighthouse built?", conversation_id="c"))
    assert (answer["status"], answer["result"], "rewritten" in answer) == ("completed", ANSWER, False)


def test_an_answer_at_its_limit_of_tokens_says_so_and_is_not_kept(api: httpx.Client, stub: OpenAIStub) -> None:
    stub.behaviour.answer, stub.behaviour.finish_reason = ANSWER.removesuffix("."), "length"
    for _ in range(2):
        job_id = ask(api, QUESTION)
        answer = result(api, job_id)
        assert (answer["incomplete"], answer["cached"]) == ("max_tokens", False)
        assert answer["result"] == tokens(api, job_id)
        assert answer["result"].endswith(f"\n\n{phrases(QUESTION).cut}")
    stub.behaviour.finish_reason = "stop"
    assert "incomplete" not in result(api, ask(api, QUESTION))


def test_an_answer_that_is_cut_or_withheld_fails_and_is_not_kept(api: httpx.Client, stub: OpenAIStub) -> None:
    stub.behaviour.answer, stub.behaviour.finish_reason = ANSWER, None
    assert "broke off" in result(api, ask(api, QUESTION))["error"]
    assert len(stub.behaviour.chats) > 1
    stub.behaviour.finish_reason = "content_filter"
    assert "content_filter" in result(api, ask(api, QUESTION))["error"]
    stub.behaviour.answer, stub.behaviour.finish_reason = "", "stop"
    assert "gave no answer" in result(api, ask(api, QUESTION))["error"]
    stub.behaviour.answer = ANSWER
    assert result(api, ask(api, QUESTION))["cached"] is False
