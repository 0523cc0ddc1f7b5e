"""Answers a question with the earlier turns of its conversation in mind, or from the cache of answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError
from redis import Redis

from client.rq.previous import previous_turns
from client.sql.conversations import MAX_TURNS
from client.valkey.answer_cache import AnswerCache, cache_key
from errors import ProviderError, UploadNotReady
from observability import logs, metrics, tracing
from queues.context import JobContext
from queues.jobs.chat_tasks import do_chat_task
from queues.jobs.lookups import look_up
from queues.jobs.turn_items import turn_items
from queues.wiring import Services
from rag.answer.follow_ups import rewrite_follow_up
from rag.answer.pipeline import Draft, answer_query, cut_notice, finish_draft
from rag.answer.token_stream import TokenStream
from rag.citations.streamed import StreamedMarks
from rag.search.places import file_place
from schemas import Answer, FoundPassage, Passage, Query, Turn, UploadStatus
from schemas.stores import StoreMembers
from settings import Settings

log = logging.getLogger("queues")

# Increase the number when a change of prompt, chunking, ranking or the check of citations changes answers.
ANSWERS_VERSION = 7
# The fields of a question on which its answer does not depend, once the question stands alone.
_NOT_OF_ANSWER = {"conversation_id", "cache", "history", "previous_job_id", "request"}


async def answer_question(query: Query, job: JobContext, services: Services, settings: Settings) -> Answer:
    """Answer a question within the user's token budget of the day, and publish the sources. Raises AppError.

    Calls of SQL and of Valkey block, so they are made in threads, beside the event loop.
    """
    logs.log_content(log, "asked", question=query.query)
    tracing.note_content({"user.id": query.user_id, "rag.question": query.query})
    if query.upload_ids is not None:
        await asyncio.to_thread(require_ready, query, services)
    if settings.tokens_per_day is not None and job.valkey is not None:
        await asyncio.to_thread(_require_tokens, query.user_id, job.valkey, settings.tokens_per_day)
    seconds_queued = job.seconds_queued()
    if query.task is not None:
        answer = await do_chat_task(query, services)
    elif query.only is None:
        answer = await answer_in_context(query, job, services, settings)
    else:
        answer = await look_up(query, services)
    if settings.tokens_per_day is not None and job.valkey is not None and answer.usage is not None:
        tokens = answer.usage.total_tokens
        await asyncio.to_thread(_count_tokens, tokens, query.user_id, job.valkey, settings.tokens_per_day)
    job.write_event("sources", answer.model_dump(mode="json", include={"sources", "answered", "unsupported", "links"}))
    logs.log_content(log, "answered", answer=answer.text)
    tracing.note_content({"rag.answer": answer.text})
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


async def answer_in_context(query: Query, job: JobContext, services: Services, settings: Settings) -> Answer:
    """Answer a question, or return its cached answer, and add both to the conversation. Raises AppError.

    A follow-up question is rewritten first, to stand alone. Outside any job there is no Valkey: then the question is
    answered as it is, and nothing is cached or added.
    """
    if job.valkey is None:
        return await _answer(query, job, services)
    stored = job.saved_draft()
    draft = None if stored is None else await asyncio.to_thread(_usable_draft, stored, query, services)
    if query.conversation_id is None and query.previous_job_id is None and not query.history:
        return await _answer_or_look_up(query, job, services, settings, job.valkey, draft=draft)
    if draft is not None:
        standalone_question = draft.question
    else:
        turns = await asyncio.to_thread(_earlier_turns, query, job, services)
        standalone_question = await _rewrite(query.query, turns, services)
    standalone = query.model_copy(update={"query": standalone_question})
    rewritten = standalone.query if standalone.query != query.query else None
    follow_up = query.query if services.rewriter is None and rewritten is not None else None
    answer = await _answer_or_look_up(standalone, job, services, settings, job.valkey, follow_up=follow_up, draft=draft)
    if query.conversation_id is not None:
        items = turn_items(query, job.job_id, answer)
        # Under /v1 a conversation is made before it is used: one that was deleted meanwhile stays deleted.
        begins = query.request is None
        add = partial(services.conversations.add_turn, query.user_id, query.conversation_id, job.job_id, begins=begins)
        await asyncio.to_thread(add, items)
    return answer.model_copy(update={"rewritten": rewritten})


def _earlier_turns(query: Query, job: JobContext, services: Services) -> list[Turn]:
    """Return the last turns before a question, oldest first."""
    turns = list(query.history)
    if query.previous_job_id is not None and job.valkey is not None:
        turns = previous_turns(job.valkey, query.previous_job_id, owner=query.user_id, most=MAX_TURNS) + turns
    if query.conversation_id is not None:
        turns = services.conversations.turns(query.user_id, query.conversation_id, job_id=job.job_id) + turns
    return turns[-MAX_TURNS:]


async def _rewrite(question: str, turns: list[Turn], services: Services) -> str:
    """Return a follow-up question rewritten to stand alone; as it is asked if the model fails."""
    try:
        return await rewrite_follow_up(question, turns, services.rewriter)
    except ProviderError as error:
        log.warning("the follow-up question is answered as it is asked, since rewriting it failed: %s", error.detail)
        return question


async def _answer_or_look_up(
    query: Query,
    job: JobContext,
    services: Services,
    settings: Settings,
    valkey: Redis,
    *,
    follow_up: str | None = None,
    draft: Draft | None = None,
) -> Answer:
    """Return the cached answer to this question over these documents, or make and cache an answer.

    With the draft of an earlier attempt the model is not asked again. The answer is not cached then: documents may have
    changed since the search.
    """
    if draft is not None:
        return await _finish(draft, query, job, services)
    if not query.cache:
        return await _answer(query, job, services, follow_up=follow_up)
    cache = AnswerCache(valkey, ttl_seconds=settings.result_ttl_seconds)

    def look_up() -> tuple[str, Answer | None]:
        key = _cache_key(query, services, settings, follow_up)
        return key, cache.get(key)

    key, cached = await asyncio.to_thread(look_up)
    if cached is not None:
        metrics.count(metrics.CACHE_HITS)
        if query.passages:
            _write_passages(cached.passages, job)
        job.write_event("token", {"text": cached.text})
        return cached.model_copy(update={"cached": True, "usage": None, "times": {}})
    answer = await _answer(query, job, services, follow_up=follow_up)
    if answer.incomplete is None and not answer.not_searched and _is_verified(answer, services):
        await asyncio.to_thread(cache.put, key, answer)
    return answer


def _is_verified(answer: Answer, services: Services) -> bool:
    """Return False if the judge failed or ran out of its budget: the next answer may be verified."""
    return services.judge is None or all(source.verified != "unchecked" for source in answer.sources)


def _cache_key(query: Query, services: Services, settings: Settings, follow_up: str | None) -> str:
    return cache_key(
        {
            "version": ANSWERS_VERSION,
            # Read before the search, so that the cache misses after documents changed during the search.
            "documents": services.uploads.searchable_version(query.visible_owner),
            "stores": _members_of(query, services),
            "question": query.model_dump(mode="json", exclude=_NOT_OF_ANSWER),
            "follow_up": follow_up,
            "models": [settings.chat_model, settings.openai_base_url, settings.dense_model, settings.offline],
            "judge": settings.verify_model,
            "reranker": [settings.rerank_url, settings.rerank_model, settings.context_tokens],
        }
    )


def _members_of(query: Query, services: Services) -> dict[str, Any] | None:
    """Return the documents of the question's vector stores, with the attributes that passages show."""
    if query.store_ids is None:
        return None
    return services.uploads.members(query.visible_owner, query.store_ids, query.filters).attributes


