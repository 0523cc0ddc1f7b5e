"""The check of an answer's citations: each `[n]` mark is compared with the passage it names.

A mark that survives is shown to the user as support, with a quote from the passage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rag.citations.claims import claims_of
from rag.citations.exact import locate_quotation
from rag.citations.marks import Mark, find_marks, render_marks
from rag.citations.quotations import split_quotations
from rag.citations.quotes import best_quote, join_sentences
from rag.citations.support import ANSWER_SHARE, NEAR_SHARE, Evidence
from rag.search.places import file_place, page_part
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans
from schemas import Passage, Source

# A quotation with fewer terms says too little to be evidence.
MIN_QUOTED_TERMS = 2


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer in which every mark names a source that supports it. `unsupported` counts the removed citations.

    `denied` is True if a judge denies all citations.
    """

    text: str
    sources: tuple[Source, ...]
    unsupported: int
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A claim, the number of the passage that it cites, and the words of the passage that the model quotes, if any."""

    n: int
    claim: str
    words: str = ""


Verified = bool | Literal["unchecked"]
# What a judge says of citations. A citation that it did not judge is missing.
Verdicts = Mapping[Citation, bool]


@dataclass(frozen=True, slots=True)
class _Support:
    """How a passage supports a claim: where the quoted words stand, and whether the claim answers the question."""

    stays: bool = False
    spans: tuple[tuple[int, int], ...] = ()
    answers: bool = False


class Assessment:
    """The citations of an answer, each compared with its passage. Passages are numbered from 1, as in the prompt.

    `evidence` keeps what was read of these passages, for the next assessment. `text`: the answer without quotations.
    """

    def __init__(
        self,
        answer: str,
        passages: list[Passage],
        question: str,
        terms: TermExtractor,
        *,
        evidence: dict[int, Evidence] | None = None,
    ) -> None:
        self._passages = passages
        self.question = question
        self._terms = lru_cache(maxsize=None)(terms)
        self._evidence = {} if evidence is None else evidence
        self._support: dict[Citation, _Support] = {}
        self.text, quotations = split_quotations(answer)
        self._quotes = bool(quotations)
        self._groups = find_marks(self.text)
        words = {(quotation.end, n): quotation.words for quotation in quotations for n in quotation.numbers}
        claims = claims_of(self.text, self._groups, self._terms)
        self._cited = [
            [[] if mark.is_definition else list(_citations(mark, claim, words)) for mark in group]
            for group, claim in zip(self._groups, claims, strict=True)
        ]
        for citation in self._all():
            if citation not in self._support:
                self._support[citation] = self._compare(citation)
        if not self._groups:
            self._support |= dict(self._repeated_sentences())

    @property
    def to_judge(self) -> list[tuple[Citation, str]]:
        """The citations that a judge may verify, each with the text of its passage."""
        return [
            (citation, self._passages[citation.n - 1].chunk.text)
            for citation in self._support
            if citation.claim and 1 <= citation.n <= len(self._passages)
        ]

    def conclude(self, verdicts: Verdicts) -> CheckedAnswer:
        """Return the answer without the citations that neither words nor the judge support.

        A reply that says no more than the question, or in which a model that quotes quotes nothing, is no answer, and
        cites nothing. If the judge denies all citations, they stay: nothing is removed on its word alone.
        """
        kept = {one for one, support in self._support.items() if support.stays or verdicts.get(one)}
        if not any(self._support[one].answers or verdicts.get(one) for one in kept):
            kept = set()
        numbers = [[[one.n for one in mark if one in kept] for mark in group] for group in self._cited]
        unsupported = sum(one not in kept for one in self._all()) + self._check_definitions(numbers, kept)
        sources = tuple(
            self._source(n, [one for one in self._support if one in kept and one.n == n], verdicts)
            for n in sorted({one.n for one in kept})
        )
        denied = bool(kept) and all(verdicts.get(one) is False for one in kept)
        return CheckedAnswer(render_marks(self.text, self._groups, numbers), sources, unsupported, denied)

    def supported(self) -> Iterator[tuple[Mark, list[int], bool]]:
        """Yield each mark, its numbers that words support, and whether its claim answers the question."""
        for group, cited in zip(self._groups, self._cited, strict=True):
            for mark, citations in zip(group, cited, strict=True):
                kept = [one for one in citations if self._support[one].stays]
                yield mark, [one.n for one in kept], any(self._support[one].answers for one in kept)

    def _all(self) -> Iterator[Citation]:
        """Yield every citation of the answer, repeated ones too."""
        return (citation for group in self._cited for mark in group for citation in mark)

    def _compare(self, citation: Citation) -> _Support:
        """Return how the passage supports the claim: by the quoted words, or else by the claim's own terms."""
        if not 1 <= citation.n <= len(self._passages):
            return _Support()
        evidence = self._evidence_of(citation.n)
        if len(self._terms(citation.words)) < MIN_QUOTED_TERMS:
            return self._compare_terms(citation, evidence)
        span = self._locate(citation.n, citation.words)
        stays = span is not None and evidence.states_numbers(citation.claim, near=span)
        return _Support(stays, () if span is None else (span,), answers=stays)

    def _compare_terms(self, citation: Citation, evidence: Evidence) -> _Support:
        """Return how a passage supports a claim without a quotation, compared with the other passages."""
        others = [self._evidence_of(n) for n in range(1, len(self._passages) + 1) if n != citation.n]
        stays = evidence.supports(citation.claim, others)
        answers = stays and (
            evidence.share(citation.claim) >= ANSWER_SHARE or (not self._quotes and evidence.adds(citation.claim))
        )
        return _Support(stays, answers=answers)

    def _locate(self, n: int, words: str) -> tuple[int, int] | None:
        """Return where a passage has the quoted words, or the sentences that have nearly all of them."""
        text = self._passages[n - 1].chunk.text
        span = locate_quotation(words, text)
        if span is not None or not self._evidence_of(n).resembles(words):
            return span
        target = self._terms(words)
        nearest = best_quote(text, target, self._terms)
        return (nearest.start, nearest.end) if nearest.matched >= NEAR_SHARE * len(target) else None

    def _repeated_sentences(self) -> Iterator[tuple[Citation, _Support]]:
        """Yield each sentence that a passage nearly repeats, as a citation of it: small models often forget to cite."""
        for start, end in sentence_spans(self.text):
            sentence = self.text[start:end]
            for n in range(1, len(self._passages) + 1):
                if self._evidence_of(n).resembles(sentence):
                    yield Citation(n, sentence), _Support(stays=True, answers=True)

    def _check_definitions(self, numbers: list[list[list[int]]], kept: Iterable[Citation]) -> int:
        """Keep the entries of a list of references, `[1]: a.pdf`, whose sources the answer cites elsewhere.

        An entry claims nothing itself. Returns how many numbers of entries name no passage.
        """
        cited = {one.n for one in kept}
        missing = 0
        for group, kept_numbers in zip(self._groups, numbers, strict=True):
            for place, mark in enumerate(group):
                if mark.is_definition:
                    kept_numbers[place] = [n for n in mark.source_numbers if n in cited]
                    missing += sum(not 1 <= n <= len(self._passages) for n in mark.source_numbers)
        return missing

    def _evidence_of(self, n: int) -> Evidence:
        if n not in self._evidence:
            chunk = self._passages[n - 1].chunk
            place = f"{chunk.name} {chunk.section} {chunk.page} {chunk.page_label}"
            self._evidence[n] = Evidence(chunk.text, self._terms, place=place, question=self.question)
        return self._evidence[n]

    def _source(self, n: int, cited: list[Citation], verdicts: Verdicts) -> Source:
        """Return a cited passage with a quote: the sentences of the quoted words, or those nearest the claims."""
        passage = self._passages[n - 1]
        text = passage.chunk.text
        verified = _verified([verdicts.get(citation) for citation in cited])
        if spans := [span for citation in cited for span in self._support[citation].spans]:
            return build_source(n, passage, *join_sentences(text, spans), verified=verified)
        claimed = frozenset[int]().union(*(self._terms(citation.claim) for citation in cited))
        also = claimed | self._terms(self.question)
        quote = best_quote(text, claimed or also, self._terms, secondary=also)
        return build_source(n, passage, quote.start, quote.end, verified=verified)


