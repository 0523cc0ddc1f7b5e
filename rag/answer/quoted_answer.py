"""An answer without a model: the best passages, quoted with their pages."""

from __future__ import annotations

import re

from rag.citations.check import build_source
from rag.citations.quotes import best_quote
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult
from rag.text.invisible import strip_controls
from rag.text.language import phrases, stop_words
from rag.text.page_names import page_name
from schemas import Answer, Passage, Source

MAX_QUOTES = 3
# A passage is quoted beside the best one when its score is at least this share of the best. On 76 questions of a speech
# among three documents, quotes from a right page and answers with at least one: 0.5 43 %, 97 %; 0.75 65 %, 97 %;
# 0.9 80 %, 92 %.
MIN_SCORE_SHARE = 0.75
MAX_MISSING_WORDS = 5
_WORD = re.compile(r"[^\W_]+(?:[’'-][^\W_]+)*")


def quote_passages(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> Answer:
    """Quote the passages that fit the question best, each with its page; without any, answer that nothing was found."""
    sources = _quotes(question, retrieved, terms) if retrieved.relevant else []
    if not sources:
        return Answer(text=_nothing_found(question, retrieved, terms), answered=False)
    lines = [
        f"“{_in_one_line(source.quote)}” [{source.n}] — {source.name}, {page_name(source.page, source.page_label)}"
        for source in sources
    ]
    return Answer(text="\n\n".join([phrases(question).quoted, *lines]), sources=tuple(sources))


def _in_one_line(quote: str) -> str:
    """Return a quote for the text of an answer. Documents indexed by earlier versions may hold control characters."""
    return strip_controls(" ".join(quote.split()))


def _quotes(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> list[Source]:
    """Return one source for each passage worth quoting, without quotes that contain each other."""
    sources: list[Source] = []
    query_terms = retrieved.query_terms
    for passage in _best_passages(retrieved.passages):
        if not query_terms.matches_follow_up(terms(passage.chunk.text)):
            continue
        quote = best_quote(passage.chunk.text, query_terms.terms, terms, secondary=terms(question))
        source = build_source(len(sources) + 1, passage, quote.start, quote.end)
        repeated = any(source.quote in other.quote or other.quote in source.quote for other in sources)
        if quote.matched and not repeated:
            sources.append(source)
    return sources


def _best_passages(passages: list[Passage]) -> list[Passage]:
    best = max((passage.score for passage in passages), default=0.0)
    return [passage for passage in passages if passage.score >= MIN_SCORE_SHARE * best][:MAX_QUOTES]


def not_searched(question: str, documents: int) -> str:
    """Return the sentence for documents that were not searched, since they are still being indexed."""
    return f"{phrases(question).not_searched} {documents}."


def _nothing_found(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> str:
    """Return a sentence that nothing was found, and the words of the question that no ranked chunk contains.

    While some documents are not searched, nobody knows which words they contain.
    """
    sentences = phrases(question)
    if retrieved.not_searched:
        return f"{sentences.nothing_found} {not_searched(question, retrieved.not_searched)}"
    if not sentences.missing:
        return sentences.nothing_found
    in_chunks: frozenset[int] = frozenset()
    for passage in retrieved.ranked:
        in_chunks |= terms(passage.chunk.text)
    stops = terms(" ".join(sorted(stop_words(question))))
    by_word = {word: terms(word) for word in _WORD.findall(question)}
    missing = [word for word, word_terms in by_word.items() if word_terms - stops and not word_terms & in_chunks]
    if not missing:
        return sentences.nothing_found
    return f"{sentences.nothing_found} {sentences.missing} {', '.join(missing[:MAX_MISSING_WORDS])}."
