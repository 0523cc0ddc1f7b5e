"""The check of an answer's citations: each `[n]` mark is compared with the passage it names.

A mark that survives is shown to the user as support, with a quote from the passage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from rag.citations.claims import claims_of
from rag.citations.exact import locate_quotation
from rag.citations.marks import Mark, find_marks, render_marks
from rag.citations.quotations import split_quotations
from rag.citations.quotes import best_quote, join_sentences
from rag.citations.support import HIGH_SHARE, Evidence
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans
from schemas import Passage, Source

# A quotation with fewer terms says too little to be evidence.
MIN_QUOTED_TERMS = 2


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer in which every mark names a source that supports it. `unsupported` counts the removed citations."""

    text: str
    sources: tuple[Source, ...]
    unsupported: int


@dataclass(frozen=True, slots=True)
class Citation:
    """A claim, the number of the passage that it cites, and the words of the passage that the model quotes, if any."""

    n: int
    claim: str
    words: str = ""


@dataclass(slots=True)
class _CitedPassages:
    """The passages of an answer, numbered from 1 as in the prompt, and what is cited from them.

    `terms` and `spans` hold, for each passage that supports a claim, the terms of its claims and where the words that
    they quote stand in its text.
    """

    passages: list[Passage]
    question: str
    extract_terms: TermExtractor
    terms: dict[int, frozenset[int]] = field(default_factory=dict)
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    unsupported: int = 0
    _evidence: dict[int, Evidence] = field(default_factory=dict)
    _supported: dict[Citation, bool] = field(default_factory=dict)

    def check(self, citation: Citation) -> bool:
        """Return True if the citation may stay. Otherwise count it as unsupported."""
        if citation not in self._supported:
            self._supported[citation] = self._supports(citation)
        self.unsupported += not self._supported[citation]
        return self._supported[citation]

    def evidence(self, n: int) -> Evidence:
        if n not in self._evidence:
            chunk = self.passages[n - 1].chunk
            place = f"{chunk.name} {chunk.section} {chunk.page} {chunk.page_label}"
            self._evidence[n] = Evidence(chunk.text, self.extract_terms, place=place, question=self.question)
        return self._evidence[n]

    def add(self, n: int, claim: str, spans: list[tuple[int, int]]) -> None:
        self.terms[n] = self.terms.get(n, frozenset()) | self.extract_terms(claim)
        self.spans.setdefault(n, []).extend(spans)

    def _supports(self, citation: Citation) -> bool:
        n, claim, words = citation.n, citation.claim, citation.words
        if not 1 <= n <= len(self.passages):
            return False
        if len(self.extract_terms(words)) < MIN_QUOTED_TERMS:
            spans, supported = [], self.evidence(n).supports(claim)
        else:
            spans = self._locate(n, words)
            supported = bool(spans) and self.evidence(n).states_numbers(claim)
        if supported:
            self.add(n, claim, spans)
        return supported

    def _locate(self, n: int, words: str) -> list[tuple[int, int]]:
        """Return where a passage has the quoted words, or the sentences that have nearly all of them."""
        text = self.passages[n - 1].chunk.text
        if (span := locate_quotation(words, text)) is not None:
            return [span]
        target = self.extract_terms(words)
        if not self.evidence(n).resembles(words):
            return []
        nearest = best_quote(text, target, self.extract_terms)
        return [(nearest.start, nearest.end)] if nearest.matched >= HIGH_SHARE * len(target) else []


def check_citations(answer: str, passages: list[Passage], question: str, terms: TermExtractor) -> CheckedAnswer:
    """Remove each mark whose passage does not exist or does not support the claim; quote the other cited passages.

    A citation that quotes its passage needs these words in the passage, exactly or nearly, and the claim's numbers. Any
    other citation needs half of the claim's terms there, and its numbers. In an answer without any mark, each passage
    that nearly repeats a sentence becomes a source: small models often forget to cite.
    """
    terms = lru_cache(maxsize=None)(terms)
    plain, quotations = split_quotations(answer)
    words = {(quotation.end, n): quotation.words for quotation in quotations for n in quotation.numbers}
    groups = find_marks(plain)
    cited = _CitedPassages(passages, question, terms)
    kept = [
        [
            []
            if mark.is_definition
            else [n for n in mark.source_numbers if cited.check(Citation(n, claim, words.get((mark.end, n), "")))]
            for mark in group
        ]
        for group, claim in zip(groups, claims_of(plain, groups, terms), strict=True)
    ]
    _check_definitions(groups, kept, cited)
    if not groups:
        _support_sentences(plain, cited)
    sources = tuple(_source(n, cited) for n in sorted(cited.terms))
    return CheckedAnswer(render_marks(plain, groups, kept), sources, cited.unsupported)


def strip_citations(answer: str) -> str:
    """Return an answer without its marks, as a refusal is shown."""
    plain, _ = split_quotations(answer)
    groups = find_marks(plain)
    return render_marks(plain, groups, [[[] for _ in group] for group in groups])


def supports(passage: str, claim: str, terms: TermExtractor, *, question: str = "") -> bool:
    """Return True if a passage supports a claim that quotes nothing."""
    return Evidence(passage, lru_cache(maxsize=None)(terms), question=question).supports(claim)


def build_source(n: int, passage: Passage, start: int, end: int) -> Source:
    """Return source `n`, which quotes the passage's text from `start` to `end`."""
    chunk = passage.chunk
    return Source(
        n=n,
        upload_id=chunk.upload_id,
        name=chunk.name,
        page=chunk.page,
        page_label=chunk.page_label,
        quote=chunk.text[start:end],
        start=chunk.start + start,
        end=chunk.start + end,
        section=chunk.section,
        score=round(passage.score, 4),
    )


def _check_definitions(groups: list[list[Mark]], kept: list[list[list[int]]], cited: _CitedPassages) -> None:
    """Keep the entries of a list of references, `[1]: a.pdf`, whose sources the answer cites elsewhere.

    An entry claims nothing itself. It counts as unsupported only if it names no passage.
    """
    for group, numbers in zip(groups, kept, strict=True):
        for place, mark in enumerate(group):
            if mark.is_definition:
                numbers[place] = [n for n in mark.source_numbers if n in cited.terms]
                cited.unsupported += sum(not 1 <= n <= len(cited.passages) for n in mark.source_numbers)


def _support_sentences(answer: str, cited: _CitedPassages) -> None:
    """Add each passage that nearly repeats a sentence of an answer without marks."""
    for start, end in sentence_spans(answer):
        for n in range(1, len(cited.passages) + 1):
            if cited.evidence(n).resembles(answer[start:end]):
                cited.add(n, answer[start:end], [])


def _source(n: int, cited: _CitedPassages) -> Source:
    """Return a cited passage with a quote: the sentences of the words that are quoted, or those nearest the claims."""
    passage, terms = cited.passages[n - 1], cited.extract_terms
    if spans := cited.spans[n]:
        return build_source(n, passage, *join_sentences(passage.chunk.text, spans))
    also = cited.terms[n] | terms(cited.question)
    quote = best_quote(passage.chunk.text, cited.terms[n] or also, terms, secondary=also)
    return build_source(n, passage, quote.start, quote.end)
