"""The embedding model that indexes: the provider's, through langchain-openai, or one in this process.

Questions are embedded by `client.llm.query_embeddings`. Importing langchain-openai takes 0.7 s of CPU and 64 MB, so it
is imported with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from client.llm.dialect import Dialect, ask_in_form_sync
from client.llm.failures import provider_errors
from client.llm.measuring import count_usage, describe_call
from client.llm.provider import (
    CONNECT_TIMEOUT_SECONDS,
    EMBEDDING_TIMEOUT_SECONDS,
    MAX_EMBEDDED_CHARS,
    provider_key,
    provider_url,
)
from client.llm.replies import read_usage
from client.llm.retries import ProviderCalls
from client.llm.vectors import embed_in_batches, read_vectors
from settings import LOCAL_MODEL

if TYPE_CHECKING:
    from langchain_openai import OpenAIEmbeddings

    from client.llm.local_embeddings import LocalEmbedder
    from settings import Settings


class Embedder:
    """An embedding model of the provider, in LangChain's Embeddings interface. Safe for threads."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._settings = settings
        self._name = model
        self._calls = ProviderCalls(settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text. Raises ProviderError."""
        bounded = [text[:MAX_EMBEDDED_CHARS] for text in texts]
        with provider_errors():
            dialect = self._calls.dialect_sync(provider_url(self._settings), self._name)
            return embed_in_batches(bounded, dialect, lambda batch: self._embed(batch, dialect))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        return self.embed_documents([text])[0]

    def _embed(self, texts: list[str], dialect: Dialect) -> list[list[float]]:
        """Embed the texts of one request, retried as any call is."""
        return self._calls.call_sync(
            "embeddings",
            lambda: ask_in_form_sync(dialect, lambda fit: self._ask(texts, fit)),
            seconds=EMBEDDING_TIMEOUT_SECONDS,
        )

    def _ask(self, texts: list[str], fit: Callable[[dict[str, Any]], dict[str, Any]]) -> list[list[float]]:
        from client.llm.sync_http import sdk_failures

        encoding = fit({"encoding_format": "base64"})
        with sdk_failures():
            return self._model.embed_documents(texts, chunk_size=len(texts), **encoding)

    @cached_property
    def _model(self) -> OpenAIEmbeddings:
        from httpx2 import Timeout
        from langchain_openai import OpenAIEmbeddings

        from client.llm.sync_http import MAX_RETRIES, http_client

        model = OpenAIEmbeddings(
            model=self._name,
            openai_api_key=provider_key(self._settings),
            openai_api_base=provider_url(self._settings),
            request_timeout=Timeout(EMBEDDING_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            max_retries=MAX_RETRIES,
            http_client=http_client(),
            check_embedding_ctx_length=False,  # otherwise the first call fetches a tokenizer from the web
        )
        model.client = _OrderedVectors(model.client, self._name)
        return model


class _OrderedVectors:
    """The SDK's client as langchain-openai uses it, whose replies are read by our rules."""

    def __init__(self, client: Any, model: str) -> None:
        self._client = client
        self._model = model

    def create(self, **request: Any) -> dict[str, Any]:
        """Return the reply to a request, with its vectors checked and in the order of the texts."""
        describe_call("embeddings", self._model)
        reply = self._client.create(**request)
        fields = reply.model_dump(warnings=False) if hasattr(reply, "model_dump") else reply
        vectors = read_vectors(fields, len(request["input"]))
        usage = read_usage(fields.get("usage"))
        describe_call("embeddings", self._model, usage)
        count_usage(self._model, usage)
        return {"data": [{"embedding": vector} for vector in vectors]}


def make_embedder(settings: Settings) -> Embedder | LocalEmbedder | None:
    """Make the embedding model, or return None when search is lexical only.

    Raises SettingsError when a package of the local model is missing.
    """
    if settings.dense_model is None:
        return None
    if settings.dense_model == LOCAL_MODEL:
        from client.llm.local_embeddings import local_embedder

        return local_embedder(settings.models_dir)
    return Embedder(settings, settings.dense_model)
