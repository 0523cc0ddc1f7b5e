"""The chat model of the provider, through langchain-openai, for calls that block a thread.

Questions are answered by `client.llm.completions`. Importing langchain-openai takes 0.7 s of CPU and 64 MB, so it is
imported with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from client.llm.dialect import Dialect, ask_in_form_sync
from client.llm.failures import provider_errors
from client.llm.measuring import count_usage, describe_call
from client.llm.provider import CONNECT_TIMEOUT_SECONDS, provider_key, provider_url
from client.llm.retries import ProviderCalls
from observability.metrics import OTHER
from schemas import Completion

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

    from settings import Settings


class Chat:
    """A chat model. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls = ProviderCalls(settings)

    def complete(
        self,
        system: str,
        user: str,
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Completion:
        """Return the answer of `model`, or of the configured model. Raises ProviderError."""
        options = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        options = {name: value for name, value in options.items() if value is not None}
        name = model or self._settings.chat_model
        with provider_errors():
            dialect = self._calls.dialect_sync(provider_url(self._settings), name)
            completion = self._calls.call_sync(
                "chat",
                lambda: self._ask(system, user, options, dialect),
                seconds=self._settings.first_token_timeout_seconds,
            )
        count_usage(name if name in self._settings.allowed_models else OTHER, completion.usage)
        return completion.model_copy(update={"model": name})

    def _ask(self, system: str, user: str, options: dict[str, Any], dialect: Dialect) -> Completion:
        """Ask, again in another form for as long as the provider refuses the form."""
        from client.llm.sync_http import sdk_failures

        def send(fit: Callable[[dict[str, Any]], dict[str, Any]]) -> Completion:
            with sdk_failures():
                message = self._model.invoke([("system", system), ("user", user)], **options, fit=fit)
            completion: Completion = message.response_metadata["completion"]
            describe_call("chat", options.get("model", self._settings.chat_model), completion.usage)
            return completion

        return ask_in_form_sync(dialect, send)

    @cached_property
    def _model(self) -> ChatOpenAI:
        from httpx2 import Timeout

        from client.llm.langchain_chat import ProviderChat
        from client.llm.sync_http import MAX_RETRIES, http_client

        return ProviderChat(
            model=self._settings.chat_model,
            api_key=provider_key(self._settings),
            base_url=provider_url(self._settings),
            timeout=Timeout(self._settings.first_token_timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            max_retries=MAX_RETRIES,
            http_client=http_client(),
            use_responses_api=False,  # otherwise the name of the model decides, such as gpt-5-pro
        )


def make_chat(settings: Settings) -> Chat | None:
    """Make the chat model, or return None when no provider is configured."""
    return None if settings.offline else Chat(settings)
