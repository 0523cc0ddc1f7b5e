"""The chat model of the provider, through langchain-openai, for calls that block a thread.

Questions are answered by `client.llm.completions`. Importing langchain-openai takes 0.7 s of CPU and 64 MB, so it is
imported with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from client.llm.failures import provider_errors
from client.llm.provider import CHAT_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS, provider_key, provider_url
from client.llm.retries import ProviderCalls
from errors import ProviderError
from schemas import Completion, Usage

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk
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
        on_text: Callable[[str], None] | None = None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> Completion:
        """Return the answer of `model`, or of the configured model. Raises ProviderError.

        `on_text` receives each part of the answer as it comes. When the provider breaks off after the first part and
        is asked again, `on_restart` is called, the parts so far no longer count, and `on_text` receives the whole of
        the new answer.
        """
        options = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        options = {name: value for name, value in options.items() if value is not None}
        messages = [("system", system), ("user", user)]
        listener = None if on_text is None else StreamListener(on_text, on_restart)
        with provider_errors():
            message = self._calls.call_sync(
                lambda: self._ask(messages, listener, options), seconds=CHAT_TIMEOUT_SECONDS
            )
        return Completion(text=_text(message), model=model or self._settings.chat_model, usage=_usage(message))

    def _ask(
        self, messages: list[tuple[str, str]], listener: StreamListener | None, options: dict[str, Any]
    ) -> AIMessage:
        """Ask once. Streams the answer when there is a listener."""
        from client.llm.sync_http import sdk_failures

        with sdk_failures():
            if listener is None:
                return self._model.invoke(messages, **options)
            listener.begin()
            answer: AIMessageChunk | None = None
            for part in self._model.stream(messages, stream_usage=True, **options):
                answer = part if answer is None else answer + part
                listener.receive(str(part.text))
        if answer is None:
            raise ProviderError("the model provider ended its answer before it began")
        return answer

    @cached_property
    def _model(self) -> ChatOpenAI:
        from httpx2 import Timeout
        from langchain_openai import ChatOpenAI

        from client.llm.sync_http import MAX_RETRIES, http_client

        return ChatOpenAI(
            model=self._settings.chat_model,
            api_key=provider_key(self._settings),
            base_url=provider_url(self._settings),
            timeout=Timeout(CHAT_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            max_retries=MAX_RETRIES,
            http_client=http_client(),
        )


class StreamListener:
    """Passes the parts of an answer on, and reports the restart of an answer that had already begun."""

    def __init__(self, on_text: Callable[[str], None], on_restart: Callable[[], None]) -> None:
        self._on_text = on_text
        self._on_restart = on_restart
        self._begun = False

    def begin(self) -> None:
        """Start an answer. The parts of an earlier answer no longer count."""
        if self._begun:
            self._on_restart()
        self._begun = False

    def receive(self, text: str) -> None:
        if text:
            self._begun = True
            self._on_text(text)


def make_chat(settings: Settings) -> Chat | None:
    """Make the chat model, or return None when no provider is configured."""
    return None if settings.offline else Chat(settings)


def _text(message: AIMessage) -> str:
    """Return the text of an answer; empty when the model called a tool, though no tool was offered."""
    called_tool = message.tool_calls or message.invalid_tool_calls or message.additional_kwargs.get("function_call")
    return "" if called_tool else str(message.text)


def _usage(message: AIMessage) -> Usage | None:
    usage = message.usage_metadata
    if not usage:
        return None
    return Usage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        total_tokens=usage["total_tokens"],
    )
