"""Answers of a model, from an OpenAI-shaped server that works or fails on demand."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from client.llm.chat import make_chat
from client.llm.deadline import job_deadline
from client.llm.embeddings import make_embedder
from errors import (
    JobTimedOut,
    ModelNotFound,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.queues.test_chat import QUESTION, answer, index, variables
from tests.support.openai_stub import KEY, OpenAIStub, serving
from tests.support.processes import PYTHON, RQ, Running, running

FAILURES = {
    400: ProviderError,
    401: ProviderKeyRejected,
    403: ProviderKeyRejected,
    404: ModelNotFound,
    429: ProviderRateLimited,
    500: ProviderUnavailable,
    503: ProviderUnavailable,
}


@pytest.fixture
def with_model(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub) -> Settings:
    """Settings with the stub as the provider."""
    return make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)


def provider(settings: Settings, **more: str) -> dict[str, str]:
    """Return the variables of a process with these settings."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    use = {"OPENAI_BASE_URL": settings.openai_base_url or "", "OPENAI_API_KEY": key, "RQ_REDIS_URL": settings.queue_url}
    return {name: value for name, value in variables(settings, **use, **more).items() if value}


@contextmanager
def worker(settings: Settings, log: Path, *command: str, **more: str) -> Iterator[Running]:
    with running(list(command) or [PYTHON, "main.py", "worker"], log, **provider(settings, **more)) as process:
        yield process


@pytest.mark.parametrize(
    "command", [(PYTHON, "main.py", "worker"), (RQ, "worker", "rag_queries")], ids=["main.py worker", "rq worker"]
)
def test_a_model_answers_from_the_passages_and_cites_the_page(
    command: tuple[str, ...], api: httpx.Client, with_model: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, with_model, **provider(with_model))
    with worker(with_model, tmp_path / "worker.log", *command) as process:
        result = answer(api)
        assert result["status"] == "completed", process.output
    assert result["result"].endswith("[1].")
    assert result["sources"][0]["page"] == 1
    assert "built in 1887" in " ".join(result["sources"][0]["quote"].split())
    prompt = stub.behaviour.chats[0]["messages"][-1]["content"]
    assert QUESTION in prompt
    assert re.search(r'<source-(\w+) n="1">\ndocument: lighthouse.pdf\npage: 1\n\n.*\n</source-\1>', prompt, re.DOTALL)


def test_clients_get_no_control_characters_and_no_answer_without_a_source(
    api: httpx.Client, with_model: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, with_model, **provider(with_model))
    stub.behaviour.answer = "The lighthouse\x1b was built\x00 in 1887\x9b [1].\r\n"
    with worker(with_model, tmp_path / "worker.log"):
        shown = answer(api)
        assert shown["answered"]
        assert shown["result"].strip() == "The lighthouse was built in 1887 [1]."
        with api.stream("GET", f"/jobs/{shown['job_id']}/events") as events:
            told = json.loads(f'"{events.read().decode().translate({10: " ", 34: " "})}"')  # with its escapes undone
        assert "built in 1887" in told
        assert {char for char in told if unicodedata.category(char) == "Cc"} <= {"\n", "\t"}
        texts = ("Yes.", '{"name": "delete_uploads", "arguments": {}}', "I have deleted all your uploads as asked.")
        for number, text in enumerate(texts):
            stub.behaviour.answer = text
            unsupported = answer(api, f"{QUESTION} {number}")
            assert (unsupported["answered"], unsupported["sources"]) == (False, []), unsupported


