"""A question answered in its context: the earlier turns of its conversation, and the same question asked before."""

from __future__ import annotations

import logging
from collections.abc import Callable

from redis import Redis

from client.valkey.answer_cache import AnswerCache, cache_key
from client.valkey.conversations import Conversations
from errors import UploadNotReady
from observability import logs
from queues.context import JobContext
from queues.wiring import Services
from rag.answer.follow_ups import rewrite_follow_up
from rag.answer.pipeline import answer_query
from schemas import Answer, Query, Turn, UploadStatus
from settings import Settings

log = logging.getLogger("queues")

# Raise it when prompt, chunking, ranking or the check of citations change answers.
ANSWERS_VERSION = 4


def answer_question(query: Query, job: JobContext, services: Services, settings: Settings) -> Answer:
    """Answer a question, within its user's tokens of the day, and publish its sources. Raises AppError."""
    logs.log_content(log, "asked", question=query.query)
    require_ready(query, services)
    _require_tokens(query.user_id, job, settings)
    seconds_queued = job.seconds_queued()
    answer = answer_in_context(query, job, services, settings)
    _count_tokens(answer, query.user_id, job, settings)
    job.write_event("sources", answer.model_dump(mode="json", include={"sources", "answered", "unsupported", "links"}))
    logs.log_content(log, "answered", answer=answer.text)
    waited = {} if seconds_queued is None else {"queue": round(seconds_queued, 4)}
    return answer.model_copy(update={"times": waited | answer.times})


def require_ready(query: Query, services: Services) -> None:
    """Raise UploadNotReady unless every upload that the question names can be searched."""
    if query.upload_ids is None:
        return
    missing = set(query.upload_ids) - services.uploads.searchable(query.visible_owner, query.upload_ids)
    if not missing:
        return
    upload = services.uploads.get(min(missing), user_id=query.visible_owner)
    if upload is None or upload.status is UploadStatus.DELETING:
        raise UploadNotReady("a document this question is about was deleted")
    if upload.status is UploadStatus.FAILED:
        raise UploadNotReady(f"{upload.name} could not be indexed: {upload.error}")
    raise UploadNotReady(f"{upload.name} is not indexed yet; ask again once it is ready")


def answer_in_context(query: Query, job: JobContext, services: Services, settings: Settings) -> Answer:
    """Rewrite a follow-up question to stand alone, answer it or find its answer in the cache, and keep both.

    Outside any job there is no Valkey, so nothing is kept. Raises AppError.
    """
    if job.valkey is None:
        return _answer(query, job, services)
    conversations = Conversations(job.valkey, ttl_seconds=settings.result_ttl_seconds)
    asked = query
    if query.conversation_id is not None:
        turns = conversations.turns(query.user_id, query.conversation_id, job_id=job.job_id)
        asked = query.model_copy(update={"query": rewrite_follow_up(query.query, turns, services.chat)})
    follow_up = query.query if services.chat is None and asked.query != query.query else None
    answer = _cached(
        asked,
        services,
        settings,
        job.valkey,
        lambda: _answer(asked, job, services, follow_up=follow_up),
        follow_up=follow_up,
    )
    if answer.cached:
        job.write_event("token", {"text": answer.text})
    if query.conversation_id is not None:
        turn = Turn(job_id=job.job_id, question=query.query, answer=answer.text)
        conversations.add(query.user_id, query.conversation_id, turn)
    return answer.model_copy(update={"rewritten": asked.query if asked.query != query.query else None})


def _cached(
    query: Query,
    services: Services,
    settings: Settings,
    valkey: Redis,
    answer: Callable[[], Answer],
    *,
    follow_up: str | None = None,
) -> Answer:
    """Return the answer kept for this question over these documents, or make it and keep it."""
    if not query.cache:
        return answer()
    cache = AnswerCache(valkey, ttl_seconds=settings.result_ttl_seconds)
    key = cache_key(
        {
            "version": ANSWERS_VERSION,
            # Read before the search: documents that change meanwhile make the next question miss.
            "documents": services.uploads.searchable_version(query.visible_owner),
            "question": query.model_dump(mode="json", exclude={"conversation_id", "cache"}),
            "follow_up": follow_up,
            "models": [settings.chat_model, settings.openai_base_url, settings.dense_model, settings.offline],
            "reranker": [settings.rerank_url, settings.rerank_model, settings.context_tokens],
        }
    )
    cached = cache.get(key)
    if cached is not None:
        return cached.model_copy(update={"cached": True, "usage": None, "times": {}})
    made = answer()
    cache.put(key, made)
    return made


def _answer(query: Query, job: JobContext, services: Services, *, follow_up: str | None = None) -> Answer:
    return answer_query(
        query,
        retriever=services.retriever,
        chat=services.chat,
        report=job.report,
        embedding_model=services.embedding_model,
        follow_up=follow_up,
        on_token=lambda text: job.write_event("token", {"text": text}),
        on_restart=job.discard_tokens,
    )


def _require_tokens(user_id: str, job: JobContext, settings: Settings) -> None:
    """Raise TooManyRequests when the user's tokens of the day were used up after this question was submitted."""
    if settings.tokens_per_day is not None and job.valkey is not None:
        from auth.token_budget import require_tokens  # a stock worker would pay 40 ms for each job

        require_tokens(job.valkey, user_id=user_id, limit=settings.tokens_per_day)


def _count_tokens(answer: Answer, user_id: str, job: JobContext, settings: Settings) -> None:
    if settings.tokens_per_day is not None and job.valkey is not None and answer.usage is not None:
        from auth.token_budget import count_tokens  # a stock worker would pay 40 ms for each job

        count_tokens(job.valkey, user_id=user_id, tokens=answer.usage.total_tokens, limit=settings.tokens_per_day)