async def _answer(query: Query, job: JobContext, services: Services, *, follow_up: str | None = None) -> Answer:
    found: tuple[FoundPassage, ...] = ()
    begun = False

    async def keep(passages: Sequence[Passage]) -> None:
        nonlocal found
        found = await _found(query, passages, services)
        _write_passages(found, job)

    def write_token(text: str, checked: str) -> None:
        nonlocal begun
        if not begun and (waited := job.seconds_queued()) is not None:
            metrics.observe(metrics.FIRST_TOKEN, waited)
        begun = True
        _write_token(job, text, checked)

    answer = await answer_query(
        query,
        retriever=services.retriever,
        chat=services.chat,
        judge=services.judge,
        report=job.report,
        follow_up=follow_up,
        on_token=write_token,
        on_restart=job.discard_tokens,
        on_draft=lambda draft: job.save_draft(draft.model_dump_json().encode()),
        on_passages=keep if query.passages else None,
    )
    return answer.model_copy(update={"passages": found})


def _write_token(job: JobContext, text: str, checked: str) -> None:
    """Write a piece of an answer. `checked`, with only supported marks, is written where it differs."""
    job.write_event("token", {"text": text} if checked == text else {"text": text, "checked": checked})


async def _found(query: Query, passages: Sequence[Passage], services: Services) -> tuple[FoundPassage, ...]:
    """Return passages with the attributes that their documents have in the vector stores of the question."""
    members = StoreMembers(attributes={})
    if query.store_ids is not None:
        members = await asyncio.to_thread(services.uploads.members, query.visible_owner, query.store_ids)
    return tuple(
        FoundPassage(
            **chunk.model_dump(include={"upload_id", "name", "page", "text"}),
            page_label=file_place(chunk, chunk.start, chunk.end).label,
            score=score,
            attributes=dict(members.of(chunk.upload_id)),
        )
        for chunk, score in passages
    )


def _write_passages(found: Sequence[FoundPassage], job: JobContext) -> None:
    job.write_event("passages", {"passages": [passage.model_dump(mode="json") for passage in found]})


def _usable_draft(stored: bytes, query: Query, services: Services) -> Draft | None:
    """Return the draft of an earlier attempt; None when it cannot be read, or a document of it was deleted since."""
    try:
        draft = Draft.model_validate_json(stored)
    except ValidationError:  # of another version
        return None
    uploads = {passage.chunk.upload_id for passage in draft.passages}
    return draft if uploads <= services.uploads.searchable(query.visible_owner, uploads) else None


async def _finish(draft: Draft, query: Query, job: JobContext, services: Services) -> Answer:
    """Make the answer of an earlier attempt's draft, and publish its text as that attempt did."""
    found = await _found(query, draft.passages, services) if query.passages else ()
    if query.passages:
        _write_passages(found, job)
    marks = StreamedMarks(list(draft.passages), draft.question, services.retriever.terms)
    stream = TokenStream(partial(_write_token, job), marks=marks)
    stream.add(draft.completion.text + cut_notice(draft.completion, query.query))
    stream.end()
    answer = await finish_draft(draft, query, services.retriever.terms, judge=services.judge, report=job.report)
    return answer.model_copy(update={"passages": found})


def _require_tokens(user_id: str, valkey: Redis, limit: int) -> None:
    """Raise TooManyRequests when the user has used up the tokens of the day since the question was submitted."""
    from auth.token_budget import require_tokens  # a stock worker would pay 40 ms for each job

    require_tokens(valkey, user_id=user_id, limit=limit)


def _count_tokens(tokens: int, user_id: str, valkey: Redis, limit: int) -> None:
    from auth.token_budget import count_tokens  # a stock worker would pay 40 ms for each job

    count_tokens(valkey, user_id=user_id, tokens=tokens, limit=limit)
