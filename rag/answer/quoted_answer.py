"""An answer without a model: the best excerpts of the documents, with their pages."""

from __future__ import annotations

import re
from typing import NamedTuple

from rag.answer.table_rows import best_row
from rag.citations.check import build_source
from rag.citations.excerpts import Excerpt, best_excerpt
from rag.search.relevance import TermExtractor
from rag.search.retriever import RetrievalResult
from rag.text.invisible import strip_controls
from rag.text.language import content_words, language_of, phrases
from rag.text.page_names import page_name
from schemas import Answer, Confidence, Passage, Source

MAX_QUOTES = 3
# A passage is quoted beside the best one when its score is at least this share of the best. Of 109 questions about a
# handbook and 76 about a speech the answer stands in 94 and 70 of the answers, which quote 228 passages; with 0.5 in
# 95 and 71 of 299, without the bound in 101 and 71 of 462.
MIN_SCORE_SHARE = 0.75
# Below the lower score, a passage that the search does not find relevant either is no answer. Of 156 questions about
# financial reports 3 % stay below it with the right report, and 28 % with another company's report of the same kind.
MIN_EXCERPT_SCORE = 0.4
HIGH_EXCERPT_SCORE = 0.75
MAX_MISSING_WORDS = 5
# A word with a digit, or words that begin with a capital and follow each other: a name.
_NAME_OR_NUMBER = re.compile(r"(?<!^)(?<![.!?:]\s)(?:\b[A-ZÀ-ÖØ-Þ][\w’'&-]*(?:\s+(?=[A-ZÀ-ÖØ-Þ]))?)+|\w*\d[\w.,]*")
_LANGUAGES_THAT_CAPITALIZE_NOUNS = frozenset({"de"})


class _Quoted(NamedTuple):
    passage: Passage
    excerpt: Excerpt

    @property
    def text(self) -> str:
        """The excerpt as it is shown: of a table in the words that name what each figure is."""
        return self.passage.chunk.text[self.excerpt.start : self.excerpt.end]

    @property
    def score(self) -> float:
        return self.passage.score * (1 + self.excerpt.score)


