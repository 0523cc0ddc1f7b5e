"""The chat and embedding models of the provider, called from threads or from coroutines, as tests ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from client.llm.chat import Chat
from client.llm.completions import ChatCompletions
from client.llm.embeddings import Embedder, make_embedder
from client.llm.http import close_session
from client.llm.query_embeddings import make_query_embedder
from schemas import Completion
from settings import Settings

T = TypeVar("T")


class Models(Protocol):
    """A chat model and an embedding model."""

    def complete(self, system: str, user: str, **options: Any) -> Completion: ...
    def embed_query(self, text: str) -> list[float]: ...


class BlockingModels:
    """The models through langchain-openai."""

    def __init__(self, settings: Settings) -> None:
        chat, embedder = Chat(settings), make_embedder(settings)
        assert isinstance(embedder, Embedder)
        assert chat._model  # imports langchain-openai now, and not in the time of a call
        self.complete = chat.complete
        self.embed_query = embedder.embed_query


class CoroutineModels:
    """The models from coroutines, each call in an event loop of its own, as a stock worker calls them."""

    def __init__(self, settings: Settings) -> None:
        self._chat = ChatCompletions(settings)
        self._embedder = make_query_embedder(settings)

    def complete(self, system: str, user: str, **options: Any) -> Completion:
        return run(self._chat.complete(system, user, **options))

    def embed_query(self, text: str) -> list[float]:
        assert self._embedder is not None
        return run(self._embedder.embed_query(text))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop, and close its connections."""

    async def run_and_close() -> T:
        try:
            return await coroutine
        finally:
            await close_session()

    return asyncio.run(run_and_close())
