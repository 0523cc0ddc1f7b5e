"""A question's way to its answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from rag.answer.fence import Fence
from rag.answer.links import find_links
from rag.answer.prompt import NOT_ANSWERED, refusal, system_prompt, user_prompt, without_no_answer_mark
from rag.answer.token_stream import TokenStream
from rag.citations.check import check_citations, source, without_citations
from rag.citations.quotes import best_quote
from rag.ingest.indexing import ProgressCallback
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult, Retriever, StageTimer
from rag.text.language import phrases, stop_words
from schemas import Answer, Completion, Passage, Progress, Query, SearchFilter, Source, Used

NOTHING_FOUND = phrases("").nothing_found
QUOTED_HEADER = phrases("").quoted
MAX_QUOTED = 3
# A passage is quoted beside the best one when its score is at least this share of the best. On 76 questions of a speech
# among three documents, quotes from a right page and answers with at least one: 0.5 43 %, 97 %; 0.75 65 %, 97 %;
# 0.9 80 %, 92 %.
QUOTED_SHARE = 0.75
MAX_MISSING = 5
_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


class ChatModel(Protocol):
    """Writes an answer. None stands for the configured model and the provider's defaults. Raises ProviderError."""

    def complete(
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


def answer_query(
    query: Query,
    *,
    retriever: Retriever,
    chat: ChatModel | None,
    report: ProgressCallback,
    chosen: SearchFilter | None = None,
    embedding_model: str | None = None,
    own: str | None = None,
    say: Callable[[str], None] | None = None,
    void: Callable[[], None] = lambda: None,
) -> Answer:
    """Search, ask the model, and check what it cites. Without a model, quote the best passages instead.

    `chosen` narrows the search further than the query does by itself. `own` is what the user asked, where words of
    earlier questions were added to it: an answer has to do with that. `say` gets the answer in pieces while the model
    writes it, before its citations are checked; `void` is called when those so far are void, and it begins anew. Raises
    NothingIndexed, ProviderError.
    """
    report(Progress(stage="searching"))
    retrieved = retriever.retrieve(query, chosen, follow_up=own)
    watch = StageTimer(dict(retrieved.seconds))
    completion = None
    if chat is None or not retrieved.passages:  # with a model, whether they answer is its judgement
        answer = quoted_answer(query.query, retrieved, retriever.terms)
    else:
        report(Progress(stage="answering"))
        fence = Fence()
        speaker = TokenStream(say or _say_nothing, void=void)
        with watch.stage("model"):
            completion = chat.complete(
                system_prompt(fence),
                user_prompt(query.query, retrieved.passages, fence),
                model=query.model,
                temperature=query.temperature,
                max_tokens=query.max_tokens,
                on_text=speaker if say is not None else None,
                on_restart=speaker.restart,
            )
        speaker.end()
        answer = checked_answer(query.query, completion.text, retrieved.passages, retriever.terms)
    used = Used(
        **query.model_dump(exclude={"query", "user_id", "everyone", "model", "conversation_id", "cache"}),
        model=completion.model if completion else None,
        embedding_model=embedding_model,
        reranker=retrieved.reranked_by,
        passages=len(retrieved.passages),
    )
    times = {stage: round(seconds, 4) for stage, seconds in watch.seconds.items()}
    usage = completion.usage if completion else None
    links = find_links(answer.text, retrieved.passages)
    return answer.model_copy(update={"used": used, "usage": usage, "times": times, "links": links})


def checked_answer(question: str, text: str, passages: list[Passage], terms: TermExtractor) -> Answer:
    """Turn what a model said into an answer whose citations hold.

    It counts as answered when a source supports some of it: not a refusal, in whatever words, nor what the model says
    by itself.
    """
    refused = refusal(text)
    if refused is not None:
        return Answer(text=without_citations(refused) or NOT_ANSWERED, answered=False)
    checked = check_citations(without_no_answer_mark(text), passages, question, terms)
    return Answer(
        text=checked.text or NOT_ANSWERED,
        sources=checked.sources,
        answered=bool(checked.sources),
        unsupported=checked.unsupported,
    )


def quoted_answer(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> Answer:
    """Answer with the passages that fit the question best, each quoted with its page, or say that none does."""
    say = phrases(question)
    sources: list[Source] = []
    if retrieved.relevant:
        for passage in _worth_quoting(retrieved.passages):
            if not retrieved.query_terms.matches_follow_up(terms(passage.chunk.text)):
                continue
            quote = best_quote(passage.chunk.text, retrieved.query_terms.terms, terms, also=terms(question))
            made = source(len(sources) + 1, passage, quote.start, quote.end)
            if quote.held and not any(made.quote in one.quote or one.quote in made.quote for one in sources):
                sources.append(made)
    if not sources:
        return Answer(text=_nothing_found(question, retrieved, terms), answered=False)
    lines = [f"“{' '.join(s.quote.split())}” [{s.n}] ({s.name}, {page_name(s.page, s.page_label)})" for s in sources]
    return Answer(text="\n\n".join([say.quoted, *lines]), sources=tuple(sources))


def _say_nothing(_text: str) -> None:
    pass


def page_name(number: int, label: str) -> str:
    """Name a page as its reader would: by its printed label, with its place in the file where the two differ."""
    return f"page {number}" if label == str(number) else f"page {label} (number {number} in the file)"


def _worth_quoting(passages: list[Passage]) -> list[Passage]:
    best = max((passage.score for passage in passages), default=0.0)
    return [passage for passage in passages if passage.score >= QUOTED_SHARE * best][:MAX_QUOTED]


def _nothing_found(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> str:
    """Say that nothing was found, and which words of the question stand nowhere."""
    say = phrases(question)
    held: frozenset[int] = frozenset()
    for passage in retrieved.ranked:
        held |= terms(passage.chunk.text)
    asking = terms(" ".join(sorted(stop_words(question))))
    words = {word: terms(word) for word in _WORD.findall(question) if say.missing}
    missing = [word for word, wanted in words.items() if wanted - asking and not wanted & held][:MAX_MISSING]
    return f"{say.nothing_found} {say.missing} {', '.join(missing)}." if missing else say.nothing_found