def quote_passages(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> Answer:
    """Quote the passages that fit the question best, each with its page, best first.

    Declines if a name or number of the question stands in no passage, or if no passage fits.
    """
    quoted = _quoted(question, retrieved, terms)
    missing = [] if retrieved.not_searched else _missing(_names_and_numbers(question), retrieved, terms)
    fits = any(one.excerpt.score >= MIN_EXCERPT_SCORE for one in quoted)
    if missing or not quoted or not (fits or retrieved.relevant):
        return Answer(text=_nothing_found(question, missing, retrieved, terms), answered=False)
    sentences = phrases(question)
    confidence = _confidence(quoted[0].excerpt.score, relevant=retrieved.relevant)
    header = sentences.quoted if confidence != "low" else f"{sentences.quoted} {sentences.may_not_answer}"
    sources = tuple(_source(n, one) for n, one in enumerate(quoted, start=1))
    lines = [
        f"“{_head(one)}{_in_one_line(one.text)}” [{source.n}] — {source.name}, "
        f"{page_name(source.page, source.page_label)}"
        for one, source in zip(quoted, sources, strict=True)
    ]
    if retrieved.not_searched and confidence == "low":
        lines.append(not_searched(question, retrieved.not_searched))
    return Answer(text="\n\n".join([header, *lines]), sources=sources, confidence=confidence)


def _in_one_line(quote: str) -> str:
    """Return a quote for the text of an answer. Documents indexed by earlier versions may hold control characters."""
    return strip_controls(" ".join(quote.split()))


def _head(quoted: _Quoted) -> str:
    """Return the caption and the header of the table that an excerpt is from; empty if the excerpt has them."""
    text = quoted.passage.chunk.text
    head = " ".join(_in_one_line(text[start:end]) for start, end in quoted.excerpt.head)
    return f"{head} … " if head else ""


def _source(n: int, quoted: _Quoted) -> Source:
    excerpt = quoted.excerpt
    source = build_source(n, quoted.passage, excerpt.start, excerpt.end)
    best = build_source(n, quoted.passage, *excerpt.highlight)
    begin, end = best.start - source.start, best.end - source.start
    inside = begin >= 0 and end <= len(source.quote)  # of a table, the quote may be the row alone
    return source.model_copy(update={"highlight": (begin, end) if inside else (0, len(source.quote))})


def _quoted(question: str, retrieved: RetrievalResult, terms: TermExtractor) -> list[_Quoted]:
    """Return the passages worth quoting, best first, without excerpts that contain each other."""
    chosen: list[_Quoted] = []
    query_terms, asked = retrieved.query_terms, terms(question)
    best = max((passage.score for passage in retrieved.passages), default=0.0)
    for passage in retrieved.passages:
        chunk = passage.chunk
        if not query_terms.matches_follow_up(terms(chunk.text)):
            continue
        excerpt = best_excerpt(chunk.text, f"{chunk.name} {chunk.section}", query_terms, terms, secondary=asked)
        row = best_row(chunk, query_terms.terms, terms)
        if row is not None and (excerpt is None or row.score >= excerpt.score):
            excerpt = row
        if excerpt is not None:
            chosen.append(_Quoted(passage, excerpt))
    chosen.sort(key=lambda one: -one.score)
    chosen = [one for one in chosen if one.passage.score >= MIN_SCORE_SHARE * best or _is_rival(one, chosen[0])]
    texts = [one.text for one in chosen]
    new = [at for at, text in enumerate(texts) if not any(text in other or other in text for other in texts[:at])]
    return [chosen[at] for at in new[:MAX_QUOTES]]


def _is_rival(one: _Quoted, best: _Quoted) -> bool:
    """Return True for an excerpt of another document that has no less of the question: it may answer otherwise."""
    return one.passage.chunk.upload_id != best.passage.chunk.upload_id and one.excerpt.score >= best.excerpt.score


def _confidence(score: float, *, relevant: bool) -> Confidence:
    """Return how likely the best excerpt answers, by the words of the question that it has."""
    if not relevant:
        return "low"
    return "high" if score >= HIGH_EXCERPT_SCORE else "medium"


def not_searched(question: str, documents: int) -> str:
    """Return the sentence for documents that were not searched, since they are still being indexed."""
    return f"{phrases(question).not_searched} {documents}."


def _names_and_numbers(question: str) -> list[str]:
    """Return the names and numbers of a question; numbers alone where a capital says nothing."""
    found = [match[0].strip() for match in _NAME_OR_NUMBER.finditer(question)]
    content = content_words(question)
    says_nothing = language_of(question) in _LANGUAGES_THAT_CAPITALIZE_NOUNS or all(map(_is_capitalized, content))
    words = frozenset(content)
    return [
        name
        for name in found
        if (any(map(str.isdigit, name)) or not says_nothing) and not words.isdisjoint(re.findall(r"[\w’'-]+", name))
    ]


def _is_capitalized(word: str) -> bool:
    return not word[0].islower()


def _missing(words: list[str], retrieved: RetrievalResult, terms: TermExtractor) -> list[str]:
    """Return the words of which no ranked chunk contains a part. A rare word ranks its chunks first."""
    found: frozenset[int] = frozenset()
    for passage in retrieved.ranked:
        found |= terms(f"{passage.chunk.name} {passage.chunk.section} {passage.chunk.text}")
    return [word for word in dict.fromkeys(words) if (of_word := terms(word)) and not of_word & found]


def _nothing_found(question: str, missing: list[str], retrieved: RetrievalResult, terms: TermExtractor) -> str:
    """Return a sentence that nothing was found, and the words of the question that no ranked chunk contains.

    While some documents are not searched, nobody knows which words they contain.
    """
    sentences = phrases(question)
    if retrieved.not_searched:
        return f"{sentences.nothing_found} {not_searched(question, retrieved.not_searched)}"
    if not sentences.missing:
        return sentences.nothing_found
    words = _missing(content_words(question), retrieved, terms) or missing
    if not words:
        return sentences.nothing_found
    return f"{sentences.nothing_found} {sentences.missing} {', '.join(words[:MAX_MISSING_WORDS])}."
