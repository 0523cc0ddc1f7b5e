"""A question's way to its answer."""

from __future__ import annotations

import math
from typing import Protocol

from rag.citations import Terms, best_quote, cited_sources, source
from rag.ingestion import Report
from rag.prompt import NOT_ANSWERED, SYSTEM, user_prompt
from schemas import Answer, Passage, Progress, Query, SearchFilter

QUOTED_HEADER = "Quoted from your documents, not generated: no model is configured."
NOTHING_FOUND = "Nothing about this was found in the indexed documents."
MAX_QUOTED = 3
# Share of the question's terms a passage must hold to be quoted as an answer.
RELEVANT_SHARE = 0.4


class Searcher(Protocol):
    """Finds the chunks nearest to a question, best first."""

    def search(self, question: str, chosen: SearchFilter, k: int) -> list[Passage]: ...


class ChatModel(Protocol):
    """Writes an answer. Raises ProviderError."""

    def complete(self, system: str, user: str) -> str: ...


def answer_query(query: Query, *, searcher: Searcher, chat: ChatModel | None, terms: Terms, report: Report) -> Answer:
    """Search, ask the model, and check what it cites. Without a model, quote the best passages instead."""
    report(Progress(stage="searching"))
    chosen = SearchFilter(user_id=query.user_id, upload_ids=query.upload_ids)
    passages = searcher.search(query.query, chosen, query.k)
    if not passages:
        return Answer(text=NOTHING_FOUND, answered=False)
    if chat is None:
        return quoted_answer(query.query, passages, terms)
    report(Progress(stage="answering"))
    text = chat.complete(SYSTEM, user_prompt(query.query, passages)).strip()
    if not text or NOT_ANSWERED in text:
        return Answer(text=NOT_ANSWERED, answered=False)
    text, sources = cited_sources(text, passages, query.query, terms)
    return Answer(text=text, sources=sources)


def quoted_answer(question: str, passages: list[Passage], terms: Terms) -> Answer:
    """Answer with the passages that share most words with the question, each quoted with its page."""
    wanted = terms(question)
    needed = max(1, math.ceil(RELEVANT_SHARE * len(wanted)))
    relevant = [passage for passage in passages if len(wanted & terms(passage.chunk.text)) >= needed]
    quotes: dict[str, Passage] = {}
    for passage in relevant:
        quote, held = best_quote(passage.chunk.text, wanted, terms)
        if held and len(quotes) < MAX_QUOTED and not any(quote in other or other in quote for other in quotes):
            quotes[quote] = passage
    if not quotes:
        return Answer(text=NOTHING_FOUND, answered=False)
    sources = tuple(source(n, passage, quote) for n, (quote, passage) in enumerate(quotes.items(), start=1))
    lines = [f"“{' '.join(s.quote.split())}” [{s.n}] ({s.name}, {page_name(s.page, s.page_label)})" for s in sources]
    return Answer(text="\n\n".join([QUOTED_HEADER, *lines]), sources=sources)


def page_name(number: int, label: str) -> str:
    """Name a page as its reader would: by its printed label, with its place in the file where the two differ."""
    return f"page {number}" if label == str(number) else f"page {label} (number {number} in the file)"
