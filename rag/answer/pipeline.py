"""From a question to its answer: search, ask the model, check the citations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from rag.answer.fence import Fence
from rag.answer.links import find_links
from rag.answer.prompt import NOT_ANSWERED, parse_refusal, strip_refusal_mark, system_prompt, user_prompt
from rag.answer.quoted_answer import quote_passages
from rag.answer.token_stream import TokenStream
from rag.citations.check import check_citations, strip_citations
from rag.ingest.indexing import ProgressCallback
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult, Retriever, StageTimer
from schemas import Answer, Completion, Passage, Progress, Query, SearchFilter, Used


class ChatModel(Protocol):
    """Writes an answer. None means the configured model and the provider's defaults. Raises ProviderError."""

    async def complete(
        self,
        system: str,
        user: str,
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
        on_restart: Callable[[], None] = ...,
    ) -> Completion: ...


async def answer_query(
    query: Query,
    *,
    retriever: Retriever,
    chat: ChatModel | None,
    report: ProgressCallback,
    search_filter: SearchFilter | None = None,
    follow_up: str | None = None,
    embedding_model: str | None = None,
    on_token: Callable[[str], None] | None = None,
    on_restart: Callable[[], None] = lambda: None,
) -> Answer:
    """Search, let the model answer, and check its citations. Without a model, quote the best passages.

    `search_filter` and `follow_up` go to Retriever.retrieve. `embedding_model` is only named in the answer. `on_token`
    receives the answer in pieces while the model writes, before the citations are checked. `on_restart` is called when
    the model begins again, so that the pieces so far are invalid.

    Search and checks run in threads, beside the event loop, which waits for the models.

    Raises NothingIndexed, ProviderError.
    """
    report(Progress(stage="searching"))
    retrieved = await retriever.retrieve(query, search_filter, follow_up=follow_up)
    timer = StageTimer(dict(retrieved.seconds))
    completion: Completion | None = None
    if chat is not None and retrieved.passages:
        # The model is asked even if no passage seems relevant: the model judges relevance better than a threshold does.
        report(Progress(stage="answering"))
        stream = None if on_token is None else TokenStream(on_token, on_restart=on_restart)
        with timer.stage("model"):
            completion = await _complete(chat, query, retrieved.passages, stream)
    answer = await asyncio.to_thread(_make_answer, query.query, completion, retrieved, retriever.terms)
    return answer.model_copy(
        update={
            "used": _used(query, retrieved, completion, embedding_model),
            "usage": completion.usage if completion else None,
            "times": {stage: round(seconds, 4) for stage, seconds in timer.seconds.items()},
        }
    )


def check_answer(question: str, text: str, passages: list[Passage], terms: TermExtractor) -> Answer:
    """Return the model's text as an answer in which every citation is supported.

    `answered` is True if a source supports at least one claim: not for a refusal, nor for claims of the model alone.
    """
    refusal = parse_refusal(text)
    if refusal is not None:
        return Answer(text=strip_citations(refusal) or NOT_ANSWERED, answered=False)
    checked = check_citations(strip_refusal_mark(text), passages, question, terms)
    return Answer(
        text=checked.text or NOT_ANSWERED,
        sources=checked.sources,
        answered=bool(checked.sources),
        unsupported=checked.unsupported,
    )


def _make_answer(
    question: str, completion: Completion | None, retrieved: RetrievalResult, terms: TermExtractor
) -> Answer:
    """Return the model's answer, checked, or the best passages if no model was asked; with the links of the text."""
    if completion is None:
        answer = quote_passages(question, retrieved, terms)
    else:
        answer = check_answer(question, completion.text, retrieved.passages, terms)
    return answer.model_copy(update={"links": find_links(answer.text, retrieved.passages)})


async def _complete(chat: ChatModel, query: Query, passages: list[Passage], stream: TokenStream | None) -> Completion:
    fence = Fence()
    completion = await chat.complete(
        system_prompt(fence),
        user_prompt(query.query, passages, fence),
        model=query.model,
        temperature=query.temperature,
        max_tokens=query.max_tokens,
        on_text=stream.add if stream else None,
        on_restart=stream.restart if stream else lambda: None,
    )
    if stream is not None:
        stream.end()
    return completion


def _used(query: Query, retrieved: RetrievalResult, completion: Completion | None, embedding_model: str | None) -> Used:
    """Return the settings and models that the answer was made with."""
    return Used(
        **query.model_dump(exclude={"query", "user_id", "everyone", "model", "conversation_id", "cache"}),
        model=completion.model if completion else None,
        embedding_model=embedding_model,
        reranker=retrieved.reranked_by,
        passages=len(retrieved.passages),
    )
