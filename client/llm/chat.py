"""The model provider: any OpenAI-compatible server, through langchain-openai.

Importing langchain-openai takes 0.9 s, so that is left to the first use.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from client.llm.retries import Provider
from errors import (
    ModelNotFound,
    ProviderError,
    ProviderKeyRejected,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from observability import logs
from schemas import Completion, Usage
from settings import LOCAL_MODEL

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    from client.llm.local_embeddings import LocalEmbedder
    from settings import Settings

OPENAI_URL = "https://api.openai.com/v1"
# The SDK's own defaults are no time-out at all in LangChain.
CHAT_TIMEOUT_SECONDS = 60.0
EMBEDDING_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5.0
# The SDK does not retry: `client.llm.retries` does. A job as a whole is not run again.
MAX_RETRIES = 0
# Longest text sent to be embedded, in characters. Chunks are far shorter; a question may be 4,000.
MAX_EMBEDDED_CHARS = 8_000
log = logging.getLogger(__name__)

_CODE = re.compile(r"[a-z][a-z0-9_]{0,59}")


class Chat:
    """A chat model. Safe for threads."""

    def __init__(self, model: ChatOpenAI, *, key: str, provider: Provider) -> None:
        self._model = model
        self._key = key
        self._provider = provider

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
        """Return the answer of `model`, or of the configured one. Raises ProviderError.

        `on_text` gets each part of it as it comes. When the provider breaks off and is asked again, its words are
        others: `on_restart` says that those before are void, and then the whole of the new answer comes.
        """
        options: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        given = {name: value for name, value in options.items() if value is not None}
        told = None if on_text is None else _Told(on_text, on_restart)
        with _provider_errors():
            messages = [("system", system), ("user", user)]
            message = self._provider.call(lambda: self._ask(messages, told, given), seconds=CHAT_TIMEOUT_SECONDS)
        usage = message.usage_metadata
        return Completion(
            text=_text(message),
            model=model or self._model.model_name,
            usage=Usage(
                prompt_tokens=usage["input_tokens"],
                completion_tokens=usage["output_tokens"],
                total_tokens=usage["total_tokens"],
            )
            if usage
            else None,
        )

    def _ask(self, messages: list[tuple[str, str]], told: _Told | None, given: dict[str, Any]) -> AIMessage:
        """Ask once, and tell the answer as it comes."""
        if told is None:
            return self._model.invoke(messages, **given)
        told.begin()
        whole: AIMessageChunk | None = None
        for part in self._model.stream(messages, stream_usage=True, **given):
            whole = part if whole is None else whole + part
            told(str(part.text))
        if whole is None:
            raise ProviderError("the model provider ended its answer before it began")
        return whole


def _text(message: AIMessage) -> str:
    """Return what a model said: nothing, when it called a tool. None was offered, and nothing here would run one."""
    called = message.tool_calls or message.invalid_tool_calls or message.additional_kwargs.get("function_call")
    return "" if called else str(message.text)


class _Told:
    """Who is told the answer as it comes, and whether anything was."""

    def __init__(self, on_text: Callable[[str], None], on_restart: Callable[[], None]) -> None:
        self._on_text = on_text
        self._on_restart = on_restart
        self._begun = False

    def begin(self) -> None:
        """Begin with an answer; what was told of one before is void."""
        if self._begun:
            self._on_restart()
        self._begun = False

    def __call__(self, text: str) -> None:
        if text:
            self._begun = True
            self._on_text(text)


class Embedder:
    """An embedding model, in LangChain's Embeddings interface. Safe for threads."""

    def __init__(self, model: OpenAIEmbeddings, *, key: str, provider: Provider) -> None:
        self._model = model
        self._key = key
        self._provider = provider

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text. Raises ProviderError."""
        bounded = [text[:MAX_EMBEDDED_CHARS] for text in texts]
        with _provider_errors():
            vectors = self._provider.call(
                lambda: self._model.embed_documents(bounded), seconds=EMBEDDING_TIMEOUT_SECONDS
            )
        if len(vectors) != len(texts):
            raise ProviderError(f"the embedding model gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        return self.embed_documents([text])[0]


def make_chat(settings: Settings) -> Chat | None:
    """Make the chat model, or None when no provider is configured."""
    if settings.offline:
        return None
    from httpx2 import Timeout
    from langchain_openai import ChatOpenAI

    from client.llm.http import http_client

    key = _key(settings)
    model = ChatOpenAI(
        model=settings.chat_model,
        api_key=SecretStr(key),
        base_url=_base_url(settings),
        timeout=Timeout(CHAT_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        max_retries=MAX_RETRIES,
        http_client=http_client(),
    )
    return Chat(model, key=key, provider=Provider(settings))


def make_embedder(settings: Settings) -> Embedder | LocalEmbedder | None:
    """Make the embedding model, or None when search is lexical only. Raises SettingsError when a part is missing."""
    if settings.dense_model is None:
        return None
    if settings.dense_model == LOCAL_MODEL:
        from client.llm.local_embeddings import LocalEmbedder, check_installed

        check_installed()
        return LocalEmbedder(settings.models_dir)
    from httpx2 import Timeout
    from langchain_openai import OpenAIEmbeddings

    from client.llm.http import http_client

    key = _key(settings)
    model = OpenAIEmbeddings(
        model=settings.dense_model,
        openai_api_key=SecretStr(key),
        openai_api_base=_base_url(settings),
        request_timeout=Timeout(EMBEDDING_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        max_retries=MAX_RETRIES,
        http_client=http_client(),
        check_embedding_ctx_length=False,  # else its first call fetches a tokenizer from the web
    )
    return Embedder(model, key=key, provider=Provider(settings))


def _key(settings: Settings) -> str:
    # Local servers want some key, whichever.
    return settings.openai_api_key.get_secret_value() if settings.openai_api_key else "not-needed"


def _base_url(settings: Settings) -> str:
    # Always given: the SDK would else read OPENAI_BASE_URL from the environment itself.
    return settings.openai_base_url or OPENAI_URL


@contextmanager
def _provider_errors() -> Iterator[None]:
    """Turn the SDK's errors into ours, without its words and its cause: those may hold key and question."""
    import openai

    try:
        yield
    except openai.APITimeoutError:
        raise ProviderTimeout("the model provider did not answer in time; try again or choose a faster model") from None
    except openai.APIConnectionError:
        raise ProviderUnavailable(
            "the model provider cannot be reached: check OPENAI_BASE_URL and the network"
        ) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError):
        raise ProviderKeyRejected("the model provider rejected the key: check OPENAI_API_KEY") from None
    except openai.NotFoundError:
        raise ModelNotFound(
            "the model provider does not know the model or the address: "
            "check CHAT_MODEL, EMBEDDING_MODEL and OPENAI_BASE_URL (it usually ends in /v1)"
        ) from None
    except openai.RateLimitError:
        raise ProviderRateLimited(
            "the model provider limits the rate, or the account is out of credit; try later"
        ) from None
    except openai.APIStatusError as error:
        logs.log_content(log, "the model provider refused", status=error.status_code, said=error.message)
        raise _status_error(error.status_code, getattr(error, "code", None) or getattr(error, "type", None)) from None
    except openai.OpenAIError as error:
        raise ProviderError(f"the model provider failed: {type(error).__name__}") from None
    except ValueError as error:  # LangChain's for an answer without the fields it must have
        logs.log_content(log, "the model provider's answer makes no sense", said=str(error))
        raise ProviderError("the model provider's answer makes no sense (LOG_CONTENT=1 logs why)") from None


def _status_error(status: int, code: object) -> ProviderError:
    """Name the provider's code for what went wrong, never its words: they may repeat the question, or the key."""
    named = f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else ""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProviderUnavailable(f"the model provider failed with {status}{named}; try later")
    said = f"the model provider refused the request with {status}{named}; LOG_CONTENT=1 logs what it says"
    return ProviderError(said)
