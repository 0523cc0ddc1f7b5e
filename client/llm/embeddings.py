"""The embedding model: the provider's, through langchain-openai, or one in this process.

Importing langchain-openai takes 0.9 s, so it is imported with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.llm.provider import CONNECT_TIMEOUT_SECONDS, MAX_RETRIES, provider_errors, provider_key, provider_url
from client.llm.retries import ProviderCalls
from errors import ProviderError
from settings import LOCAL_MODEL

if TYPE_CHECKING:
    from langchain_openai import OpenAIEmbeddings

    from client.llm.local_embeddings import LocalEmbedder
    from settings import Settings

# LangChain sets no time-out by default.
EMBEDDING_TIMEOUT_SECONDS = 30.0
# The longest text to embed, in characters. Chunks are far shorter; a question may have 4,000.
MAX_EMBEDDED_CHARS = 8_000


class Embedder:
    """An embedding model of the provider, in LangChain's Embeddings interface. Safe for threads."""

    def __init__(self, model: OpenAIEmbeddings, calls: ProviderCalls) -> None:
        self._model = model
        self._calls = calls

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text. Raises ProviderError."""
        bounded = [text[:MAX_EMBEDDED_CHARS] for text in texts]
        with provider_errors():
            vectors = self._calls.call(lambda: self._model.embed_documents(bounded), seconds=EMBEDDING_TIMEOUT_SECONDS)
        if len(vectors) != len(texts):
            raise ProviderError(f"the embedding model gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question. Raises ProviderError."""
        return self.embed_documents([text])[0]


def make_embedder(settings: Settings) -> Embedder | LocalEmbedder | None:
    """Make the embedding model, or return None when search is lexical only.

    Raises SettingsError when a package of the local model is missing.
    """
    if settings.dense_model is None:
        return None
    if settings.dense_model == LOCAL_MODEL:
        from client.llm.local_embeddings import LocalEmbedder, check_installed

        check_installed()
        return LocalEmbedder(settings.models_dir)
    from httpx2 import Timeout
    from langchain_openai import OpenAIEmbeddings

    from client.llm.http import http_client

    model = OpenAIEmbeddings(
        model=settings.dense_model,
        openai_api_key=provider_key(settings),
        openai_api_base=provider_url(settings),
        request_timeout=Timeout(EMBEDDING_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        max_retries=MAX_RETRIES,
        http_client=http_client(),
        check_embedding_ctx_length=False,  # otherwise the first call fetches a tokenizer from the web
    )
    return Embedder(model, ProviderCalls(settings))