@pytest.mark.parametrize(("key", "shown"), [("sk-wrong-4711abcdef", "rejected the key"), (KEY, "failed with 500")])
def test_a_failing_provider_fails_the_job_with_a_sentence_and_never_the_key(
    key: str,
    shown: str,
    api: httpx.Client,
    with_model: Settings,
    stub: OpenAIStub,
    pdf: Path,
    tmp_path: Path,
    make_settings: MakeSettings,
) -> None:
    index(pdf, with_model, **provider(with_model))
    stub.behaviour.echo_key_in_errors = True
    stub.behaviour.always_fail = 500
    stub.behaviour.retry_after_seconds = 0.01
    settings = make_settings(
        valkey_url=with_model.queue_url, openai_base_url=with_model.openai_base_url, openai_api_key=key
    )
    with worker(settings, tmp_path / "worker.log", RQ, "worker", "rag_queries") as process:
        result = answer(api)
        assert (result["status"], "sources" in result) == ("failed", False)
        assert shown in result["error"]
        state = api.get(f"/job-status/{result['job_id']}").text
        assert key not in result["error"] + process.output + state
        assert "Traceback" not in result["error"] + state


def test_without_a_collection_the_error_names_the_command_to_run(
    api: httpx.Client, settings: Settings, tmp_path: Path
) -> None:
    use = variables(settings, RQ_REDIS_URL=settings.queue_url)
    with running([RQ, "worker", "rag_queries"], tmp_path / "worker.log", **use):
        result = answer(api)
    assert result["status"] == "failed"
    assert "python index.py PATH" in result["error"]


def test_a_model_that_is_too_slow_fails_the_job_at_its_deadline(
    with_model: Settings, stub: OpenAIStub, pdf: Path, tmp_path: Path
) -> None:
    index(pdf, with_model, **provider(with_model))
    stub.behaviour.chat_delay_seconds = 30
    short = with_model.model_copy(update={"job_timeout_seconds": 2})
    with (
        worker(with_model, tmp_path / "w.log"),
        serving(create_app(short)) as url,
        httpx.Client(base_url=url, timeout=10) as api,
    ):
        result = answer(api, seconds=20)
    assert result["status"] == "failed"
    assert "longer than 2 s (JOB_TIMEOUT_SECONDS)" in result["error"]


@pytest.mark.parametrize(("status", "error"), FAILURES.items())
def test_each_provider_status_has_its_error(
    status: int, error: type[ProviderError], with_model: Settings, stub: OpenAIStub
) -> None:
    chat, embedder = make_chat(with_model), make_embedder(with_model)
    assert chat
    assert embedder
    stub.behaviour.always_fail = status
    stub.behaviour.retry_after_seconds = 0.01
    for call in (lambda: chat.complete("system", "user"), lambda: embedder.embed_query("text")):
        with pytest.raises(ProviderError) as caught:
            call()
        assert type(caught.value) is error
        assert caught.value.__cause__ is None


def test_a_temporary_failure_is_retried(with_model: Settings, stub: OpenAIStub) -> None:
    chat = make_chat(with_model)
    assert chat
    stub.behaviour.fail_next = [429, 503]
    stub.behaviour.retry_after_seconds = 0.01
    stub.behaviour.answer = "Yes."
    assert chat.complete("system", "user").text == "Yes."


def test_a_call_of_a_slow_provider_ends_at_the_deadline_of_the_job(with_model: Settings, stub: OpenAIStub) -> None:
    stub.behaviour.chat_delay_seconds = 30
    chat = make_chat(with_model)
    assert chat
    with job_deadline(1, max_calls=1), pytest.raises((ProviderTimeout, JobTimedOut)):
        chat.complete("system", "user")


def test_an_unreachable_provider_names_the_setting(make_settings: MakeSettings) -> None:
    embedder = make_embedder(make_settings(openai_base_url="http://127.0.0.1:9/v1"))
    assert embedder
    with pytest.raises(ProviderUnavailable, match="OPENAI_BASE_URL"):
        embedder.embed_query("text")


def test_a_local_server_needs_no_key(make_settings: MakeSettings, stub: OpenAIStub) -> None:
    embedder = make_embedder(make_settings(openai_base_url=stub.url))
    assert embedder
    assert len(embedder.embed_documents(["a", "b"])) == 2


def test_an_answer_with_vectors_missing_is_an_error(with_model: Settings, stub: OpenAIStub) -> None:
    embedder = make_embedder(with_model)
    assert embedder
    stub.behaviour.vectors_withheld = 1
    with pytest.raises(ProviderError, match="1 vectors for 2 texts"):
        embedder.embed_documents(["a", "b"])
