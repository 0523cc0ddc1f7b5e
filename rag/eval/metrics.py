"""How good answers are, on questions whose right pages are known."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from pydantic import AliasChoices, ConfigDict, Field, ValidationError

from errors import InvalidRequest
from schemas import Answer, Frozen, Passage

HITS = (1, 3, 5, 10)
UNANSWERABLE = "unanswerable"


class Question(Frozen):
    """A line of a file of questions.

    `pages` are the pages of the upload named that answer it, counted from 1; none and the answer `unanswerable`, or
    `"unanswerable": true`, for a question that the documents do not answer.
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
    """What came of a question: the pages found, best first and each once, and the answer."""

    question: Question
    found: tuple[tuple[str, int], ...]
    answer: Answer
    seconds: float

    @property
    def rank(self) -> int | None:
        """Place of the first right page among those found, from 1; None when it is not among them."""
        places = (n for n, (name, page) in enumerate(self.found, start=1) if self.is_right(name, page))
        return next(places, None)

    @property
    def right_citations(self) -> int:
        return sum(self.is_right(source.name, source.page) for source in self.answer.sources)

    @property
    def says_it(self) -> bool | None:
        """Tell whether the expected answer stands in the answer; None when none is expected."""
        if self.question.answer is None or not self.question.answerable:
            return None
        return _plain(self.question.answer) in _plain(self.answer.text)

    def is_right(self, name: str, page: int) -> bool:
        return page in self.question.pages and self.question.upload in {None, name}


class Summary(Frozen):
    """The figures of a run. Shares are from 0 to 1, None when there was nothing to count; times are in seconds.

    Right pages and citations are counted over answerable questions with pages. `refused` is the share of the
    unanswerable that was not answered, be it refused or said without a source's support; `wrongly_refused` that of the
    answerable.
    """

    questions: int
    answerable: int
    hit: dict[int, float | None]
    mrr: float | None
    citation_precision: float | None
    cited_right_page: float | None
    says_expected: float | None
    refused: float | None
    wrongly_refused: float | None
    unsupported: int
    p50: float
    p95: float
    stages: dict[str, float]


def read_questions(lines: Iterable[str]) -> list[Question]:
    """Read JSON Lines. Raises InvalidRequest that names the line which is wrong."""
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
            wrong = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "is not JSON"
            raise InvalidRequest([(f"line {number}", wrong)]) from None
    return questions


def pages_found(ranked: Sequence[Passage]) -> tuple[tuple[str, int], ...]:
    """Return the pages of passages, best first, each once."""
    return tuple(dict.fromkeys((passage.chunk.name, passage.chunk.page) for passage in ranked))


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    """Count what came of the questions. Needs at least one."""
    answerable = [one for one in outcomes if one.question.answerable]
    paged = [one for one in answerable if one.question.pages]
    unanswerable = [one for one in outcomes if not one.question.answerable]
    seconds = sorted(one.seconds for one in outcomes)
    cited = [(one.right_citations, len(one.answer.sources)) for one in paged]
    return Summary(
        questions=len(outcomes),
        answerable=len(answerable),
        hit={k: _share(paged, _found_within(k)) for k in HITS},
        mrr=statistics.fmean(1 / one.rank if one.rank else 0.0 for one in paged) if paged else None,
        citation_precision=sum(right for right, _ in cited) / total if (total := sum(n for _, n in cited)) else None,
        cited_right_page=_share(paged, lambda one: one.right_citations > 0),
        says_expected=_share([one for one in answerable if one.says_it is not None], lambda one: bool(one.says_it)),
        refused=_share(unanswerable, lambda one: not one.answer.answered),
        wrongly_refused=_share(answerable, lambda one: not one.answer.answered),
        unsupported=sum(one.answer.unsupported for one in outcomes),
        p50=quantile(seconds, 0.5),
        p95=quantile(seconds, 0.95),
        stages=_stages(outcomes),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share else 0)]


def _stages(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the median time of each stage."""
    names = dict.fromkeys(name for one in outcomes for name in one.answer.times)
    return {
        name: statistics.median(one.answer.times[name] for one in outcomes if name in one.answer.times)
        for name in names
    }


def _found_within(k: int) -> Callable[[Outcome], bool]:
    return lambda one: one.rank is not None and one.rank <= k


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> float | None:
    return sum(map(holds, outcomes)) / len(outcomes) if outcomes else None


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
