"""An Ollama of this machine is noticed, and the settings for it are told."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from client.llm import ollama
from client.llm.ollama import Ollama
from main import _banner as banner
from server import create_app
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.ollama import make_ollama, model
from tests.support.openai_stub import serving
from tests.support.processes import free_port


def found_at(monkeypatch: pytest.MonkeyPatch, url: str) -> Ollama | None:
    monkeypatch.setattr(ollama, "URL", url)
    return asyncio.run(ollama.find())


def test_the_models_that_are_there_are_named(monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # never asked
    models = [model("nomic-embed-text:latest", "nomic-bert"), model("qwen3:8b", "qwen3")]
    with serving(make_ollama(models)) as url:
        lines = [f"OPENAI_BASE_URL={url}/v1", "CHAT_MODEL=qwen3:8b", "EMBEDDING_MODEL=nomic-embed-text"]
        assert found_at(monkeypatch, url) == Ollama(["nomic-embed-text", "qwen3:8b"], lines)
        printed = banner(make_settings(port=8123), "redis://127.0.0.1:1")
        assert all(line in printed for line in lines)
        online = make_settings(port=8123, openai_base_url="http://127.0.0.1:9/v1")
        assert "Ollama" not in banner(online, "redis://127.0.0.1:1")


def test_missing_models_are_told_with_the_command_that_pulls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(make_ollama([])) as url:
        found = found_at(monkeypatch, url)
    assert found is not None
    assert found.settings[1].endswith("ollama pull llama3.2")
    assert "bm25" in found.settings[2]


def test_models_that_embed_are_known_by_their_family_and_those_of_other_servers_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = model("gpt-oss:120b-cloud", "gptoss") | {"remote_host": "https://ollama.com:443"}
    models = [away, model("paraphrase-multilingual:latest", "bert"), model("gemma3:4b", "gemma3")]
    with serving(make_ollama(models)) as url:
        found = found_at(monkeypatch, url)
    assert found is not None
    assert found.models == ["paraphrase-multilingual", "gemma3:4b"]
    assert found.settings[1:] == ["CHAT_MODEL=gemma3:4b", "EMBEDDING_MODEL=paraphrase-multilingual"]


def test_another_server_and_none_are_no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_at(monkeypatch, f"http://127.0.0.1:{free_port()}") is None
    asked: list[str] = []
    for answer in ("<html>", "[]", '{"models": 1}', "{}", "redirect", "huge", "slow"):
        with serving(make_ollama([], answer=answer, asked=asked)) as url:
            assert found_at(monkeypatch, url) is None, answer
    assert set(asked) == {"/api/tags"}


def test_the_settings_that_a_model_needs_are_suggested(
    monkeypatch: pytest.MonkeyPatch, api: httpx.Client, make_settings: MakeSettings, settings: Settings
) -> None:
    monkeypatch.setattr(ollama, "URL", f"http://127.0.0.1:{free_port()}")
    nothing: dict[str, Any] = {"provider": None, "models": [], "lines": []}
    assert api.get("/settings/suggested").json() == nothing
    asked: list[str] = []
    with serving(make_ollama([model("qwen3:8b", "qwen3")], asked=asked)) as url:
        monkeypatch.setattr(ollama, "URL", url)
        suggested = api.get("/settings/suggested").json()
        assert (suggested["provider"], suggested["models"]) == ("ollama", ["qwen3:8b"])
        assert suggested["lines"][:2] == [f"OPENAI_BASE_URL={url}/v1", "CHAT_MODEL=qwen3:8b"]
        # Nobody but this machine has the service look around, and nobody does once a model is set.
        assert api.get("/settings/suggested", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
        online = make_settings(openai_base_url="http://127.0.0.1:9/v1", valkey_url=settings.queue_url)
        with serving(create_app(online)) as other:
            assert httpx.get(f"{other}/settings/suggested").json() == nothing
    assert asked == ["/api/tags"]
