"""An Ollama of this machine is noticed, and the settings for it are told."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, Response

from client.llm import ollama
from client.llm.ollama import suggested_settings
from main import _banner as banner
from tests.conftest import MakeSettings
from tests.support.openai_stub import serving
from tests.support.processes import free_port


def make_ollama(names: list[str], *, body: str | None = None) -> FastAPI:
    """Build a server that lists models as Ollama does, or answers with `body`."""
    app = FastAPI()

    @app.get("/api/tags", response_model=None)
    def tags() -> dict[str, list[dict[str, str]]] | Response:
        return Response(body) if body is not None else {"models": [{"name": name} for name in names]}

    return app


def test_the_models_that_are_there_are_named(monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # never asked
    with serving(make_ollama(["nomic-embed-text:latest", "qwen3:8b"])) as url:
        lines = [f"OPENAI_BASE_URL={url}/v1", "CHAT_MODEL=qwen3:8b", "EMBEDDING_MODEL=nomic-embed-text"]
        assert suggested_settings(url) == lines
        monkeypatch.setattr(ollama.suggested_settings, "__defaults__", (url,))
        printed = banner(make_settings(port=8123), "redis://127.0.0.1:1")
        assert all(line in printed for line in lines)
        online = make_settings(port=8123, openai_base_url="http://127.0.0.1:9/v1")
        assert "Ollama" not in banner(online, "redis://127.0.0.1:1")


def test_missing_models_are_told_with_the_command_that_pulls_them() -> None:
    with serving(make_ollama([])) as url:
        _, chat, embedding = suggested_settings(url)
    assert chat.endswith("ollama pull llama3.2")
    assert "bm25" in embedding


def test_another_server_and_none_are_no_ollama() -> None:
    assert suggested_settings(f"http://127.0.0.1:{free_port()}") == []
    for body in ("<html>", "[]", '{"models": 1}', "{}"):
        with serving(make_ollama([], body=body)) as url:
            assert suggested_settings(url) == []
