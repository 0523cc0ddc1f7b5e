"""The chat model and the embedding of a question, from coroutines: requests, answers and failures."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from client.llm import retries
from client.llm.completions import ChatCompletions, make_completions
from client.llm.embeddings import make_embedder
from client.llm.query_embeddings import LocalQueryEmbedder, make_query_embedder
from errors import AppError, ProviderError, ProviderKeyRejected, ProviderRateLimited, ProviderUnavailable
from schemas import Usage
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels, Models, run
from tests.support.openai_stub import KEY, OpenAIStub
from tests.support.sockets import serving_sockets

END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CALLS_OF_TOOLS = [{"id": "1", "type": "function", "function": {"name": "delete_all", "arguments": "{}"}}]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def online(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub) -> Settings:
    return make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)


@pytest.fixture(params=[BlockingModels, CoroutineModels])
def models(request: pytest.FixtureRequest, online: Settings) -> Models:
    made: Models = request.param(online)
    return made


def chunk(content: Any, **fields: Any) -> bytes:
    """Return an event of a stream whose delta has this content."""
    delta = {"choices": [{"index": 0, "delta": {"content": content}}]} | fields
    return b"data: " + json.dumps(delta).encode() + b"\n\n"


def answering(*events: bytes) -> Callable[[socket.socket], None]:
    """Return a server that answers each request with these events."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + b"".join(events))
        connection.close()

    return answer


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("gpt-4o-mini", {}),
        ("gpt-4o-mini", {"model": "other", "temperature": 0.0, "max_tokens": 50}),
        ("gpt-5", {"temperature": 1.5}),
        ("o1-mini", {}),
        ("o3", {"max_tokens": 50}),
        ("gpt-5-pro", {"max_tokens": 50}),
        ("gpt-5.2-codex", {}),
    ],
)
def test_requests_are_those_of_langchain(
    model: str, options: dict[str, Any], online: Settings, stub: OpenAIStub
) -> None:
    settings = online.model_copy(update={"chat_model": model})
    by_langchain = BlockingModels(settings).complete("be brief", "why?", **options)
    assert CoroutineModels(settings).complete("be brief", "why?", **options) == by_langchain
    assert stub.behaviour.calls[0] == stub.behaviour.calls[1]


def test_requests_for_embeddings_are_those_of_langchain(online: Settings, stub: OpenAIStub) -> None:
    by_langchain, embedder = make_embedder(online), make_query_embedder(online)
    assert by_langchain
    assert embedder
    text = "why? " * 2_000
    assert run(embedder.embed_query(text)) == pytest.approx(by_langchain.embed_query(text))
    assert stub.behaviour.calls[0] == stub.behaviour.calls[1]


def test_an_answer_comes_in_parts_with_its_usage(online: Settings, stub: OpenAIStub) -> None:
    models = CoroutineModels(online)
    stub.behaviour.answer = "One two  three.\nVier fünf 😀."
    parts: list[str] = []
    answer = models.complete("system", "user", on_text=parts.append)
    assert answer.text == "".join(parts) == stub.behaviour.answer
    assert answer.usage == Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)


def test_a_call_of_a_tool_is_no_answer(models: Models, stub: OpenAIStub) -> None:
    stub.behaviour.answer, stub.behaviour.calls_of_tools = "I will delete all.", CALLS_OF_TOOLS
    assert models.complete("system", "user").text == ""


def test_a_streamed_call_of_a_tool_is_no_answer(online: Settings, stub: OpenAIStub) -> None:
    stub.behaviour.answer, stub.behaviour.calls_of_tools = "I will delete all.", CALLS_OF_TOOLS
    assert CoroutineModels(online).complete("system", "user", on_text=lambda _text: None).text == ""


def test_an_answer_that_breaks_off_begins_again(online: Settings, stub: OpenAIStub) -> None:
    models = CoroutineModels(online)
    stub.behaviour.answer = "One two three four five."
    stub.behaviour.break_next = 2
    parts: list[str] = []
    answer = models.complete("system", "user", on_text=parts.append, on_restart=lambda: parts.append("|"))
    assert "".join(parts) == "One two three |One two three |" + answer.text
    assert answer.text == stub.behaviour.answer


