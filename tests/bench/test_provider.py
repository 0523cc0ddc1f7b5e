"""The stub provider of the benchmarks answers as a provider does, and its citations are supported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest

from bench.questions import corpus
from bench.questions.provider import SENTENCES, TOKENS, Provider, provider
from client.qdrant.bm25 import Bm25Encoder
from rag.answer.fence import Fence
from rag.answer.pipeline import check_answer
from rag.answer.prompt import system_prompt, user_prompt
from schemas import Chunk, Passage

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the stub is written in C")
QUESTION = "What is known?"


@pytest.fixture(scope="module")
def stub() -> Iterator[Provider]:
    with provider() as running:
        yield running


def make_passages(count: int) -> list[Passage]:
    sections = corpus.make_corpus()[0][:count]
    return [
        Passage(
            chunk=Chunk(
                id=str(n),
                upload_id="u",
                user_id="local",
                name="survey.pdf",
                index=n,
                page=n + 1,
                page_label=str(n + 1),
                start=0,
                end=len(section.text),
                text=section.text,
            ),
            score=1.0,
        )
        for n, section in enumerate(sections)
    ]


def ask(stub: Provider, model: str, passages: list[Passage]) -> list[dict[str, Any]]:
    """Return the chunks of the stub's answer."""
    fence = Fence()
    body = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": system_prompt(fence)},
            {"role": "user", "content": user_prompt(QUESTION, passages, fence)},
        ],
    }
    response = httpx.post(f"{stub.url}/chat/completions", json=body, timeout=60)
    *events, done = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


@pytest.mark.parametrize("model", ["long", "short"])
def test_an_answer_has_its_tokens_and_supported_citations(stub: Provider, model: str) -> None:
    passages = make_passages(6)
    role, *tokens, end, usage = ask(stub, model, passages)

    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert len(tokens) == TOKENS[model]
    assert end["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["total_tokens"] > 0
    text = "".join(token["choices"][0]["delta"]["content"] for token in tokens)
    checked = check_answer(QUESTION, text, passages, Bm25Encoder().terms)
    assert len(checked.sources) == SENTENCES[model]
    assert checked.unsupported == 0


def test_texts_that_share_words_are_near(stub: Provider) -> None:
    texts = ["the old mill of Fenbrook", "a mill near Fenbrook", "nineteen swallows"]
    data = httpx.post(f"{stub.url}/embeddings", json={"model": "m", "input": texts}, timeout=60).json()["data"]
    vectors: list[list[float]] = [entry["embedding"] for entry in data]
    first, near, far = vectors

    def closeness(other: list[float]) -> float:
        return sum((a * b for a, b in zip(first, other, strict=True)), 0.0)

    assert len(first) == 1536
    assert closeness(near) > 0.3 > closeness(far)


def test_no_question_comes_twice() -> None:
    asked = list(islice(corpus.questions(corpus.make_corpus()), 12_000))
    assert len(set(asked)) == len(asked)
