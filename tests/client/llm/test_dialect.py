"""What a provider does not take is left out: found out by asking, and remembered for all workers."""

from __future__ import annotations

from typing import Any

import pytest

from client.llm import retries
from client.llm.embeddings import make_embedder
from errors import ProviderError
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels
from tests.support.openai_stub import embedding
from tests.support.provider_profiles import ANSWER, PROFILES, USAGE, Profile, Refusal, provider
from tests.support.tables import each

TEXTS = [f"The lamp number {n} weighs {n} kg." for n in range(25)]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


def streamed(settings: Settings, **options: Any) -> tuple[str, Any]:
    """Return the answer of a new process, and its usage."""
    said = [""]
    completion = CoroutineModels(settings).complete(
        "rules", "question", on_text=said.append, on_restart=said.clear, **options
    )
    assert completion.text == "".join(said)
    return completion.text, completion.usage


@pytest.mark.parametrize("name", PROFILES)
def test_each_provider_answers_and_embeds(name: str, make_settings: MakeSettings, valkey_url: str) -> None:
    with provider(PROFILES[name]) as server:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=server.url, embedding_model="e")
        options: dict[str, Any] = {"temperature": 0.2, "max_tokens": 50}
        text, usage = streamed(settings, **options)
        assert text == ANSWER
        assert usage is None or usage.total_tokens == USAGE["total_tokens"]
        assert (usage is None) == (PROFILES[name].usage == "never")
        assert BlockingModels(settings).complete("rules", "question", **options).text == ANSWER
        documents = make_embedder(settings)
        assert documents is not None
        vectors = documents.embed_documents(TEXTS)
        assert all(vector == pytest.approx(embedding(text)) for vector, text in zip(vectors, TEXTS, strict=True))
        assert CoroutineModels(settings).embed_query(TEXTS[3]) == pytest.approx(embedding(TEXTS[3]))
        refused = server.refused
        assert streamed(settings, **options)[0] == ANSWER
        assert BlockingModels(settings).complete("rules", "question", **options).text == ANSWER
        again = make_embedder(settings)
        assert again is not None
        again.embed_documents(TEXTS)
        assert server.refused == refused  # what was refused once is not asked again, also by a new process
        asked = [" ".join(said["content"] for said in call["messages"]) for call in server.calls if "messages" in call]
        assert asked
        assert all("rules" in text and "question" in text for text in asked)


def refusing(field: str, status: int, said: Any) -> Refusal:
    """Return a refusal of requests with a field."""
    return lambda body: (status, said) if field in body else None


NAMED = {
    "a sentence": ("stream_options", 400, {"error": {"message": "stream_options is not supported"}}),
    "FastAPI": ("max_completion_tokens", 422, {"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "extra"}]}),
    "a list in the message": (
        "stream_options", 422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "stream_options"]}]}, "code": None},
    ),
    "temperature": ("temperature", 400, {"error": {"message": "temperature must be 1", "param": "temperature"}}),
    "a text": ("temperature", 400, "temperature is not supported by this model"),
    "no name": ("stream_options", 400, {"error": {"message": "invalid request"}}),
    "no body": ("max_completion_tokens", 422, None),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_a_refused_parameter_is_left_out(case: str, make_settings: MakeSettings, valkey_url: str) -> None:
    field, status, said = NAMED[case]
    with provider(Profile(refuse=refusing(field, status, said))) as server:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=server.url)
        assert streamed(settings, temperature=0.5, max_tokens=50)[0] == ANSWER
        assert field not in server.calls[-1]
        refused = server.refused
        assert streamed(settings, temperature=0.5, max_tokens=50)[0] == ANSWER
        assert server.refused == refused


def test_a_model_that_does_not_stream_answers_at_once(make_settings: MakeSettings, valkey_url: str) -> None:
    def refuse(body: dict[str, Any]) -> tuple[int, Any] | None:
        said = {"error": {"message": "must be verified to stream this model", "param": "stream", "code": "x"}}
        return (400, said) if body.get("stream") else None

    with provider(Profile(refuse=refuse)) as server:
        assert streamed(make_settings(valkey_url=valkey_url, openai_base_url=server.url))[0] == ANSWER


def test_a_gateway_that_adds_the_refused_option_itself_is_asked_without_a_stream(
    make_settings: MakeSettings, valkey_url: str
) -> None:
    def refuse(body: dict[str, Any]) -> tuple[int, Any] | None:
        said = "OpenAIException - {'detail': [{'loc': ['body', 'stream_options'], 'msg': 'extra field'}]}"
        return (422, {"error": {"message": said, "type": None, "code": "422"}}) if body.get("stream") else None

    with provider(Profile(refuse=refuse)) as server:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=server.url)
        assert streamed(settings)[0] == ANSWER
        assert server.refused == 2
        assert streamed(settings)[0] == ANSWER
        assert server.refused == 2


@each(
    "field, status, said, shown",
    {
        "a value": ("max_completion_tokens", 400, "max_tokens is too large: at most 10", r"400 \(x: max_tokens\)"),
        "another reason": ("messages", 400, "the request is bad", r"refused the request with 400 \(x"),
    },
)
def test_a_refusal_that_remains_names_the_parameter(
    field: str, status: int, said: str, shown: str, make_settings: MakeSettings, valkey_url: str
) -> None:
    error = {"error": {"message": said, "param": field.replace("completion_", ""), "code": "x"}}
    with provider(Profile(refuse=refusing(field, status, error))) as server:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=server.url)
        with pytest.raises(ProviderError, match=shown):
            BlockingModels(settings).complete("rules", "question", max_tokens=50)
        assert server.refused == 1


def test_batches_and_texts_shrink_to_what_the_model_takes(make_settings: MakeSettings, valkey_url: str) -> None:
    def refuse(body: dict[str, Any]) -> tuple[int, Any] | None:
        if len(body["input"]) > 4:
            return 413, "<html>Request Entity Too Large</html>"
        too_long = any(len(text) > 600 for text in body["input"])
        return (400, {"error": {"message": "input length exceeds the context length"}}) if too_long else None

    texts = [*TEXTS, "word " * 400]
    with provider(Profile(refuse=refuse)) as server:
        settings = make_settings(valkey_url=valkey_url, openai_base_url=server.url, embedding_model="e")
        for _ in range(2):
            embedder = make_embedder(settings)
            assert embedder is not None
            assert len(embedder.embed_documents(texts)) == len(texts)
            assert len(CoroutineModels(settings).embed_query(texts[-1])) > 0
            refused, server.refused = server.refused, 0
        assert refused == 0


def test_a_prompt_that_is_too_long_names_the_setting(make_settings: MakeSettings, valkey_url: str) -> None:
    for code in ("context_length_exceeded", "exceed_context_size_error"):
        with provider(
            Profile(refuse=refusing("model", 400, {"error": {"message": "too long", "type": code}}))
        ) as server:
            models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=server.url))
            with pytest.raises(ProviderError, match="lower CONTEXT_TOKENS"):
                models.complete("rules", "question", max_tokens=50)
            assert server.refused == 1
