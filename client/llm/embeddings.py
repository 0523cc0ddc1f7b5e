"""The embedding model that indexes: the provider's, through langchain-openai, or one in this process.

Questions are embedded by `client.llm.query_embeddings`. Importing langchain-openai takes 0.7 s of CPU and 64 MB, so it
is imported with the first call.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from client.llm.failures import provider_errors
from client.llm.provider import (
    CONNECT_TIMEOUT_SECONDS,
    EMBEDDING_TIMEOUT_SECONDS,
    MAX_EMBEDDED_CHARS,
    provider_key,
    provider_url,
)
from client.llm.retries import ProviderCalls
from errors import ProviderError
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
            vectors = self._calls.call_sync(lambda: self._embed(bounded), seconds=EMBEDDING_TIMEOUT_SECONDS)
        if len(vectors) != len(texts):
            raise ProviderError(f"the embedding model gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        return self.embed_documents([text])[0]

    def _embed(self, texts: list[str]) -> list[list[float]]:
        from client.llm.sync_http import sdk_failures

        with sdk_failures():
            return self._model.embed_documents(texts)

    @cached_property
    def _model(self) -> OpenAIEmbeddings:
        from httpx2 import Timeout
        from langchain_openai import OpenAIEmbeddings

        from client.llm.sync_http import MAX_RETRIES, http_client

        return OpenAIEmbeddings(
            model=self._name,
            openai_api_key=provider_key(self._settings),
            openai_api_base=provider_url(self._settings),
            request_timeout=Timeout(EMBEDDING_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            max_retries=MAX_RETRIES,
            http_client=http_client(),
            check_embedding_ctx_length=False,  # otherwise the first call fetches a tokenizer from the web
        )


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
