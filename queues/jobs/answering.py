"""A question answered with what is known of earlier ones: its conversation, and the same question asked before."""

from __future__ import annotations

from collections.abc import Callable

from redis import Redis

from client.valkey.answer_cache import AnswerCache, cache_key
from client.valkey.conversations import Conversations
from queues.wiring import Services
from rag.answer.follow_ups import standalone
from rag.answer.pipeline import answer_query
from rag.ingest.indexing import ProgressCallback
from schemas import Answer, Query, Turn
from settings import Settings

# Raise it when prompt, chunking, ranking or the check of citations change what is answered.
ANSWERS_VERSION = 3


def answer_in_context(
    query: Query,
    use: Services,
    settings: Settings,
    *,
    valkey: Redis | None,
    job_id: str,
    report: ProgressCallback,
    say: Callable[[str], None],
    void: Callable[[], None],
) -> Answer:
    """Make the question stand alone, answer it or find it answered, and remember both. Raises AppErrors.

    `say` and `void` as for `answer_query`. `valkey` None, outside of a job, remembers nothing.
    """
    if valkey is None:
        return _answer(query, use, report, say, void)
    conversations = Conversations(valkey, ttl_seconds=settings.result_ttl_seconds)
    asked = query
    if query.conversation_id is not None:
        turns = conversations.turns(query.user_id, query.conversation_id, job_id=job_id)
        asked = query.model_copy(update={"query": standalone(query.query, turns, use.chat)})
    own = query.query if use.chat is None and asked.query != query.query else None
    answer = _cached(asked, use, settings, valkey, lambda: _answer(asked, use, report, say, void, own=own), own=own)
    if answer.cached:
        say(answer.text)
    if query.conversation_id is not None:
        turn = Turn(job_id=job_id, question=query.query, answer=answer.text)
        conversations.add(query.user_id, query.conversation_id, turn)
    return answer.model_copy(update={"rewritten": asked.query if asked.query != query.query else None})


def _cached(
    query: Query,
    use: Services,
    settings: Settings,
    valkey: Redis,
    answer: Callable[[], Answer],
    *,
    own: str | None = None,
) -> Answer:
    """Return the answer kept for this question over these documents, or make it and keep it."""
    if not query.cache:
        return answer()
    cache = AnswerCache(valkey, ttl_seconds=settings.result_ttl_seconds)
    key = cache_key(
        {
            "version": ANSWERS_VERSION,
            # Read before the search: documents that change meanwhile make the next question miss.
            "documents": use.uploads.state(query.sees),
            "question": query.model_dump(mode="json", exclude={"conversation_id", "cache"}),
            "own": own,
            "models": [settings.chat_model, settings.openai_base_url, settings.dense_model, settings.offline],
            "reranker": [settings.rerank_url, settings.rerank_model, settings.context_tokens],
        }
    )
    found = cache.get(key)
    if found is not None:
        return found.model_copy(update={"cached": True, "usage": None, "times": {}})
    made = answer()
    cache.put(key, made)
    return made


def _answer(
    query: Query,
    use: Services,
    report: ProgressCallback,
    say: Callable[[str], None],
    void: Callable[[], None],
    *,
    own: str | None = None,
) -> Answer:
    return answer_query(
        query,
        retriever=use.retriever,
        chat=use.chat,
        report=report,
        embedding_model=use.embedding_model,
        own=own,
        say=say,
        void=void,
    )
