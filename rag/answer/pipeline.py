"""From a question to its answer: search, ask the model, check the citations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from observability import tracing
from rag.answer.fence import Fence
from rag.answer.links import find_links
from rag.answer.prompt import FittingPrompt, parse_refusal, strip_refusal_mark, system_prompt
from rag.answer.quoted_answer import not_searched, quote_passages
from rag.answer.token_stream import TokenStream
from rag.answer.verification import Judge, Judgement
from rag.citations.check import Assessment, Verdicts, strip_citations
from rag.citations.streamed import StreamedMarks
from rag.ingest.indexing import ProgressCallback
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult, StageTimer
from rag.text.invisible import strip_controls
from rag.text.language import phrases
from schemas import Answer, Completion, Frozen, Passage, Progress, Query, SearchFilter, Usage, Used

# The settings of a question that its answer repeats.
_USED_SETTINGS = {"k", "min_score", "upload_ids", "names", "first_page", "last_page", "temperature", "max_tokens"}


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
        on_stage: Callable[[str], None] = ...,
        fit: Callable[[int | None], str | None] | None = None,
    ) -> Completion: ...


class PassageFinder(Protocol):
    """Finds the passages for a question, as Retriever.retrieve does, and splits a text into terms."""

    @property
    def terms(self) -> TermExtractor: ...

    async def retrieve(
        self, query: Query, search_filter: SearchFilter | None = None, *, follow_up: str | None = None
    ) -> RetrievalResult: ...


class Draft(Frozen):
    """What a model answered to a job's question, with all that is needed to make the answer of it.

    `question` is the question, rewritten so that it can be understood alone. `reranker`, `times` and `not_searched` are
    as in Answer, `embedding_model` is as in Used.
    """

    question: str
    completion: Completion
    passages: tuple[Passage, ...]
    reranker: str
    times: dict[str, float]
    embedding_model: str | None = None
    not_searched: int = 0


async def answer_query(
    query: Query,
    *,
    retriever: PassageFinder,
    chat: ChatModel | None,
    report: ProgressCallback,
    judge: Judge | None = None,
    search_filter: SearchFilter | None = None,
    follow_up: str | None = None,
    on_token: Callable[[str, str], None] | None = None,
    on_restart: Callable[[], None] = lambda: None,
    on_draft: Callable[[Draft], None] = lambda _draft: None,
    on_passages: Callable[[list[Passage]], Awaitable[None]] | None = None,
) -> Answer:
    """Search, let the model answer, and check its citations. Without a model, quote the best passages.

    `search_filter` and `follow_up` go to Retriever.retrieve. `on_token` receives the answer in pieces while the model
    writes, as TokenStream passes them on. `on_restart` is called when the model begins again, so that the pieces so far
    are invalid. `on_draft` receives what the model answered, at once: `finish_draft` makes the answer of it.
    `judge` verifies the citations. `on_passages` receives what was found, before a model is asked.

    Search and checks run in threads, beside the event loop, which waits for the models. Raises NothingIndexed,
    ProviderError.
    """
    report(Progress(stage="searching"))
    retrieved = await retriever.retrieve(query, search_filter, follow_up=follow_up)
    if on_passages is not None:
        await on_passages(retrieved.passages)
    timer = StageTimer(dict(retrieved.seconds))
    if chat is None or not retrieved.passages:
        answer = await asyncio.to_thread(quote_passages, query.query, retrieved, retriever.terms)
        answer = answer.model_copy(update={"not_searched": retrieved.not_searched})
        used = _used(query, retrieved.reranked_by, len(retrieved.passages), None, retrieved.embedding_model)
        return _complete_answer(answer, retrieved.passages, used, None, timer.seconds)
    # Also if no passage seems relevant: the model judges relevance better than a threshold does.
    report(Progress(stage="answering"))
    with timer.stage("model"):
        stream = _token_stream(on_token, on_restart, StreamedMarks(retrieved.passages, query.query, retriever.terms))
        completion, passages = await _complete(chat, query, retrieved.passages, stream, report)
    draft = Draft(
        question=query.query,
        completion=completion,
        passages=tuple(passages),
        reranker=retrieved.reranked_by,
        times=timer.seconds,
        embedding_model=retrieved.embedding_model,
        not_searched=retrieved.not_searched,
    )
    on_draft(draft)
    return await finish_draft(draft, query, retriever.terms, judge=judge, report=report)


def _token_stream(
    on_token: Callable[[str, str], None] | None, on_restart: Callable[[], None], marks: StreamedMarks
) -> TokenStream | None:
    return None if on_token is None else TokenStream(on_token, marks=marks, on_restart=on_restart)


async def finish_draft(
    draft: Draft,
    query: Query,
    terms: TermExtractor,
    *,
    judge: Judge | None = None,
    report: ProgressCallback = lambda _progress: None,
) -> Answer:
    """Return the answer of a draft, with its citations checked and, with a judge, verified."""
    timer = StageTimer(dict(draft.times))
    usage = draft.completion.usage
    checked = (draft.question, draft.completion.text, list(draft.passages), terms)
    if judge is None:
        with tracing.span("check citations"):
            answer = await asyncio.to_thread(check_answer, *checked)
    else:
        with tracing.span("check citations"):
            assessed = await asyncio.to_thread(assess_answer, *checked)
        answer, spent = await _judge(assessed, judge, report, timer)
        usage = add_usage(usage, spent)
    if draft.not_searched:
        text = answer.text if answer.answered else f"{answer.text}\n\n{not_searched(query.query, draft.not_searched)}"
        answer = answer.model_copy(update={"text": text, "not_searched": draft.not_searched})
    if notice := cut_notice(draft.completion, query.query):
        answer = answer.model_copy(update={"text": answer.text + notice, "incomplete": draft.completion.incomplete})
    used = _used(query, draft.reranker, len(draft.passages), draft.completion, draft.embedding_model)
    return _complete_answer(answer, list(draft.passages), used, usage, timer.seconds)


def cut_notice(completion: Completion, question: str) -> str:
    """Return what follows a text that the model did not finish; empty if the text is whole."""
    return "" if completion.incomplete is None else f"\n\n{phrases(question).cut}"


def check_answer(question: str, text: str, passages: list[Passage], terms: TermExtractor) -> Answer:
    """Return the model's text as an answer in which every citation is supported."""
    assessed = assess_answer(question, text, passages, terms)
    return assessed if isinstance(assessed, Answer) else conclude_answer(assessed, {})


