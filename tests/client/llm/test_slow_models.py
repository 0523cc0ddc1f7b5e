"""A slow model has the time that the settings give it, and is not asked twice for what it reads slowly."""

from __future__ import annotations

import pytest

from client.llm import completions
from errors import ProviderTimeout
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels
from tests.support.openai_stub import KEY, OpenAIStub


@pytest.mark.parametrize("kind", [CoroutineModels, BlockingModels])
def test_a_model_that_reads_too_long_is_asked_once(
    kind: type[CoroutineModels | BlockingModels], make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub
) -> None:
    stub.behaviour.chat_delay_seconds = 30
    models = kind(
        make_settings(
            valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, first_token_timeout_seconds=1
        )
    )
    with pytest.raises(ProviderTimeout, match="raise the setting"):
        models.complete("system", "user")
    assert len(stub.behaviour.calls) == 1


def test_a_model_that_pauses_too_long_is_asked_once(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub
) -> None:
    stub.behaviour.answer = lambda _messages: "One two three."
    stub.behaviour.pause_seconds = 30
    models = CoroutineModels(
        make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY, next_token_timeout_seconds=1)
    )
    with pytest.raises(ProviderTimeout, match="NEXT_TOKEN_TIMEOUT_SECONDS"):
        models.complete("system", "user", on_text=lambda _text: None)
    assert len(stub.behaviour.calls) == 1


def test_a_user_is_told_that_the_model_reads(
    make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "WAIT_TOLD_SECONDS", 0.1)
    stub.behaviour.chat_delay_seconds = 1
    stub.behaviour.answer = "Yes."
    stages: list[str] = []
    models = CoroutineModels(make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY))
    models.complete("system", "user", on_text=lambda _text: None, on_stage=stages.append)
    assert stages[0] == "the model reads (0 s)"
    assert stages[-1] == "answering"
