"""The judge of citations: one call an answer, within its time and tokens, and verdicts that are remembered."""

from __future__ import annotations

import asyncio
from typing import Any

from client.llm.judge import ChatJudge
from errors import ProviderUnavailable
from rag.citations.check import Citation
from schemas import Completion, Usage

TEXT = "Tea is served at four."
CITATIONS = [(Citation(1, "Tea is at four."), TEXT), (Citation(1, "Tea is at nine."), TEXT)]
USAGE = Usage(total_tokens=7)


class Chat:
    """A chat model that replies with the same text, fails, or waits without end."""

    def __init__(self, reply: str = "1 yes\n2 no", *, fails: bool = False, waits: bool = False) -> None:
        self.reply, self.fails, self.waits = reply, fails, waits
        self.calls: list[dict[str, Any]] = []

    async def complete(self, system: str, user: str, **options: Any) -> Completion:
        self.calls.append({"system": system, "user": user} | options)
        if self.fails:
            raise ProviderUnavailable("the provider is away")
        if self.waits:
            await asyncio.Event().wait()
        return Completion(text=self.reply, model="judge", usage=USAGE)


def judge(chat: Chat, *, seconds: float = 30, tokens: int = 1_000) -> ChatJudge:
    return ChatJudge(chat, "judge", seconds=seconds, tokens=tokens)


def test_verdicts_are_asked_in_one_call_and_remembered() -> None:
    chat = Chat()
    asked = judge(chat)
    first = asyncio.run(asked.judge(CITATIONS))
    assert list(first.verdicts.values()) == [True, False]
    assert first.usage == USAGE
    again = asyncio.run(asked.judge(CITATIONS[::-1]))
    assert (again.verdicts, again.usage) == (first.verdicts, None)
    assert [call["model"] for call in chat.calls] == ["judge"]


def test_a_judge_that_fails_or_is_late_leaves_citations_open(caplog: Any) -> None:
    for chat in (Chat(fails=True), Chat(waits=True), Chat("no idea")):
        asked = judge(chat, seconds=0.05)
        assert asyncio.run(asked.judge(CITATIONS)).verdicts == {}
        assert len(chat.calls) == 1
    assert "VERIFY_MODEL failed: the provider is away" in caplog.text
    assert "longer than 0.05 s" in caplog.text


def test_no_more_tokens_are_sent_than_allowed() -> None:
    chat = Chat("1 yes")
    many = [(Citation(n, f"Claim {n}."), f"Source {n} is here. " * 20) for n in range(1, 9)]
    asked = judge(chat, tokens=300)
    found = asyncio.run(asked.judge(many))
    assert list(found.verdicts) == [many[0][0]]
    assert 1 < chat.calls[0]["user"].count("Of source") < 8
    assert asyncio.run(judge(chat, tokens=100).judge([(Citation(1, "x"), "word " * 200)])).verdicts == {}
    assert len(chat.calls) == 1
