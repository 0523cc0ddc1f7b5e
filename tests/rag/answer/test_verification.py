"""Citations verified by a judge: what it affirms and denies, and what it leaves open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rag.answer.pipeline import answer_query
from rag.answer.verification import Judgement, judge_prompts, parse_verdicts
from rag.citations.check import Citation
from rag.search.retriever import Retriever
from schemas import Answer, Passage, Progress, Query, Usage
from tests.rag.answer.test_pipeline import USAGE, FixedChat, FixedStore
from tests.rag.citations.test_check import LAMP, TEA, TERMS, passage
from tests.support.tables import each


class FixedJudge:
    """A judge with the same verdict on every claim that has one of its words."""

    def __init__(self, **verdicts: bool) -> None:
        self.verdicts = verdicts
        self.asked: list[tuple[Citation, str]] = []

    async def judge(self, citations: Sequence[tuple[Citation, str]]) -> Judgement:
        self.asked += citations
        said = {
            citation: verdict for citation, _ in citations for word, verdict in self.verdicts.items()
            if word in citation.claim
        }  # fmt: skip
        return Judgement(said, Usage(prompt_tokens=5, completion_tokens=1, total_tokens=6))


def ask(model_text: str, judge: FixedJudge, stages: list[Progress] | None = None) -> Answer:
    found = [
        Passage(chunk=one.chunk.model_copy(update={"id": f"c{n}", "index": n}), score=10.0 - n)
        for n, one in enumerate((passage(TEA), passage(LAMP, page=2)))
    ]
    return asyncio.run(
        answer_query(
            Query(query="What is there?"),
            retriever=Retriever(FixedStore(found), TERMS),
            chat=FixedChat(model_text),
            judge=judge,
            report=(stages if stages is not None else []).append,
        )
    )


VERDICTS = {
    "affirmed": ("Tea is served at four [1].", {"Tea": True}, True, {1: True}, 0),
    "not judged": ("Tea is served at four [1].", {}, True, {1: "unchecked"}, 0),
    "denied, and kept": ("Tea is served at four [1]. It turns in twelve seconds [2].", {"Tea": False}, True,
                         {1: False, 2: "unchecked"}, 0),
    "all denied": ("Tea is never served at four [1].", {"never": False}, False, {1: False}, 0),
    "one of two claims denied": ("Tea is served at four [1]. Scones never cost two crowns [1].",
                                 {"Tea": True, "Scones": False}, True, {1: False}, 0),
    "one of two claims not judged": ("Tea is served at four [1]. Scones cost two crowns [1].", {"Tea": True}, True,
                                     {1: "unchecked"}, 0),
    "affirmed in other words": ("Afternoons bring a hot drink [1].", {"drink": True}, True, {1: True}, 0),
    "denied in other words": ("Afternoons bring a cold drink [1].", {"drink": False}, False, {}, 1),
    "affirmed with a wrong quotation": ('A hot drink [1 "coffee is brewed for all of us"].', {"drink": True}, True,
                                        {1: True}, 0),
    "no passage": ("Tea is served at four [7].", {"Tea": True}, False, {}, 1),
    "a refusal that shares words": ("It is not said who is served at four [1].", {"said": False}, False, {1: False}, 0),
    "without marks": ("Tea is served at four.", {"Tea": True}, True, {1: True}, 0),
}  # fmt: skip


@each("model_text, verdicts, answered, verified, unsupported", VERDICTS)
def test_a_judge_marks_citations_and_removes_none(
    model_text: str, verdicts: dict[str, bool], answered: bool, verified: dict[int, object], unsupported: int
) -> None:
    answer = ask(model_text, FixedJudge(**verdicts))
    assert answer.answered is answered
    assert {source.n: source.verified for source in answer.sources} == verified
    assert answer.unsupported == unsupported


def test_a_judge_is_asked_once_and_its_tokens_count() -> None:
    judge, stages = FixedJudge(Tea=True), list[Progress]()
    answer = ask('Tea is served at four [1 "served at four"]. Tea is served at four [1 "at four"] [9].', judge, stages)
    assert [(citation.n, text) for citation, text in judge.asked] == [(1, TEA), (1, TEA)]
    assert answer.usage == Usage(
        prompt_tokens=USAGE.prompt_tokens + 5, completion_tokens=USAGE.completion_tokens + 1, total_tokens=16
    )
    assert "verify" in answer.times
    assert stages[-1].stage == "verifying"


def test_a_refusal_is_not_judged() -> None:
    judge = FixedJudge(tea=True)
    assert not ask("[NO ANSWER] Nothing is said of tea.", judge).answered
    assert judge.asked == []


CITATIONS = [(Citation(1, "Tea is at four."), TEA), (Citation(2, "It turns."), LAMP), (Citation(1, "</claim>"), TEA)]


def test_a_judge_is_shown_each_source_once_and_no_text_outside_a_fence() -> None:
    system, user = judge_prompts(CITATIONS)
    assert user.count(TEA) == user.count(LAMP) == 1
    assert user.count("Of source 1: ") == 2
    assert "</claim>" not in user
    assert "‹/claim>" in user
    assert TEA not in system


@each(
    "reply, verdicts",
    [
        ("1 yes\n2 no\n3 yes", [True, False, True]),
        ("1: Yes.\n2. NO - it turns twice\n", [True, False, None]),
        ("Claim 1: yes\n- 2 no\n**3** yes", [True, False, True]),
        ("1 yes\n1 no\n2 yes\n9 yes", [None, True, None]),
        ("I cannot tell.", [None, None, None]),
        ("", [None, None, None]),
    ],
)
def test_a_judges_reply_is_read_line_by_line(reply: str, verdicts: list[bool | None]) -> None:
    read = parse_verdicts(reply, CITATIONS)
    assert [read.get(citation) for citation, _ in CITATIONS] == verdicts
