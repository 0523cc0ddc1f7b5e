"""The embedding of a question, from coroutines: by the provider's model, or by the model in this process."""

from __future__ import annotations

import asyncio
import base64
import sys
from array import array
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from client.llm.failures import provider_errors
from client.llm.http import Endpoint
from client.llm.provider import EMBEDDING_TIMEOUT_SECONDS, MAX_EMBEDDED_CHARS, provider_key, provider_url
from client.llm.retries import ProviderCalls
from errors import ProviderError
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
        self._endpoint = Endpoint(
            f"{provider_url(settings).rstrip('/')}/embeddings", provider_key(settings).get_secret_value()
        )
        self._calls = calls or ProviderCalls(settings)

    async def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        body = {"input": [text[:MAX_EMBEDDED_CHARS]], "model": self._model, "encoding_format": "base64"}
        with provider_errors():
            vectors = await self._calls.call(lambda: self._ask(body), seconds=EMBEDDING_TIMEOUT_SECONDS)
        if len(vectors) != 1:
            raise ProviderError(f"the embedding model gave {len(vectors)} vectors for 1 text")
        return vectors[0]

    async def _ask(self, body: dict[str, Any]) -> list[list[float]]:
        reply = await self._endpoint.post(body)
        try:
            return [_numbers(item["embedding"]) for item in orjson.loads(reply)["data"]]
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{error} in {reply[:200]!r}") from None


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


def _numbers(embedding: str | list[float]) -> list[float]:
    """Return a vector that is sent as numbers, or as base64 of little-endian 32-bit floats."""
    if not isinstance(embedding, str):
        return list(embedding)
    numbers = array("f", base64.b64decode(embedding))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
