"""The jobs of the queue's benchmark, as RQ workers run them."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import Any

from bench.peers import work

SEARCH_SECONDS = 0.005


def job() -> None:
    work.job()


def question(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a question in full, except that the search only waits."""
    from rag.answer.pipeline import answer_query
    from schemas import Answer, Query

    retriever, chat = parts()
    work._begin()  # noqa: SLF001  one clock for all
    answer: Answer = asyncio.run(
        answer_query(Query.model_validate(payload), retriever=retriever, chat=chat, report=lambda _progress: None)
    )
    work._end()  # noqa: SLF001
    return answer.model_dump(mode="json")


@cache
def parts() -> tuple[Any, Any]:
    """Make the clients once in a process."""
    from client.llm.chat import make_chat
    from client.llm.embeddings import make_embedder
    from client.qdrant.bm25 import Bm25Encoder
    from rag.search.retriever import Retriever
    from settings import get_settings

    settings = get_settings()
    return Retriever(_Store(make_embedder(settings)), Bm25Encoder().terms), make_chat(settings)


class _Store:
    """Embeds the question, waits as long as a search takes, and finds one passage."""

    def __init__(self, dense: Any) -> None:
        self._dense = dense

    def embed(self, question: str) -> list[float]:
        return list(self._dense.embed_query(question))

    def neighbours(self, _chunks: list[Any]) -> list[Any]:
        return []

    def search(self, _question: str, _vector: object, _chosen: object, _limit: int) -> Any:
        from rag.search.fusion import SearchResults
        from schemas import Chunk, Passage

        time.sleep(SEARCH_SECONDS)
        text = "The lighthouse of Brindle Point was built in 1887 by the engineer Tamsin Vale."
        chunk = Chunk(
            id="1",
            upload_id="u",
            user_id="local",
            name="lighthouse.pdf",
            index=0,
            page=1,
            page_label="1",
            start=0,
            end=len(text),
            text=text,
        )
        return SearchResults(sparse=[Passage(chunk=chunk, score=1.0)], dense=[Passage(chunk=chunk, score=1.0)])
