"""Follow-up questions made to stand alone, so that a search can answer them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.answer.fence import Fence
from rag.answer.pipeline import ChatModel
from rag.text.language import content_words, is_follow_up
from schemas import MAX_QUERY_CHARS, Turn

MAX_REWRITE_TOKENS = 300
# Of an earlier answer the model sees so much: enough to know what "it" is.
MAX_ANSWER_CHARS = 500
# How many earlier questions lend their words to a follow-up: the last, and what that one leaned on.
MAX_LEANED_ON = 2

_SYSTEM = """You rewrite the last question of a conversation so that it can be understood alone.
- Replace words like "it" or "there" by what they stand for in the turns before it.
- Change nothing else, keep its language, and do not answer it. If it stands alone already, repeat it.
- Reply with the question only, on one line, without links.
- """
# What a question gains by being rewritten: the names its words stand for, not a page of orders.
MAX_ADDED_CHARS = 300
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://|www\.|\]\s*\(|<\s*[a-z!/]", re.IGNORECASE)


def standalone(question: str, turns: Sequence[Turn], chat: ChatModel | None) -> str:
    """Return the question as it reads without the turns before it, oldest first. Raises ProviderError.

    Without a model, the words of the last question are added to one that leans on it: a search by words then finds
    what both are about. One that says by itself what it is about is left as it is.
    """
    if not turns:
        return question
    if chat is None:
        return _with_last_words(question, turns) if is_follow_up(question) else question
    fence = Fence()
    said = [
        fence.around("turn", f"Question: {turn.question}\nAnswer: {turn.answer[:MAX_ANSWER_CHARS]}") for turn in turns
    ]
    prompt = "\n\n".join([*said, fence.around("question", question)])
    rewritten = chat.complete(_SYSTEM + fence.rule("the turns"), prompt, max_tokens=MAX_REWRITE_TOKENS).text.strip()
    return rewritten if _is_question(rewritten, question) else question


def _with_last_words(question: str, turns: Sequence[Turn]) -> str:
    """Add what the last question was about, and what the one before it was while that one leaned on it in turn."""
    added: dict[str, str] = {word.lower(): "" for word in content_words(question)}
    leaned_on = 0
    for turn in reversed(turns):
        words = content_words(turn.question)
        added = {word.lower(): word for word in words} | added
        leaned_on += bool(words)
        if leaned_on == MAX_LEANED_ON or (words and not is_follow_up(turn.question)):
            break
    return " ".join([question, *filter(None, added.values())])[:MAX_QUERY_CHARS].strip()


def _is_question(rewritten: str, asked: str) -> bool:
    """Tell whether a model's rewriting may take a question's place: earlier answers may have told it what to write."""
    longest = min(MAX_QUERY_CHARS, len(asked) + MAX_ADDED_CHARS)
    return (
        0 < len(rewritten) <= longest
        and "\n" not in rewritten
        and (not _LINK.search(rewritten) or bool(_LINK.search(asked)))
    )
