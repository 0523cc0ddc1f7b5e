"""GET /v1/models, read by OpenAI's client."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.api.v1.clients import client_of
from tests.api.v1.test_errors import serving_with
from tests.conftest import MakeSettings


def test_without_a_model_provider_there_are_two_names(api: httpx.Client) -> None:
    with client_of(api) as client:
        assert [model.id for model in client.models.list()] == ["rag", "rag-sources"]


def test_the_models_that_a_question_may_choose(make_settings: MakeSettings, valkey_url: str) -> None:
    settings = make_settings(
        openai_api_key="sk-a", chat_model="lamp", chat_models="maker/large,lamp", valkey_url=valkey_url
    )
    with serving_with(settings) as api, client_of(api) as client:
        assert [model.id for model in client.models.list()] == ["rag", "rag-sources", "lamp", "maker/large"]
        assert client.models.retrieve("maker/large").owned_by == "rag"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("other")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "maker/large" in str(caught.value)