def check_citations(answer: str, passages: list[Passage], question: str, terms: TermExtractor) -> CheckedAnswer:
    """Remove each mark whose passage does not exist or does not support the claim; quote the other cited passages.

    A citation that quotes its passage needs these words in the passage, exactly or nearly, and the claim's numbers. Any
    other citation needs the claim's numbers there, and enough in common with it; see Evidence.supports.
    """
    return Assessment(answer, passages, question, terms).conclude({})


def strip_citations(answer: str) -> str:
    """Return an answer without its marks, as a refusal is shown."""
    plain, _ = split_quotations(answer)
    groups = find_marks(plain)
    return render_marks(plain, groups, [[[] for _ in group] for group in groups])


def build_source(n: int, passage: Passage, start: int, end: int, *, verified: Verified = "unchecked") -> Source:
    """Return source `n`, which quotes the passage's text from `start` to `end`."""
    chunk = passage.chunk
    quoted = page_part(chunk, start, end)
    place = file_place(chunk, quoted.start, quoted.start + len(quoted.text))
    return Source(
        n=n,
        upload_id=chunk.upload_id,
        name=chunk.name,
        page=chunk.page,
        page_label=place.label,
        quote=quoted.text,
        start=quoted.start,
        end=quoted.start + len(quoted.text),
        section=place.section,
        lines=place.lines,
        score=round(passage.score, 4),
        verified=verified,
    )


def _citations(mark: Mark, claim: str, words: Mapping[tuple[int, int], str]) -> Iterator[Citation]:
    for n in mark.source_numbers:
        yield Citation(n, claim, words.get((mark.end, n), ""))


def _verified(verdicts: list[bool | None]) -> Verified:
    """Return False if a judge denies a claim, True if it affirms all."""
    if False in verdicts:
        return False
    return "unchecked" if None in verdicts else True