def test_an_error_of_the_listener_ends_the_call(online: Settings, stub: OpenAIStub) -> None:
    models = CoroutineModels(online)

    class Listener(AppError):
        pass

    def refuse(_text: str) -> None:
        raise Listener("gone")

    with pytest.raises(Listener):
        models.complete("system", "user", on_text=refuse)
    assert len(stub.behaviour.calls) == 1


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([b": wait\n\n", chunk("a"), chunk(None), chunk(""), chunk("b"), b"data: [DONE]\n\n"], "ab"),
        ([chunk("a"), b"data: [DONE]\n\n", chunk("after the end")], "a"),
        ([chunk("a"), chunk("b"), END], "ab"),
        ([chunk([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "hm"}, "b"]), END], "ab"),
        ([chunk("a", usage={"prompt_tokens": 1}), chunk("b", error=None, usage={"prompt_tokens": 3}), END], "ab"),
        ([b'data: {"choices": [{"delta": null}]}\n\n', b'data: {"id": 1}\n\n', b"data:\n\n", chunk("a"), END], "a"),
    ],
)
def test_streams_of_many_providers(
    events: list[bytes], text: str, make_settings: MakeSettings, valkey_url: str
) -> None:
    parts: list[str] = []
    with serving_sockets(answering(*events)) as url:
        models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=url))
        answer = models.complete("system", "user", on_text=parts.append)
    assert answer.text == text
    assert parts == [text]  # what arrives together is passed on together
    if any(b"usage" in event for event in events):
        assert answer.usage == Usage(prompt_tokens=3, completion_tokens=0, total_tokens=3)


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([], "broke off"),
        ([b"data: [DONE]\n\n"], "broke off"),
        ([b"data: not json\n\n"], "makes no sense"),
        ([b'data: ["a"]\n\n'], "makes no sense"),
        ([b'data: {"choices": [1]}\n\n'], "makes no sense"),
        ([chunk(7)], "makes no sense"),
        ([b'data: {"error": {"message": "secret text"}}\n\n'], "failed with 503; try later"),
    ],
)
def test_a_stream_without_sense_is_an_error(
    events: list[bytes], sentence: str, make_settings: MakeSettings, valkey_url: str
) -> None:
    with serving_sockets(answering(*events)) as url:
        models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=url))
        with pytest.raises(ProviderError, match=sentence) as caught:
            models.complete("system", "user", on_text=lambda _text: None)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("body", [b"[]", b'{"choices": []}', b"{}", b'{"choices": [{"message": 1}]}', b"null"])
def test_a_reply_without_sense_is_an_error(body: bytes, make_settings: MakeSettings, valkey_url: str) -> None:
    with serving_sockets(answering(body)) as url:
        models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=url))
        with pytest.raises(ProviderError, match="makes no sense"):
            models.complete("system", "user")
        with pytest.raises(ProviderError, match=r"makes no sense|gave 0 vectors for 1 text"):
            models.embed_query("text")


def test_errors_hold_neither_key_nor_question(
    models: Models, stub: OpenAIStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stub.behaviour.echo_key_in_errors = stub.behaviour.echo_request_in_errors = True
    for status in (400, 422, 429, 500):
        stub.behaviour.always_fail = status
        stub.behaviour.retry_after_seconds = 0.01
        with pytest.raises(ProviderError) as caught:
            models.complete("system", "a question about Tamsin")
        assert caught.value.__cause__ is None
        assert not {word for word in (KEY, "Tamsin") if word in caught.value.detail + caplog.text}


def test_what_a_provider_said_is_logged_where_content_is(
    models: Models, stub: OpenAIStub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("observability.logs._show_content", True)
    caplog.set_level(logging.INFO)
    stub.behaviour.always_fail = 422
    with pytest.raises(ProviderError, match=r"422 \(stub\)"):
        models.complete("system", "user")
    assert [record for record in caplog.records if "stub fails with 422" in str(record.__dict__)]


def test_a_redirect_is_not_followed(make_settings: MakeSettings, valkey_url: str) -> None:
    def redirect(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:9/v1\r\ncontent-length: 0\r\n\r\n")

    with serving_sockets(redirect) as url:
        models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=url))
        with pytest.raises(ProviderError, match=r"redirects to another address \(307\)"):
            models.complete("system", "user")


def test_a_spent_account_is_not_asked_again(make_settings: MakeSettings, valkey_url: str) -> None:
    requests: list[bytes] = []

    def refuse(connection: socket.socket) -> None:
        requests.append(connection.recv(65536))
        body = b'{"error": {"code": "insufficient_quota", "message": "pay"}}'
        connection.sendall(b"HTTP/1.1 429 No\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    with serving_sockets(refuse) as url:
        models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=url))
        with pytest.raises(ProviderRateLimited):
            models.complete("system", "user")
    assert len(requests) == 1


def test_which_models_the_settings_make(make_settings: MakeSettings, online: Settings) -> None:
    offline = make_settings()
    assert make_completions(offline) is None
    assert make_query_embedder(offline) is None
    assert isinstance(make_completions(online), ChatCompletions)
    embedder = make_query_embedder(make_settings(openai_base_url="http://127.0.0.1:9/v1"))
    assert embedder
    with pytest.raises(ProviderUnavailable, match="OPENAI_BASE_URL"):
        run(embedder.embed_query("text"))


def test_a_wrong_key_is_named(online: Settings) -> None:
    wrong = online.model_copy(update={"openai_api_key": None, "openai_base_url": online.openai_base_url})
    embedder = make_query_embedder(wrong)
    assert embedder
    assert len(run(embedder.embed_query("a local server takes any key"))) > 0
    embedder = make_query_embedder(online.model_copy(update={"openai_api_key": SecretStr("sk-wrong")}))
    assert embedder
    with pytest.raises(ProviderKeyRejected, match="OPENAI_API_KEY"):
        run(embedder.embed_query("text"))


def test_questions_and_documents_share_the_local_model(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.llm.local_embeddings.check_installed", lambda: None)
    settings = make_settings(embedding_model="local")
    documents, questions = make_embedder(settings), make_query_embedder(settings)
    assert isinstance(questions, LocalQueryEmbedder)
    assert questions._embedder is documents
