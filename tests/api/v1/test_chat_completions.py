"""Chat completions, asked for by OpenAI's own client and by LangChain."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from settings import Settings
from tests.api.v1.clients import client_of
from tests.api.v1.conftest import Service
from tests.api.v1.test_errors import assert_error, serving_with
from tests.support.callers import TAKING_TOKENS, bearer, token
from tests.support.tables import each

QUESTION = "When was the lighthouse built?"
USER: Any = {"role": "user", "content": QUESTION}


def test_an_answer_keeps_its_marks_and_has_its_citations(service: Service) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, USER]
    with client_of(service.api) as client:
        answer = client.chat.completions.create(model="rag", messages=messages, max_tokens=500, temperature=0.1)
    choice = answer.choices[0]
    assert (answer.object, choice.finish_reason, choice.message.role) == ("chat.completion", "stop", "assistant")
    assert choice.message.content is not None
    assert "1887" in choice.message.content
    assert choice.message.annotations is not None
    cited = choice.message.annotations[0].url_citation
    assert choice.message.content[cited.start_index : cited.end_index] == "[1]"
    assert service.api.get(cited.url).status_code == 200
    assert answer.usage is not None
    assert answer.usage.total_tokens == 2
    call = service.model.chats[-1]
    assert call["temperature"] == 0.1
    assert "Be brief." in call["messages"][-1]["content"]


def test_a_stream_ends_with_citations_the_reason_and_the_usage(service: Service) -> None:
    with (
        client_of(service.api) as client,
        client.chat.completions.create(
            model="large", messages=[USER], stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        chunks = [chunk.to_dict() for chunk in stream]
    *contents, reason, usage = (dict(chunk) for chunk in chunks)
    deltas: list[Any] = [chunk["choices"][0]["delta"] for chunk in contents]  # type: ignore[index]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "1887" in "".join(delta["content"] for delta in deltas)
    assert deltas[-1]["annotations"][0]["url_citation"]["page"] == 1
    assert reason["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 2  # type: ignore[index]
    assert {chunk["model"] for chunk in chunks} == {"large"}
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_langchain_asks_and_streams(service: Service) -> None:
    model = ChatOpenAI(model="rag", base_url=f"{service.api.base_url}/v1", api_key="not-needed", max_retries=0)
    assert "1887" in str(model.invoke(QUESTION).text)
    assert "1887" in "".join(str(chunk.text) for chunk in model.stream(QUESTION))


def test_earlier_messages_make_a_follow_up(service: Service) -> None:
    service.model.answer = "When was the lighthouse built?"
    messages: list[Any] = [
        {"role": "user", "content": "Who built the lighthouse?"},
        {"role": "assistant", "content": "Tamsin Vale."},
        {"role": "user", "content": [{"type": "text", "text": "And when?"}]},
    ]
    with client_of(service.api) as client:
        client.chat.completions.create(model="rag", messages=messages)
    asked = service.model.chats[0]["messages"][-1]["content"]
    assert "Question: Who built the lighthouse?\nAnswer: Tamsin Vale." in asked


BAD = {
    "no messages": ({}, "messages", "invalid_request_error"),
    "no question": ({"messages": [{"role": "system", "content": "a"}]}, "messages", "invalid_request_error"),
    "two answers": ({"messages": [USER], "n": 2}, "n", "unsupported_value"),
    "a forced function": ({"messages": [USER], "tool_choice": "required"}, "tool_choice", "unsupported_value"),
    "a JSON answer": (
        {"messages": [USER], "response_format": {"type": "json_object"}},
        "response_format.type",
        "unsupported_value",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "secret-text"}}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
    ),
    "a long question": (
        {"messages": [{"role": "user", "content": "x" * 4001}]},
        "messages[0].content",
        "string_above_max_length",
    ),
    "no tokens": ({"messages": [USER], "max_tokens": 0}, "max_tokens", "invalid_request_error"),
    "another model": ({"messages": [USER], "model": "secret-text"}, "model", "model_not_found"),
}


@each("body, param, code", BAD)
def test_a_bad_request_is_refused_with_the_parameter(
    body: dict[str, Any], param: str, code: str, api: httpx.Client
) -> None:
    response = api.post("/v1/chat/completions", json=body)
    error = assert_error(response, 404 if code == "model_not_found" else 400, code)
    assert error["param"] == param
    assert "secret-text" not in response.text


def test_a_caller_without_the_scope_is_refused(settings: Settings) -> None:
    with serving_with(settings, **TAKING_TOKENS) as api:
        headers = bearer(token("ann", scope="upload"))
        refused = api.post("/v1/chat/completions", json={"messages": [USER]}, headers=headers)
        assert_error(refused, 403, "permission_denied")


def test_a_failed_answer_is_an_error(service: Service) -> None:
    service.model.always_fail = 400
    with client_of(service.api) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="rag", messages=[USER])
        assert caught.value.code == "server_error"
        with (
            pytest.raises(openai.APIError),
            client.chat.completions.create(model="rag", messages=[USER], stream=True) as stream,
        ):
            list(stream)