def assess_answer(question: str, text: str, passages: list[Passage], terms: TermExtractor) -> Answer | Assessment:
    """Compare the citations of the model's text with their passages; a refusal is an answer already."""
    text = strip_controls(text)
    refusal = parse_refusal(text)
    if refusal is not None:
        return Answer(text=strip_citations(refusal) or phrases(question).not_answered, answered=False)
    return Assessment(strip_refusal_mark(text), passages, question, terms)


def conclude_answer(assessment: Assessment, verdicts: Verdicts) -> Answer:
    """Return the answer with the citations that words or a judge support.

    `answered` is True if a source supports at least one claim and the judge does not deny all: not for a refusal, nor
    for claims of the model alone.
    """
    checked = assessment.conclude(verdicts)
    return Answer(
        text=checked.text or phrases(assessment.question).not_answered,
        sources=checked.sources,
        answered=bool(checked.sources) and not checked.denied,
        unsupported=checked.unsupported,
    )


async def _judge(
    assessed: Answer | Assessment, judge: Judge, report: ProgressCallback, timer: StageTimer
) -> tuple[Answer, Usage | None]:
    """Return the answer with the judge's verdicts on its citations, and the tokens of the judge."""
    if isinstance(assessed, Answer):
        return assessed, None
    judgement = Judgement()
    if assessed.to_judge:
        report(Progress(stage="verifying"))
        with timer.stage("verify"):
            judgement = await judge.judge(assessed.to_judge)
    return await asyncio.to_thread(conclude_answer, assessed, judgement.verdicts), judgement.usage


def add_usage(usage: Usage | None, more: Usage | None) -> Usage | None:
    """Return the tokens of two calls together; None if the provider counted neither."""
    if usage is None or more is None:
        return usage or more
    counts = [count for count in (usage.reasoning_tokens, more.reasoning_tokens) if count is not None]
    return Usage(
        prompt_tokens=usage.prompt_tokens + more.prompt_tokens,
        completion_tokens=usage.completion_tokens + more.completion_tokens,
        total_tokens=usage.total_tokens + more.total_tokens,
        reasoning_tokens=sum(counts) if counts else None,
    )


async def _complete(
    chat: ChatModel, query: Query, passages: list[Passage], stream: TokenStream | None, report: ProgressCallback
) -> tuple[Completion, list[Passage]]:
    """Ask the model. Returns its answer, and the passages that fitted into its window."""
    fence = Fence()
    prompt = FittingPrompt(query.query, passages, fence, answer_tokens=query.max_tokens, wishes=query.instructions)
    completion = await chat.complete(
        system_prompt(fence, has_wishes=query.instructions is not None),
        prompt.text,
        model=query.model,
        temperature=query.temperature,
        max_tokens=query.max_tokens,
        on_text=stream.add if stream else None,
        on_restart=stream.restart if stream else lambda: None,
        on_stage=lambda stage: report(Progress(stage=stage)),
        fit=prompt.fit,
    )
    if stream is not None:
        stream.add(cut_notice(completion, query.query))
        stream.end()
    return completion, prompt.passages


def _complete_answer(
    answer: Answer, passages: list[Passage], used: Used, usage: Usage | None, seconds: Mapping[str, float]
) -> Answer:
    """Add to an answer the links in it, and how it was made."""
    return answer.model_copy(
        update={
            "links": find_links(answer.text, passages),
            "used": used,
            "usage": usage,
            "times": {stage: round(value, 4) for stage, value in seconds.items()},
        }
    )


def _used(
    query: Query, reranker: str, passages: int, completion: Completion | None, embedding_model: str | None
) -> Used:
    """Return the settings and models that the answer was made with."""
    return Used(
        **query.model_dump(include=_USED_SETTINGS),
        model=completion.model if completion else None,
        embedding_model=embedding_model,
        reranker=reranker,
        passages=passages,
    )
