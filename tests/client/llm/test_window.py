"""The window of a model: where providers tell it, what a refusal says of it, and prompts that are made to fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from client.llm import query_embeddings
from client.llm.completions import ChatCompletions
from client.llm.failures import StatusFailure
from client.llm.http import close_session
from client.llm.query_embeddings import ProviderQueryEmbedder
from client.llm.window import window_in_refusal
from errors import ProviderError, ProviderTimeout
from rag.answer.fence import Fence
from rag.answer.prompt import MIN_PASSAGE_CHARS, FittingPrompt, system_prompt
from rag.text.normalize import estimate_tokens
from schemas import Completion, Passage
from settings import Settings
from tests.conftest import MakeSettings
from tests.rag.citations.test_check import passage
from tests.support.openai_stub import serving
from tests.support.tables import each

QUESTION = "How long does it take?"
TEXT = "The lamp burns for nine hours at the lowest of its three levels. " * 20
ANSWER = {"choices": [{"message": {"content": "Nine hours [1]."}, "finish_reason": "stop"}]}


class Model:
    """A provider with a window that counts as this service estimates. `told` are its answers by method and path."""

    def __init__(
        self, window: int, *, told: dict[str, Any] | None = None, refusal: Any = None, status: int = 404
    ) -> None:
        self.window = window
        self.told = told or {}
        self.refusal = refusal
        self.status = status
        self.asked: list[str] = []
        self.prompts: list[int] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.prompts.append(sum(estimate_tokens(message["content"]) for message in body["messages"]))
            if self.prompts[-1] > self.window:
                return JSONResponse(self.refusal, status_code=400)
            return JSONResponse(ANSWER)

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def other(path: str, request: Request) -> Response:
            self.asked.append(f"{request.method} /{path}")
            told = self.told.get(self.asked[-1])
            return JSONResponse({"error": "unknown"}, self.status) if told is None else JSONResponse(told)

        with serving(app) as url:
            yield f"{url}/v1"


def answer(settings: Settings, passages: int = 6, **options: Any) -> tuple[Completion, FittingPrompt]:
    """Answer in a new process; return the prompt as it was at last."""
    fence = Fence()
    found = [passage(f"{n}. {TEXT}") for n in range(passages)]
    prompt = FittingPrompt(QUESTION, found, fence, answer_tokens=None)

    async def ask() -> Completion:
        try:
            return await ChatCompletions(settings).complete(
                system_prompt(fence), prompt.text, fit=prompt.fit, model="m", **options
            )
        finally:
            await close_session()

    return asyncio.run(ask()), prompt


SAYS: dict[str, dict[str, Any]] = {
    "vllm": {"GET /v1/models": {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 2_048}]}},
    "openrouter": {
        "GET /v1/models": {
            "data": [
                {"id": "other", "context_length": 900},
                {"id": "m", "context_length": 9_000, "top_provider": {"context_length": 2_048}},
            ]
        }
    },
    "ollama with num_ctx": {
        "GET /v1/models": {"data": [{"id": "m", "owned_by": "library"}]},
        "POST /api/show": {
            "parameters": 'stop "<|im_end|>"\nnum_ctx                        2048',
            "model_info": {"qwen2.context_length": 32_768},
        },
    },
    "ollama": {"POST /api/show": {"model_info": {"general.architecture": "qwen2", "qwen2.context_length": 2_048}}},
    "lmstudio": {
        "GET /api/v0/models": {"data": [{"id": "m", "max_context_length": 32_768, "loaded_context_length": 2_048}]}
    },
    "lmstudio, not loaded": {"GET /api/v0/models": {"data": [{"id": "m", "max_context_length": 2_048}]}},
    "llama.cpp": {
        "GET /v1/models": {"data": [{"id": "m", "meta": {"n_ctx_train": 32_768}}]},
        "GET /props": {"default_generation_settings": {"n_ctx": 2_048}, "total_slots": 1},
    },
    "litellm": {"GET /model/info": {"data": [{"model_name": "m", "model_info": {"max_input_tokens": 2_048}}]}},
}


@each("told", SAYS)
def test_a_prompt_fits_into_the_window_that_the_provider_tells(
    told: dict[str, Any], make_settings: MakeSettings, valkey_url: str
) -> None:
    model = Model(2_048, told=told)
    with model.serving() as url:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=url)
        completion, prompt = answer(settings)
        assert completion.text == "Nine hours [1]."
        assert 1 <= len(prompt.passages) < 6
        assert model.prompts[0] <= 2_048 * 3 / 4
        asked = len(model.asked)
        answer(settings)
        assert len(model.asked) == asked  # remembered, also for a new process
        assert len(model.prompts) == 2


@each("told", [{}, {"GET /v1/models": []}, {"GET /v1/models": {"data": None}, "GET /props": {"n_ctx": "many"}},
               {"GET /v1/models": {"data": [{"id": "m", "max_model_len": 0}, 7]}, "POST /api/show": []}])  # fmt: skip
def test_a_provider_that_does_not_tell_gets_the_whole_prompt(
    told: dict[str, Any], make_settings: MakeSettings, valkey_url: str
) -> None:
    model = Model(100_000, told=told)
    with model.serving() as url:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=url)
        assert len(answer(settings)[1].passages) == 6
        asked = len(model.asked)
        answer(settings)
        assert len(model.asked) == asked


def test_a_provider_that_fails_to_tell_is_asked_again(make_settings: MakeSettings, valkey_url: str) -> None:
    model = Model(100_000, status=503)
    with model.serving() as url:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=url)
        assert len(answer(settings)[1].passages) == 6
        model.told = SAYS["vllm"]
        assert len(answer(settings)[1].passages) < 6


REFUSALS = {
    "vLLM": ({"object": "error", "message": "This model's maximum context length is 2048 tokens. However, you "
              "requested 2570 tokens (2470 in the messages).", "type": "BadRequestError", "code": 400}, 2_048),
    "OpenAI": ({"error": {"message": "This model's maximum context length is 2,048 tokens. However, your messages "
                "resulted in 9000 tokens.", "code": "context_length_exceeded", "param": "messages"}}, 2_048),
    "llama.cpp": ({"error": {"code": 400, "message": "the request exceeds the available context size, try increasing "
                   "it", "type": "exceed_context_size_error", "n_prompt_tokens": 2_570, "n_ctx": 2_048}}, 2_048),
    "LM Studio": ({"error": "Trying to keep the first 2570 tokens when context the overflows. However, the model is "
                   "loaded with context length of only 2048 tokens, which is not enough."}, 2_048),
    "Anthropic": ({"error": {"type": "invalid_request_error", "message": "prompt is too long: 2570 tokens > 2048 "
                   "maximum"}}, 2_048),
    "Mistral": ({"object": "error", "message": "Prompt contains 2570 tokens, too large for model with 2048 maximum "
                 "context length"}, 2_048),
    "Gemini": ({"error": {"code": 400, "message": "The input token count (2570) exceeds the maximum number of tokens "
                "allowed (2048).", "status": "INVALID_ARGUMENT"}}, 2_048),
    "without a number": ({"error": {"message": "Please reduce the length of the messages.", "code": None}}, None),
    "Bedrock": ({"message": "Input is too long for requested model."}, None),
}  # fmt: skip


@each("refusal, window", REFUSALS)
def test_a_refused_prompt_is_sent_again_with_fewer_passages(
    refusal: Any, window: int | None, make_settings: MakeSettings, valkey_url: str
) -> None:
    assert window_in_refusal(StatusFailure(400, refusal, {})) == window
    model = Model(2_048, refusal=refusal)
    with model.serving() as url:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=url)
        completion, prompt = answer(settings)
        assert completion.text == "Nine hours [1]."
        assert 1 <= len(prompt.passages) < 6
        answer(settings)
        assert model.prompts[-1] <= 2_048
        assert model.prompts[-2] <= 2_048, "the window is remembered: the second question is not refused"


def test_a_question_that_no_window_takes_names_the_window(make_settings: MakeSettings, valkey_url: str) -> None:
    model = Model(10, refusal=REFUSALS["without a number"][0])
    with model.serving() as url, pytest.raises(ProviderError, match="longer than the model's window: lower CONTEXT"):
        answer(make_settings(valkey_url=valkey_url, openai_base_url=url))
    assert len(model.prompts) < 20


def test_a_refused_limit_of_the_answer_is_no_window(make_settings: MakeSettings, valkey_url: str) -> None:
    said = "'max_tokens' is too large: 9000. This model's maximum context length is 2048 tokens."
    model = Model(10, refusal={"error": {"message": said, "param": "max_tokens", "code": "x"}})
    with model.serving() as url, pytest.raises(ProviderError, match=r"400 \(x: max_tokens\)"):
        answer(make_settings(valkey_url=valkey_url, openai_base_url=url), max_tokens=9_000)
    assert len(model.prompts) == 1


def test_a_prompt_keeps_a_part_of_its_best_passage() -> None:
    found: list[Passage] = [passage(TEXT), passage(TEXT)]
    prompt = FittingPrompt(QUESTION, found, Fence(), answer_tokens=None)
    whole = prompt.text
    assert prompt.fit(100_000) == whole
    assert prompt.passages == found
    text = prompt.fit(300)
    assert text is not None
    assert len(prompt.passages) == 1
    assert MIN_PASSAGE_CHARS / 2 < len(prompt.passages[0].chunk.text) < 2 * MIN_PASSAGE_CHARS
    assert QUESTION in text
    assert prompt.fit(None) is None


def test_an_embedding_that_takes_too_long_is_not_asked_for_again(
    make_settings: MakeSettings, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_embeddings, "EMBEDDING_TIMEOUT_SECONDS", 0.2)
    asked = 0
    app = FastAPI()

    @app.post("/v1/embeddings")
    async def embeddings() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    async def embed(url: str) -> None:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=f"{url}/v1")
        try:
            await ProviderQueryEmbedder(settings, "e").embed_query("text")
        finally:
            await close_session()

    with serving(app) as url, pytest.raises(ProviderTimeout, match="choose a faster EMBEDDING_MODEL"):
        asyncio.run(embed(url))
    assert asked == 1
