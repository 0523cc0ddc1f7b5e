"""The `[n]` marks of an answer, each checked against the passage it names before anyone sees it as support."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from rag.citations.claims import claims_of
from rag.citations.marks import Group, find_marks, rendered
from rag.citations.quotes import best_quote
from rag.citations.refusals import refuses, told
from rag.citations.support import Evidence
from rag.search.relevance import TermExtractor
from rag.text.normalize import sentence_spans
from schemas import Passage, Source


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer whose every mark names a source that supports it. `unsupported` counts the citations taken out."""

    text: str
    sources: tuple[Source, ...]
    unsupported: int


@dataclass(slots=True)
class _Claims:
    """What an answer says of each source: the terms of the supported claims."""

    passages: list[Passage]
    question: str
    tell: TermExtractor
    terms: dict[int, frozenset[int]] = field(default_factory=dict)
    unsupported: int = 0
    _evidence: dict[int, Evidence] = field(default_factory=dict)
    _known: dict[tuple[int, str], bool] = field(default_factory=dict)

    def keep(self, n: int, claim: str) -> bool:
        """Tell whether a citation stays, and count it where it does not. One of a refusal goes uncounted."""
        said = told(claim)
        if claim and not said:
            return False
        if not 1 <= n <= len(self.passages) or not self.credit(n, said):
            self.unsupported += 1
            return False
        return True

    def credit(self, n: int, claim: str) -> bool:
        """Note what a passage supports; tell whether it does."""
        if (n, claim) not in self._known:
            self._known[n, claim] = self._read(n).supports(claim)
        if self._known[n, claim]:
            self.terms[n] = self.terms.get(n, frozenset()) | self.tell(claim)
        return self._known[n, claim]

    def _read(self, n: int) -> Evidence:
        if n not in self._evidence:
            chunk = self.passages[n - 1].chunk
            about = f"{chunk.name} {chunk.section or ''} {chunk.page} {chunk.page_label}"
            self._evidence[n] = Evidence(chunk.text, self.tell, about=about, question=self.question)
        return self._evidence[n]


def check_citations(answer: str, passages: list[Passage], question: str, terms: TermExtractor) -> CheckedAnswer:
    """Take out the marks that name no passage or one that does not support the claim; quote the rest.

    An answer without any mark gets every passage that supports one of its sentences as a source: small models
    often forget to cite, and these are what it was given to stand on. What says that the sources do not hold
    something cites none.
    """
    terms = lru_cache(maxsize=None)(terms)
    claims = _Claims(passages, question, terms)
    groups = find_marks(answer)
    said = claims_of(answer, groups, terms)
    kept = [
        [[] if mark.is_definition else [n for n in mark.numbers if claims.keep(n, claim)] for mark in group]
        for group, claim in zip(groups, said, strict=True)
    ]
    text = rendered(answer, groups, _with_definitions(groups, kept, claims))
    if not groups:
        _credit(claims, answer)
    wanted = terms(question)
    sources = tuple(_quoted(n, passages[n - 1], held | wanted, held, terms) for n, held in sorted(claims.terms.items()))
    return CheckedAnswer(text, sources, claims.unsupported)


def without_citations(answer: str) -> str:
    """Return a text without its marks, as one that answers nothing is shown."""
    groups = find_marks(answer)
    return rendered(answer, groups, [[[] for _ in group] for group in groups])


def supports(passage: str, claim: str, terms: TermExtractor, *, question: str = "") -> bool:
    """Tell whether a passage speaks of what a claim says; see rag/citations/support.py for what that can mean."""
    return Evidence(passage, lru_cache(maxsize=None)(terms), question=question).supports(claim)


def source(n: int, passage: Passage, start: int, end: int) -> Source:
    """Build a source whose quote is the passage's text from `start` to `end`."""
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


def _with_definitions(groups: list[Group], kept: list[list[list[int]]], claims: _Claims) -> list[list[list[int]]]:
    """Keep in a list of references, `[1]: a.pdf`, those that the answer cites, which claim nothing by themselves."""
    for group, numbers in zip(groups, kept, strict=True):
        for place, mark in enumerate(group):
            if mark.is_definition:
                numbers[place] = [n for n in mark.numbers if n in claims.terms]
                claims.unsupported += sum(not 1 <= n <= len(claims.passages) for n in mark.numbers)
    return kept


def _credit(claims: _Claims, answer: str) -> None:
    """Find for each sentence of an answer without marks the passages that support it; for one that refuses none."""
    sentences = [answer[start:end] for start, end in sentence_spans(answer)]
    if sentences and refuses(sentences[0]):
        return
    for sentence in sentences:
        if said := told(sentence):
            for n in range(1, len(claims.passages) + 1):
                claims.credit(n, said)


def _quoted(n: int, passage: Passage, wanted: frozenset[int], claimed: frozenset[int], terms: TermExtractor) -> Source:
    quote = best_quote(passage.chunk.text, claimed or wanted, terms, also=wanted)
    return source(n, passage, quote.start, quote.end)
