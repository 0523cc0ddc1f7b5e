"""The chat model of the provider, from coroutines: the way of a question.

Sends the requests that langchain-openai sends, without its layers: a streamed token costs 0.3 ms of CPU there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from client.llm.chat import StreamListener
from client.llm.failures import CallFailure, provider_errors
from client.llm.http import Endpoint
from client.llm.provider import CHAT_TIMEOUT_SECONDS, provider_key, provider_url
from client.llm.retries import ProviderCalls
from client.llm.sse import EventSplitter
from errors import ProviderError
from schemas import Completion, Usage

if TYPE_CHECKING:
    from settings import Settings

# OpenAI's reasoning models, which call the role of the system message "developer".
_REASONING_MODEL = re.compile(r"o\d")


class ChatCompletions:
    """A chat model behind /chat/completions. Safe for threads, loops and forks."""

    def __init__(self, settings: Settings, calls: ProviderCalls | None = None) -> None:
        self._model = settings.chat_model
        self._endpoint = Endpoint(
            f"{provider_url(settings).rstrip('/')}/chat/completions", provider_key(settings).get_secret_value()
        )
        self._calls = calls or ProviderCalls(settings)

    async def complete(
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

        `on_text` receives the answer in parts as they come. When the provider breaks off after the first part and is
        asked again, `on_restart` is called, the parts so far no longer count, and `on_text` receives the whole of the
        new answer.
        """
        body = _request(model or self._model, system, user, temperature=temperature, max_tokens=max_tokens)
        listener = None if on_text is None else StreamListener(on_text, on_restart)
        with provider_errors():
            answer = await self._calls.call(lambda: self._ask(body, listener), seconds=CHAT_TIMEOUT_SECONDS)
        return Completion(text=answer.text, model=model or self._model, usage=answer.usage)

    async def _ask(self, body: dict[str, Any], listener: StreamListener | None) -> _Answer:
        """Ask once. Streams the answer when there is a listener."""
        answer = _Answer()
        if listener is None:
            reply = await self._endpoint.post(body | {"stream": False})
            answer.add(reply, "message")
            if not answer.begun:
                raise ValueError(f"no choice in {reply[:200]!r}")
            return answer
        listener.begin()
        events = EventSplitter()

        def feed(received: bytes) -> bool:
            text, ended = answer.add_events(events.feed(received))
            listener.receive(text)
            return ended

        await self._endpoint.stream(body | {"stream": True, "stream_options": {"include_usage": True}}, feed)
        if not answer.begun:
            raise ProviderError("the model provider ended its answer before it began")
        return answer


class _Answer:
    """What a model has said so far."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.begun = False
        self._parts: list[str] = []
        self._called_tool = False

    @property
    def text(self) -> str:
        """The text; empty when the model called a tool, though no tool was offered."""
        return "" if self._called_tool else "".join(self._parts)

    def add_events(self, events: list[bytes]) -> tuple[str, bool]:
        """Add events of a stream. Returns their text, and True after the last event."""
        before = len(self._parts)
        for event in events:
            if event.startswith(b"[DONE]"):
                return "".join(self._parts[before:]), True
            if event:
                self.add(event, "delta")
        return "".join(self._parts[before:]), False

    def add(self, chunk: bytes, field: str) -> None:
        """Add the first choice of a chunk, whose text is under `field`. Raises ValueError if the chunk makes no sense.

        An object "error" in the chunk raises CallFailure.
        """
        try:
            fields = orjson.loads(chunk)
            if fields.get("error"):
                raise CallFailure("APIError")
            if fields.get("usage"):
                self.usage = _usage(fields["usage"])
            if not fields.get("choices"):
                return
            self.begun = True
            said = fields["choices"][0].get(field) or {}
            if content := said.get("content"):
                self._parts.append(content if isinstance(content, str) else _text_of_blocks(content))
            if said.get("tool_calls") or said.get("function_call"):
                self._called_tool = True
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{error} in {chunk[:200]!r}") from None


def make_completions(settings: Settings, calls: ProviderCalls | None = None) -> ChatCompletions | None:
    """Make the chat model, or return None when no provider is configured.

    With `calls` the model shares breaker and rate limiter, and what is known of them, with the process's other models.
    """
    return None if settings.offline else ChatCompletions(settings, calls)


def _request(
    model: str, system: str, user: str, *, temperature: float | None, max_tokens: int | None
) -> dict[str, Any]:
    """Return the body of a request."""
    role = "developer" if _REASONING_MODEL.match(model) else "system"
    body: dict[str, Any] = {
        "messages": [{"content": system, "role": role}, {"content": user, "role": "user"}],
        "model": model,
    }
    if temperature is not None or model.startswith("o1"):
        body["temperature"] = 1 if temperature is None else temperature
    if max_tokens is not None:
        body["max_completion_tokens"] = max_tokens
    return body


def _text_of_blocks(blocks: list[Any]) -> str:
    """Return the text of a content that is a list of blocks."""
    return "".join(
        block if isinstance(block, str) else block["text"]
        for block in blocks
        if isinstance(block, str) or block.get("type") == "text"
    )


def _usage(usage: dict[str, Any]) -> Usage:
    """Return the number of tokens. Some providers report it with each chunk; then the last report counts."""
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=usage.get("total_tokens") or prompt + completion,
    )
