"""What a model said: how a reply ends, what is in it, and which replies are no answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from client.llm import retries
from errors import (
    AppError,
    ContentFiltered,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderUnavailable,
)
from schemas import Completion, Usage
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels, Models
from tests.support.processes import wait_until
from tests.support.sockets import read_request, serving_sockets
from tests.support.tables import each

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
REASON = "Let me look at source [1]. Wait."
ANSWER = "It takes 5 hours [1]."


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


class Provider:
    """A provider that gives the same response to every request.

    `calls` counts the requests, and `told` gets the parts and the stages of an answer.
    """

    def __init__(self, make_settings: MakeSettings, valkey: Redis, valkey_url: str) -> None:
        self.calls = 0
        self.told: list[str] = []
        self._make_settings, self._valkey, self._valkey_url = make_settings, valkey, valkey_url

    def streamed(self, *chunks: dict[str, Any] | bytes | Callable[[], bool]) -> Completion:
        """Ask for a stream of these chunks. Where one is a function, the provider waits until it returns True."""
        with self._serving(STREAM, *chunks) as models:
            return models(CoroutineModels).complete(
                "system",
                "user",
                on_text=self.told.append,
                on_restart=lambda: self.told.append("|"),
                on_stage=lambda stage: self.told.append(f"({stage})"),
            )

    def whole(self, reply: Any, kind: type[Any]) -> Completion:
        """Ask for a whole reply."""
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        with self._serving(PAGE if body.startswith(b"<") else WHOLE, body) as models:
            return models(kind).complete("system", "user")

    @contextmanager
    def _serving(
        self, *response: dict[str, Any] | bytes | Callable[[], bool]
    ) -> Iterator[Callable[[type[Any]], Models]]:
        self.calls, self.told = 0, []
        self._valkey.flushall()  # the circuit breaker

        def answer(connection: socket.socket) -> None:
            read_request(connection)
            self.calls += 1
            for part in response:
                if callable(part):
                    wait_until(part)
                else:
                    connection.sendall(part if isinstance(part, bytes) else event(part))
            connection.close()

        with serving_sockets(answer) as url:
            yield lambda kind: kind(self._make_settings(valkey_url=self._valkey_url, openai_base_url=url))


@pytest.fixture
def provider(make_settings: MakeSettings, valkey: Redis, valkey_url: str) -> Provider:
    return Provider(make_settings, valkey, valkey_url)


def event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def message(finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": fields, "finish_reason": finish_reason}], "usage": USAGE}


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": REASON}]}, {"type": "text", "text": ANSWER}]
MESSAGES = {
    "tags": {"content": f"<think>\n{REASON}\n</think>\n\n{ANSWER}"},
    "only the end of a tag": {"content": f"{REASON}\n</think>\n\n{ANSWER}"},
    "channels": {"content": f"<|channel|>analysis<|message|>{REASON}<|end|><|channel|>final<|message|>{ANSWER}"},
    "reasoning_content": {"content": ANSWER, "reasoning_content": REASON},
    "reasoning": {"content": ANSWER, "reasoning": REASON},
    "thinking": {"content": ANSWER, "thinking": REASON},
    "reasoning_details": {
        "content": ANSWER,
        "reasoning": None,
        "reasoning_details": [{"type": "reasoning.text", "text": REASON}, {"type": "reasoning.encrypted", "data": "x"}],
    },
    "parts": {"content": PARTS},
    "other parts": {
        "content": [{"type": "reasoning", "summary": [{"text": REASON}]}, {"type": "output_text", "text": ANSWER}]
    },
    "thoughts": {"content": [{"type": "text", "text": REASON, "thought": True}, {"type": "text", "text": ANSWER}]},
}


@pytest.mark.parametrize("kind", [CoroutineModels, BlockingModels])
@each("said", MESSAGES)
def test_reasoning_is_no_part_of_a_reply(said: dict[str, Any], kind: type[Any], provider: Provider) -> None:
    completion = provider.whole(message(**said), kind)
    assert completion.text == ANSWER
    assert completion.usage
    assert completion.usage.reasoning_tokens
    assert 5 < completion.usage.reasoning_tokens < 20


@each("said", MESSAGES)
def test_reasoning_is_no_part_of_a_stream(said: dict[str, Any], provider: Provider) -> None:
    reasoning = {name: value for name, value in said.items() if name != "content"}
    content = said["content"]
    chunks = [delta(**{name: value}) for name, value in reasoning.items()]
    chunks += [
        delta(content=piece) for piece in ([content] if isinstance(content, str) else [[part] for part in content])
    ]
    completion = provider.streamed(*chunks, delta("stop"), {"choices": [], "usage": USAGE}, DONE)
    assert completion.text == ANSWER
    assert "".join(provider.told).removeprefix("(thinking)").removeprefix("(answering)") == ANSWER


def test_thinking_is_told_while_it_lasts(provider: Provider) -> None:
    provider.streamed(
        delta(reasoning="a"), lambda: bool(provider.told), delta(reasoning="b"), delta("stop", content="It is.")
    )
    assert provider.told == ["(thinking)", "(answering)", "It is."]


def test_the_provider_counts_better_than_an_estimate(provider: Provider) -> None:
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 17}}
    completion = provider.streamed(delta(content=f"<think>a</think>{ANSWER}"), delta("stop"), event({"usage": usage}))
    assert completion.usage == Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120, reasoning_tokens=17)


def test_parts_that_were_reasoning_are_taken_back(provider: Provider) -> None:
    end = delta("stop", content=f"</think>{ANSWER}")
    assert provider.streamed(delta(content="Okay, the user asks. "), lambda: bool(provider.told), end).text == ANSWER
    assert provider.told == ["Okay, the user asks. ", "|", ANSWER]


@each("reason", ["length", "MAX_TOKENS", "model_length"])
def test_an_answer_at_its_limit_of_tokens_is_incomplete(reason: str, provider: Provider) -> None:
    completion = provider.streamed(delta(content="It takes"), delta(reason), DONE)
    assert (completion.text, completion.incomplete) == ("It takes", "max_tokens")
    assert provider.whole(message(reason, content="It takes"), BlockingModels).incomplete == "max_tokens"
    assert provider.streamed(delta(content="It takes 5."), delta("stop"), DONE).incomplete is None


ENDINGS = {
    "filter": ([delta(content="It"), delta("content_filter"), DONE], ContentFiltered, "content_filter", 1),
    "filter, at once": ([delta("content_filter"), DONE], ContentFiltered, "content_filter", 1),
    "safety": ([delta("SAFETY", content="It"), DONE], ContentFiltered, "content_filter", 1),
    "cut": ([delta(content="It takes")], ProviderUnavailable, "broke off its answers", 4),
    "failed": ([delta(content="It takes"), delta("error")], ProviderUnavailable, r"502 \(error\)", 4),
    "null": ([delta(content=None), delta("stop"), DONE], ProviderError, "its reply has no text", 1),
    "blank": ([delta(content=" \n"), delta("stop"), DONE], ProviderError, "its reply has no text", 1),
    "only reasoning": ([delta(content=f"<think>{REASON}"), delta("stop")], ProviderError, "after its reasoning", 1),
    "no room": ([delta(reasoning=REASON), delta("length"), DONE], ProviderError, "higher max_tokens", 1),
    "page": ([b"<!doctype html><html></html>"], ProviderError, "a web page: check OPENAI_BASE_URL", 1),
    "overloaded": ([event({"error": {"code": "overloaded"}})], ProviderUnavailable, r"503 \(overloaded\)", 4),
    "late": ([delta(content="It"), event({"error": {"type": "api_error"}})], ProviderUnavailable, "503", 4),
    "with choices": (
        [delta(content="It"), delta("error", content="") | {"error": {"code": 502, "message": "secret"}}],
        ProviderUnavailable,
        "502",
        4,
    ),
    "in words": ([event({"error": "model runner stopped: secret"})], ProviderUnavailable, "503", 4),
    "of vLLM": ([event({"object": "error", "message": "secret", "code": 401})], ProviderKeyRejected, "KEY", 1),
    "rate": ([event({"error": {"code": "rate_limit_exceeded"}})], ProviderRateLimited, "limits the rate", 4),
    "spent": ([event({"error": {"code": "insufficient_quota"}})], ProviderRateLimited, "out of credit", 1),
    "whole": ([b'{"error": {"message": "secret", "code": 502}}'], ProviderUnavailable, "502", 4),
    "no choices": ([b'{"choices": null}'], ProviderError, "makes no sense", 1),
}


@each("chunks, error, sentence, calls", ENDINGS)
def test_a_reply_that_is_no_answer_fails(
    chunks: list[Any], error: type[AppError], sentence: str, calls: int, provider: Provider
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        provider.streamed(*chunks)
    assert type(caught.value) is error
    assert "secret" not in caught.value.detail
    assert provider.calls == calls


@pytest.mark.parametrize("kind", [CoroutineModels, BlockingModels])
def test_a_whole_reply_that_is_no_answer_fails(kind: type[Any], provider: Provider) -> None:
    for reply, sentence, calls in (
        (message("content_filter", content=None), "content_filter", 1),
        (message(content=None), "its reply has no text", 1),
        (message("length", content=f"<think>{REASON}"), "higher max_tokens", 1),
        ({"error": {"message": "secret", "code": 502}}, "502", 4),
        (b"<html>", "a web page", 1),
    ):
        with pytest.raises(ProviderError, match=sentence):
            provider.whole(reply, kind)
        assert provider.calls == calls


STREAMS = {
    "no end but a reason": [delta(content="It "), delta("stop", content="is.")],
    "no reason but an end": [delta(content="It is."), DONE],
    "a whole reply": [json.dumps(message(content="It is.")).encode()],
    "a whole reply in one event": [event(message(content="It is.")), DONE],
    "a second choice": [
        delta(content="It "),
        event({"choices": [{"index": 1, "delta": {"content": "SECOND"}}]}),
        delta("stop", content="is."),
    ],
    "a refusal": [delta(content=None, refusal="It is."), delta("stop")],
    "notes of a filter": [event({"choices": [], "prompt_filter_results": [{}]}), delta("stop", content="It is.")],
    "a ping": [b'event: ping\ndata: {"type": "ping"}\n\n', delta("stop", content="It is.")],
    "a last event without data": [delta("stop", content="It is."), event({"choices": [{"index": 0}]}), DONE],
}


@each("chunks", STREAMS)
def test_streams_in_the_manner_of_many_providers(chunks: list[Any], provider: Provider) -> None:
    assert provider.streamed(*chunks).text == "It is."
    assert "".join(provider.told) == "It is."


def test_of_the_usage_in_each_chunk_the_last_counts(provider: Provider) -> None:
    counts = [USAGE | {"completion_tokens": n, "total_tokens": 100 + n} for n in range(1, 21)]
    chunks = [delta(content=f"{n} ") | {"usage": count} for n, count in enumerate(counts)]
    completion = provider.streamed(*chunks, delta("stop") | {"usage": None}, DONE)
    assert completion.usage == Usage(prompt_tokens=100, completion_tokens=20, total_tokens=120)
