"""What the tests of the provider's clients share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client.llm import retries
from settings import Settings
from tests.conftest import MakeSettings
from tests.support.models import BlockingModels, CoroutineModels, Models
from tests.support.openai_stub import KEY, OpenAIStub

MakeModels = Callable[[Settings], Models]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def online(make_settings: MakeSettings, valkey_url: str, stub: OpenAIStub) -> Settings:
    """Settings with the stub as the provider."""
    return make_settings(valkey_url=valkey_url, openai_base_url=stub.url, openai_api_key=KEY)


@pytest.fixture(params=[BlockingModels, CoroutineModels])
def make_models(request: pytest.FixtureRequest) -> MakeModels:
    """Make the models through langchain-openai, then those of coroutines."""
    made: MakeModels = request.param
    return made


@pytest.fixture
def models(make_models: MakeModels, online: Settings) -> Models:
    """The models of the stub, both ways."""
    return make_models(online)
