"""The check of an answer's citations: each `[n]` mark is compared with the passage it names.

A mark that survives is shown to the user as support, with a quote from the passage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from rag.citations.claims import claims_of
from rag.citations.marks import Mark, find_marks, render_marks
from rag.citations.quotes import best_quote
from rag.citations.refusals import is_refusal, strip_refusal
from rag.citations.support import Evidence
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans
from schemas import Passage, Source


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer in which every mark names a source that supports it. `unsupported` counts the removed citations."""

    text: str
    sources: tuple[Source, ...]
    unsupported: int


@dataclass(slots=True)
class _SupportedClaims:
    """The claims of an answer that its passages support. Passages are numbered from 1, as in the prompt.

    `terms_by_passage` holds the terms of the supported claims; a passage that supports none is missing.
    """

    passages: list[Passage]
    question: str
    extract_terms: TermExtractor
    terms_by_passage: dict[int, frozenset[int]] = field(default_factory=dict)
    unsupported: int = 0
    _evidence: dict[int, Evidence] = field(default_factory=dict)
    _verdicts: dict[tuple[int, str], bool] = field(default_factory=dict)

    def check_citation(self, n: int, claim: str) -> bool:
        """Return True if the citation may stay. Otherwise count it as unsupported, unless the claim is a refusal."""
        statement = strip_refusal(claim)
        if claim and not statement:
            return False
        if not 1 <= n <= len(self.passages) or not self.add_if_supported(n, statement):
            self.unsupported += 1
            return False
        return True

    def add_if_supported(self, n: int, claim: str) -> bool:
        """Return True if passage `n` supports the claim, and then add the claim's terms to the passage."""
        if (n, claim) not in self._verdicts:
            self._verdicts[n, claim] = self._evidence_of(n).supports(claim)
        if self._verdicts[n, claim]:
            self.terms_by_passage[n] = self.terms_by_passage.get(n, frozenset()) | self.extract_terms(claim)
        return self._verdicts[n, claim]

    def _evidence_of(self, n: int) -> Evidence:
        if n not in self._evidence:
            chunk = self.passages[n - 1].chunk
            place = f"{chunk.name} {chunk.section or ''} {chunk.page} {chunk.page_label}"
            self._evidence[n] = Evidence(chunk.text, self.extract_terms, place=place, question=self.question)
        return self._evidence[n]


def check_citations(answer: str, passages: list[Passage], question: str, terms: TermExtractor) -> CheckedAnswer:
    """Remove each mark whose passage does not exist or does not support the claim; quote the other cited passages.

    In an answer without any mark, every passage that supports a sentence becomes a source: small models often forget
    to cite the passages that they were given. A sentence that says what is missing from the sources cites nothing.
    """
    terms = lru_cache(maxsize=None)(terms)
    supported = _SupportedClaims(passages, question, terms)
    groups = find_marks(answer)
    claims = claims_of(answer, groups, terms)
    kept = [
        [
            [] if mark.is_definition else [n for n in mark.source_numbers if supported.check_citation(n, claim)]
            for mark in group
        ]
        for group, claim in zip(groups, claims, strict=True)
    ]
    _check_definitions(groups, kept, supported)
    text = render_marks(answer, groups, kept)
    if not groups:
        _support_sentences(answer, supported)
    sources = tuple(
        _quote(n, passages[n - 1], claim_terms, terms(question), terms)
        for n, claim_terms in sorted(supported.terms_by_passage.items())
    )
    return CheckedAnswer(text, sources, supported.unsupported)


def strip_citations(answer: str) -> str:
    """Return an answer without its marks, as a refusal is shown."""
    groups = find_marks(answer)
    return render_marks(answer, groups, [[[] for _ in group] for group in groups])


def supports(passage: str, claim: str, terms: TermExtractor, *, question: str = "") -> bool:
    """Return True if a passage supports a claim. rag/citations/support.py says what this check can see."""
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


def _check_definitions(groups: list[list[Mark]], kept: list[list[list[int]]], supported: _SupportedClaims) -> None:
    """Keep the entries of a list of references, `[1]: a.pdf`, whose sources the answer cites elsewhere.

    An entry claims nothing itself. It counts as unsupported only if it names no passage.
    """
    for group, numbers in zip(groups, kept, strict=True):
        for place, mark in enumerate(group):
            if mark.is_definition:
                numbers[place] = [n for n in mark.source_numbers if n in supported.terms_by_passage]
                supported.unsupported += sum(not 1 <= n <= len(supported.passages) for n in mark.source_numbers)


def _support_sentences(answer: str, supported: _SupportedClaims) -> None:
    """Compare each sentence of an answer without marks with every passage, unless the answer starts with a refusal."""
    sentences = [answer[start:end] for start, end in sentence_spans(answer)]
    if sentences and is_refusal(sentences[0]):
        return
    for sentence in sentences:
        if statement := strip_refusal(sentence):
            for n in range(1, len(supported.passages) + 1):
                supported.add_if_supported(n, statement)


def _quote(
    n: int, passage: Passage, claim_terms: frozenset[int], question_terms: frozenset[int], terms: TermExtractor
) -> Source:
    secondary = claim_terms | question_terms
    quote = best_quote(passage.chunk.text, claim_terms or secondary, terms, secondary=secondary)
    return build_source(n, passage, quote.start, quote.end)
