"""The chat model of the provider, from coroutines: the way of a question.

Sends the requests that langchain-openai sends, without its layers: a streamed token costs 0.3 ms of CPU there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from client.llm.dialect import ENDS_UNOPENED, Dialect, ask_in_form
from client.llm.failures import AnswerTimeout, StatusFailure, provider_errors
from client.llm.http import Endpoint
from client.llm.measuring import count_usage, describe_call
from client.llm.provider import provider_key, provider_url
from client.llm.replies import Reply
from client.llm.retries import ProviderCalls
from client.llm.sse import EventSplitter
from client.llm.window import Fit, known_window, learn_window
from observability.metrics import OTHER
from schemas import Completion

if TYPE_CHECKING:
    from settings import Settings

# How often a user is told that the model still reads.
WAIT_TOLD_SECONDS = 10.0
# The limit on a pause is moved on when this share of it has passed, so a pause may be longer by as much.
MOVE_EARLY = 0.1
# OpenAI's reasoning models, which call the role of the system message "developer".
_REASONING_MODEL = re.compile(r"o\d")


class ChatCompletions:
    """A chat model behind /chat/completions. Safe for threads, loops and forks."""

    def __init__(self, settings: Settings, calls: ProviderCalls | None = None) -> None:
        self._model = settings.chat_model
        self._url = provider_url(settings)
        self._key = provider_key(settings).get_secret_value()
        self._endpoint = Endpoint(f"{self._url.rstrip('/')}/chat/completions", self._key)
        self._known_models = {*settings.allowed_models, settings.verify_model or ""}
        self._first_seconds = settings.first_token_timeout_seconds
        self._next_seconds = settings.next_token_timeout_seconds
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
        on_stage: Callable[[str], None] = lambda _stage: None,
        fit: Fit | None = None,
    ) -> Completion:
        """Return the answer of `model`, or of the configured model. Raises ProviderError.

        `fit` makes `user` shorter for the window of the model, if the provider tells the window or refuses the prompt.

        `on_text` receives the answer in parts as they come. `on_stage` receives "the model reads (10 s)" while nothing
        comes, "thinking" when the model reasons, and "answering" when the next part comes. When the provider breaks off
        after the first part and is asked again, or when the parts turn out to be reasoning, `on_restart` is called, the
        parts so far no longer count, and `on_text` receives the whole of the new answer.
        """
        body = _request(model or self._model, system, user, temperature=temperature, max_tokens=max_tokens)
        listener = None if on_text is None else StreamListener(on_text, on_restart, on_stage)
        body |= {"stream": False} if listener is None else {"stream": True, "stream_options": {"include_usage": True}}
        with provider_errors():
            dialect = await self._calls.dialect(self._url, body["model"])
            if fit is not None:
                window = await known_window(dialect, self._url, self._key, body["model"])
                _replace_prompt(body, None if window is None else fit(window))
            reply = await self._calls.call(
                "chat", lambda: self._ask_fitting(body, fit, listener, dialect), seconds=None
            )
        completion = reply.completion(body["model"])
        count_usage(completion.model if completion.model in self._known_models else OTHER, completion.usage)
        return completion

    async def _ask_fitting(
        self, body: dict[str, Any], fit: Fit | None, listener: StreamListener | None, dialect: Dialect
    ) -> Reply:
        """Ask, with a shorter prompt for as long as the provider refuses its length."""
        while True:
            try:
                return await ask_in_form(dialect, body, lambda form: self._ask(form, listener, dialect))
            except StatusFailure as failure:
                if fit is None or not failure.is_too_long:
                    raise
                window = learn_window(dialect, failure, "".join(message["content"] for message in body["messages"]))
                changed = window is not None and _replace_prompt(body, fit(window))
                if not (changed or _replace_prompt(body, fit(None))):
                    raise

    async def _ask(self, body: dict[str, Any], listener: StreamListener | None, dialect: Dialect) -> Reply:
        """Ask once. With a listener the answer is streamed, or passed on whole by a provider that does not stream."""
        describe_call("chat", body["model"])
        reply = Reply(listener.begin if listener else None, begins_with_reasoning=ENDS_UNOPENED in dialect.known)
        try:
            async with asyncio.timeout(self._first_seconds) as limit:
                if listener is None:
                    reply.read(await self._endpoint.post(body))
                else:
                    await self._stream(body, reply, listener, limit)
        except TimeoutError:
            raise AnswerTimeout(
                f"paused for {self._next_seconds} s (NEXT_TOKEN_TIMEOUT_SECONDS)"
                if reply.begun
                else f"did not begin to answer within {self._first_seconds} s (FIRST_TOKEN_TIMEOUT_SECONDS)"
            ) from None
        describe_call("chat", body["model"], reply.usage)
        if reply.ended_unopened:
            dialect.learn(frozenset({ENDS_UNOPENED}))
        return reply

    async def _stream(
        self, body: dict[str, Any], reply: Reply, listener: StreamListener, limit: asyncio.Timeout
    ) -> None:
        """Ask for a stream. Its parts move the limit on, and until the first the listener is told to wait."""
        clock = asyncio.get_running_loop().time
        listener.begin()
        stream, waiting = _Stream(reply, listener), _Waiting(listener)
        move_at = 0.0

        def feed(received: bytes) -> bool:
            nonlocal move_at
            ended = stream.feed(received)
            if reply.begun and clock() >= move_at:  # seldom: to move the limit costs more than to read a token
                waiting.end()
                move_at = clock() + MOVE_EARLY * self._next_seconds
                limit.reschedule(move_at + self._next_seconds)
            return ended

        try:
            await self._endpoint.stream(body, feed)
        finally:
            waiting.end()
        stream.end()


class StreamListener:
    """Passes the parts of an answer on, and reports the restart of an answer that had already begun."""

    def __init__(
        self, on_text: Callable[[str], None], on_restart: Callable[[], None], on_stage: Callable[[str], None]
    ) -> None:
        self._on_text = on_text
        self._on_restart = on_restart
        self._on_stage = on_stage
        self._begun = False
        self._thinking = False
        self._waiting = False

    def begin(self) -> None:
        """Start an answer. The parts of an earlier answer no longer count."""
        if self._begun:
            self._on_restart()
        self._begun = self._thinking = False

    def wait(self, seconds: float) -> None:
        """Tell that the model has read for this time and said nothing yet."""
        self._waiting = True
        self._on_stage(f"the model reads ({seconds:.0f} s)")

    def receive(self, text: str, *, thinking: bool) -> None:
        """Pass on the next part, which may be empty. `thinking`: the model reasons after this part."""
        if text:
            if self._thinking or self._waiting:
                self._on_stage("answering")
            self._begun, self._thinking, self._waiting = True, False, False
            self._on_text(text)
        if thinking and not self._thinking:
            self._thinking = True
            self._on_stage("thinking")


class _Waiting:
    """Tells a listener every WAIT_TOLD_SECONDS how long the model has read."""

    def __init__(self, listener: StreamListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer = self._loop.call_later(WAIT_TOLD_SECONDS, self._tell)

    def end(self) -> None:
        self._timer.cancel()

    def _tell(self) -> None:
        self._listener.wait(self._loop.time() - self._started)
        self._timer = self._loop.call_later(WAIT_TOLD_SECONDS, self._tell)


class _Stream:
    """The answer to one request for a stream: its events or, from a provider that does not stream, a whole reply."""

    def __init__(self, reply: Reply, listener: StreamListener) -> None:
        self._listener = listener
        self._reply = reply
        self._events = EventSplitter()
        self._announced = False
        self._beginning = b""
        self._whole: list[bytes] | None = None

    def feed(self, received: bytes) -> bool:
        """Take bytes of the response. Returns True after the last event."""
        if self._whole is not None:
            self._whole.append(received)
            return False
        if not self._beginning:
            self._beginning = received.lstrip()[:1]
            if self._beginning in {b"{", b"[", b"<"}:  # no event begins like this
                self._whole = [received]
                return False
        said = []
        for event in self._events.feed(received):
            if event.startswith(b"[DONE]"):
                self._announced = True
                break
            if event:
                said.append(self._reply.add(orjson.loads(event)))
        text = self._reply.divide("".join(said))
        self._listener.receive(text, thinking=self._reply.thinking)
        return self._announced

    def end(self) -> None:
        """Pass on the last part of the reply. Raises CallFailure, ValueError."""
        if self._whole is None:
            self._listener.receive(self._reply.end(announced=self._announced), thinking=False)
            return
        self._reply.read(b"".join(self._whole))
        self._listener.receive(self._reply.text, thinking=False)


def _replace_prompt(body: dict[str, Any], user: str | None) -> bool:
    """Put another text of the user into a request. Returns True if the text differs."""
    *rules, last = body["messages"]
    if user is None or user == last["content"]:
        return False
    body["messages"] = [*rules, last | {"content": user}]
    return True


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
