"""Answers a question with the earlier turns of its conversation in mind, or from the cache of answers."""

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

# Increase the number when a change of prompt, chunking, ranking or the check of citations changes answers.
ANSWERS_VERSION = 4


def answer_question(query: Query, job: JobContext, services: Services, settings: Settings) -> Answer:
    """Answer a question within the user's token budget of the day, and publish the sources. Raises AppError."""
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
    """Answer a question, or return its cached answer, and add both to the conversation. Raises AppError.

    A follow-up question is rewritten first, to stand alone. Outside any job there is no Valkey: then the question is
    answered as it is, and nothing is cached or added.
    """
    if job.valkey is None:
        return _answer(query, job, services)
    conversations = Conversations(job.valkey, ttl_seconds=settings.result_ttl_seconds)
    standalone = query
    if query.conversation_id is not None:
        turns = conversations.turns(query.user_id, query.conversation_id, job_id=job.job_id)
        standalone = query.model_copy(update={"query": rewrite_follow_up(query.query, turns, services.chat)})
    rewritten = standalone.query if standalone.query != query.query else None
    follow_up = query.query if services.chat is None and rewritten is not None else None
    answer = _cached(
        standalone,
        services,
        settings,
        job.valkey,
        lambda: _answer(standalone, job, services, follow_up=follow_up),
        follow_up=follow_up,
    )
    if answer.cached:
        job.write_event("token", {"text": answer.text})
    if query.conversation_id is not None:
        turn = Turn(job_id=job.job_id, question=query.query, answer=answer.text)
        conversations.add(query.user_id, query.conversation_id, turn)
    return answer.model_copy(update={"rewritten": rewritten})


def _cached(
    query: Query,
    services: Services,
    settings: Settings,
    valkey: Redis,
    make_answer: Callable[[], Answer],
    *,
    follow_up: str | None = None,
) -> Answer:
    """Return the cached answer to this question over these documents, or make and cache an answer."""
    if not query.cache:
        return make_answer()
    cache = AnswerCache(valkey, ttl_seconds=settings.result_ttl_seconds)
    key = cache_key(
        {
            "version": ANSWERS_VERSION,
            # Read before the search, so that the cache misses after documents changed during the search.
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
    answer = make_answer()
    cache.put(key, answer)
    return answer


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
    """Raise TooManyRequests when the user has used up the tokens of the day since the question was submitted."""
    if settings.tokens_per_day is not None and job.valkey is not None:
        from auth.token_budget import require_tokens  # a stock worker would pay 40 ms for each job

        require_tokens(job.valkey, user_id=user_id, limit=settings.tokens_per_day)


def _count_tokens(answer: Answer, user_id: str, job: JobContext, settings: Settings) -> None:
    if settings.tokens_per_day is not None and job.valkey is not None and answer.usage is not None:
        from auth.token_budget import count_tokens  # a stock worker would pay 40 ms for each job

        count_tokens(job.valkey, user_id=user_id, tokens=answer.usage.total_tokens, limit=settings.tokens_per_day)
