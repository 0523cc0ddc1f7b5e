"""The embedding of a question, from coroutines: by the provider's model, or by the model in this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from client.llm.dialect import Dialect, ask_in_form
from client.llm.failures import EmbeddingTimeout, StatusFailure, provider_errors
from client.llm.http import Endpoint
from client.llm.measuring import count_usage, describe_call
from client.llm.provider import EMBEDDING_TIMEOUT_SECONDS, MAX_EMBEDDED_CHARS, provider_key, provider_url
from client.llm.replies import json_fields, read_usage
from client.llm.retries import ProviderCalls
from client.llm.vectors import fit_lengths, read_vectors, shorten
from settings import LOCAL_MODEL

if TYPE_CHECKING:
    from client.llm.local_embeddings import LocalEmbedder
    from settings import Settings


class QueryEmbedder(Protocol):
    """Embeds questions with the model that embedded the documents."""

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        ...


class ProviderQueryEmbedder:
    """An embedding model behind /embeddings. Safe for threads, loops and forks.

    Asks for base64, as langchain-openai does: 1,536 numbers take 8 kB instead of 30. A provider that ignores this sends
    a list of numbers.
    """

    def __init__(self, settings: Settings, model: str, calls: ProviderCalls | None = None) -> None:
        self._model = model
        self._url = provider_url(settings)
        self._endpoint = Endpoint(f"{self._url.rstrip('/')}/embeddings", provider_key(settings).get_secret_value())
        self._calls = calls or ProviderCalls(settings)

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        with provider_errors():
            dialect = await self._calls.dialect(self._url, self._model)
            return await self._calls.call(
                "embeddings", lambda: self._ask_in_time(text[:MAX_EMBEDDED_CHARS], dialect), seconds=None
            )

    async def _ask_in_time(self, text: str, dialect: Dialect) -> list[float]:
        """Ask within the time limit. A model that was too slow is not asked again: it would read from the start."""
        try:
            async with asyncio.timeout(EMBEDDING_TIMEOUT_SECONDS):
                return await self._ask(text, dialect)
        except TimeoutError:
            raise EmbeddingTimeout(f"{EMBEDDING_TIMEOUT_SECONDS:.0f} s") from None

    async def _ask(self, text: str, dialect: Dialect) -> list[float]:
        """Ask, with less of the text for as long as the provider refuses its length."""
        while True:
            texts = fit_lengths([text], dialect)
            body = {"input": texts, "model": self._model, "encoding_format": "base64"}
            try:
                return await ask_in_form(dialect, body, self._send)
            except StatusFailure as failure:
                if not shorten(failure, texts, dialect):
                    raise

    async def _send(self, body: dict[str, Any]) -> list[float]:
        fields = json_fields(await self._endpoint.post(body))
        vector = read_vectors(fields, 1)[0]
        usage = read_usage(fields.get("usage"))
        describe_call("embeddings", self._model, usage)
        count_usage(self._model, usage)
        return vector


class LocalQueryEmbedder:
    """The model in this process, run in a thread."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return await asyncio.to_thread(self._embedder.embed_query, text)


def make_query_embedder(settings: Settings, calls: ProviderCalls | None = None) -> QueryEmbedder | None:
    """Make the embedder of questions, or return None when search is lexical only. `calls`: see make_completions.

    Raises SettingsError when a package of the local model is missing.
    """
    if settings.dense_model is None:
        return None
    if settings.dense_model == LOCAL_MODEL:
        from client.llm.local_embeddings import local_embedder

        return LocalQueryEmbedder(local_embedder(settings.models_dir))
    return ProviderQueryEmbedder(settings, settings.dense_model, calls)
