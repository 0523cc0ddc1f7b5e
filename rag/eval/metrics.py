"""The figures of an evaluation: how good answers are on questions whose right pages are known."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from pydantic import AliasChoices, ConfigDict, Field, ValidationError

from errors import InvalidRequest
from schemas import Answer, Frozen, Passage

# The k of each hit@k.
HITS = (1, 3, 5, 10)
UNANSWERABLE = "unanswerable"


class Question(Frozen):
    """A line of a file of questions.

    `upload` is the name of a document; None means that any document may answer. `pages` are the pages of the document
    that answer the question, counted from 1. A question that the documents do not answer has `unanswerable` true, or
    the answer `unanswerable`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    question: str = Field(validation_alias=AliasChoices("question", "query"), min_length=1)
    upload: str | None = Field(None, validation_alias=AliasChoices("upload", "upload_name", "name", "document", "pdf"))
    pages: tuple[int, ...] = Field((), validation_alias=AliasChoices("pages", "gold_pages", "page"))
    answer: str | None = Field(None, validation_alias=AliasChoices("answer", "expected", "expected_answer"))
    unanswerable: bool = False

    @property
    def answerable(self) -> bool:
        return not (self.unanswerable or self.answer == UNANSWERABLE)


class Outcome(Frozen):
    """The result of one question: the document name and number of each page found, best first, and the answer."""

    question: Question
    pages: tuple[tuple[str, int], ...]
    answer: Answer
    seconds: float

    @property
    def rank(self) -> int | None:
        """The rank of the first right page, from 1; None when no right page was found."""
        ranks = (n for n, (name, page) in enumerate(self.pages, start=1) if self.is_right(name, page))
        return next(ranks, None)

    @property
    def right_citations(self) -> int:
        """The number of cited sources that are on a right page."""
        return sum(self.is_right(source.name, source.page) for source in self.answer.sources)

    @property
    def contains_expected(self) -> bool | None:
        """True if the answer contains the expected answer; None without an expected answer."""
        if self.question.answer is None or not self.question.answerable:
            return None
        return _plain(self.question.answer) in _plain(self.answer.text)

    def is_right(self, name: str, page: int) -> bool:
        """Return True if this page of this document answers the question."""
        return page in self.question.pages and self.question.upload in {None, name}


class Summary(Frozen):
    """The figures of a run. A share is from 0 to 1, and None when there was nothing to count; times are in seconds.

    `hit` maps k to the share of questions with a right page among the first k pages. `hit`, `mrr`, `citation_precision`
    (the share of citations on a right page) and `cited_right_page` (the share of answers with such a citation) count
    answerable questions with known pages. `contains_expected` is the share of answers that contain the expected answer.
    `refused` is the share of unanswerable questions without an answer, `wrongly_refused` the same share of answerable
    questions; an answer that no source supports counts as no answer. `unsupported` is the number of citations removed
    because their source does not support them. `stages` maps each stage to its median time.
    """

    questions: int
    answerable: int
    hit: dict[int, float | None]
    mrr: float | None
    citation_precision: float | None
    cited_right_page: float | None
    contains_expected: float | None
    refused: float | None
    wrongly_refused: float | None
    unsupported: int
    p50: float
    p95: float
    stages: dict[str, float]


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read questions from JSON Lines. Raises InvalidRequest that names the wrong line."""
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("page"), int):
                value["page"] = [value["page"]]
            questions.append(Question.model_validate(value))
        except (json.JSONDecodeError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "is not JSON"
            raise InvalidRequest([(f"line {number}", reason)]) from None
    return questions


def pages_found(ranked: Sequence[Passage]) -> tuple[tuple[str, int], ...]:
    """Return the document name and number of each page of the passages, best first, each once."""
    return tuple(dict.fromkeys((passage.chunk.name, passage.chunk.page) for passage in ranked))


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    """Return the figures of a run of at least one question."""
    answerable = [outcome for outcome in outcomes if outcome.question.answerable]
    unanswerable = [outcome for outcome in outcomes if not outcome.question.answerable]
    with_pages = [outcome for outcome in answerable if outcome.question.pages]
    with_expected = [outcome for outcome in answerable if outcome.contains_expected is not None]
    citations = sum(len(outcome.answer.sources) for outcome in with_pages)
    seconds = sorted(outcome.seconds for outcome in outcomes)
    return Summary(
        questions=len(outcomes),
        answerable=len(answerable),
        hit={k: _share(with_pages, _hit_at(k)) for k in HITS},
        mrr=statistics.fmean(1 / outcome.rank if outcome.rank else 0.0 for outcome in with_pages)
        if with_pages
        else None,
        citation_precision=sum(outcome.right_citations for outcome in with_pages) / citations if citations else None,
        cited_right_page=_share(with_pages, lambda outcome: outcome.right_citations > 0),
        contains_expected=_share(with_expected, lambda outcome: bool(outcome.contains_expected)),
        refused=_share(unanswerable, lambda outcome: not outcome.answer.answered),
        wrongly_refused=_share(answerable, lambda outcome: not outcome.answer.answered),
        unsupported=sum(outcome.answer.unsupported for outcome in outcomes),
        p50=quantile(seconds, 0.5),
        p95=quantile(seconds, 0.95),
        stages=_median_times(outcomes),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ordered values that at least `share` of the values do not exceed."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share else 0)]


def _median_times(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the median time of each stage, in seconds."""
    stages = dict.fromkeys(stage for outcome in outcomes for stage in outcome.answer.times)
    return {
        stage: statistics.median(outcome.answer.times[stage] for outcome in outcomes if stage in outcome.answer.times)
        for stage in stages
    }


def _hit_at(k: int) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.rank is not None and outcome.rank <= k


def _share(outcomes: Sequence[Outcome], predicate: Callable[[Outcome], bool]) -> float | None:
    """Return the share of outcomes that satisfy the predicate; None for no outcomes."""
    return sum(map(predicate, outcomes)) / len(outcomes) if outcomes else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
