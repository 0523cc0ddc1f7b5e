"""A judge's word on citations: what a comparison of words cannot tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rag.answer.fence import Fence
from rag.citations.check import Citation, Verdicts
from schemas import Usage

_SYSTEM = """You check claims against sources. Each claim names its source by number.
- Say yes if that source states the whole claim or it follows from the source directly, in whatever words or language.
- Say no if anything in it differs from the source or is not in it: a name, who did what to whom, a number, a unit, a \
date, a negation, a cause, how certain or how general it is.
- Say no if the claim only says that something is missing or not known.
- Reply with one line for each claim, its number and yes or no, such as "1 yes", and nothing else.
- """
_VERDICT = re.compile(r"^\W*(?:claim\W+)?(\d{1,4})\W+(yes|no)\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts that a judge reached, and the tokens that they cost."""

    verdicts: Verdicts = field(default_factory=dict)
    usage: Usage | None = None


class Judge(Protocol):
    """Says which citations are right, each given with the text of its passage. Fails never, and is never late.

    A citation that it could not judge has no verdict.
    """

    async def judge(self, citations: Sequence[tuple[Citation, str]]) -> Judgement: ...


def judge_prompts(citations: Sequence[tuple[Citation, str]]) -> tuple[str, str]:
    """Return the rules for a judge, and the sources and claims, numbered from 1. No text stands outside a fence."""
    fence = Fence()
    sources = {text: n for n, text in enumerate(dict.fromkeys(text for _, text in citations), start=1)}
    parts = [fence.wrap("source", text, n=n) for text, n in sources.items()]
    parts += [
        fence.wrap("claim", f"Of source {sources[text]}: {citation.claim}", n=n)
        for n, (citation, text) in enumerate(citations, start=1)
    ]
    return _SYSTEM + fence.explain("the sources and claims"), "\n\n".join(parts)


def parse_verdicts(reply: str, citations: Sequence[tuple[Citation, str]]) -> dict[Citation, bool]:
    """Return the verdicts in a judge's reply; a citation without one, or with two, is missing."""
    said: dict[int, set[bool]] = {}
    for number, word in _VERDICT.findall(reply):
        said.setdefault(int(number), set()).add(word.lower() == "yes")
    return {
        citation: True in said[n] for n, (citation, _) in enumerate(citations, start=1) if len(said.get(n, ())) == 1
    }
