"""Follow-up questions rewritten to stand alone, so that a search can answer them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.answer.fence import Fence
from rag.answer.pipeline import ChatModel
from rag.text.invisible import strip_controls
from rag.text.language import content_words, is_follow_up
from schemas import MAX_QUERY_CHARS, Turn

# Room for the reasoning of a model that thinks first. Of the reply, _is_acceptable bounds the length.
MAX_REWRITE_TOKENS = 2_000
# The model sees this much of an earlier answer: enough to know what "it" refers to.
MAX_ANSWER_CHARS = 500
# A follow-up gets the words of this many earlier questions: the last question, and the question it refers to.
MAX_EARLIER_QUESTIONS = 2

_SYSTEM = """You rewrite the last question of a conversation so that it can be understood alone.
- Replace words like "it" or "there" by what they stand for in the turns before it.
- Change nothing else, keep its language, and do not answer it. If it stands alone already, repeat it.
- Reply with the question only, on one line, without links.
- """
# A rewritten question may be this much longer than the original: a rewrite adds names, not a page of instructions.
MAX_ADDED_CHARS = 300
_LINK = re.compile(r"[a-z][a-z0-9+.-]*://|www\.|\]\s*\(|<\s*[a-z!/]", re.IGNORECASE)


async def rewrite_follow_up(question: str, turns: Sequence[Turn], chat: ChatModel | None) -> str:
    """Return the question rewritten to stand alone, without the earlier turns, which are given oldest first.

    Without a model, a follow-up gets the words of the last question added: a search by words then finds the subject of
    both questions. A question that names its subject stays as it is.

    Raises ProviderError.
    """
    if not turns:
        return question
    if chat is None:
        return _with_earlier_words(question, turns) if is_follow_up(question) else question
    fence = Fence()
    earlier = [
        fence.wrap("turn", f"Question: {turn.question}\nAnswer: {turn.answer[:MAX_ANSWER_CHARS]}") for turn in turns
    ]
    prompt = "\n\n".join([*earlier, fence.wrap("question", question)])
    completion = await chat.complete(_SYSTEM + fence.explain("the turns"), prompt, max_tokens=MAX_REWRITE_TOKENS)
    rewritten = strip_controls(completion.text).strip()
    return rewritten if completion.incomplete is None and _is_acceptable(rewritten, question) else question


def _with_earlier_words(question: str, turns: Sequence[Turn]) -> str:
    """Add the content words of the last turn's question; if that question is a follow-up, of the turn before too."""
    added: dict[str, str] = {word.lower(): "" for word in content_words(question)}
    used_questions = 0
    for turn in reversed(turns):
        words = content_words(turn.question)
        added = {word.lower(): word for word in words} | added
        used_questions += bool(words)
        if used_questions == MAX_EARLIER_QUESTIONS or (words and not is_follow_up(turn.question)):
            break
    return " ".join([question, *filter(None, added.values())])[:MAX_QUERY_CHARS].strip()


def _is_acceptable(rewritten: str, question: str) -> bool:
    """Return True if a rewritten question may replace the original.

    Instructions hidden in earlier answers may have controlled the model, so long or multi-line questions and questions
    that gained a link are refused.
    """
    max_chars = min(MAX_QUERY_CHARS, len(question) + MAX_ADDED_CHARS)
    return (
        0 < len(rewritten) <= max_chars
        and "\n" not in rewritten
        and (not _LINK.search(rewritten) or bool(_LINK.search(question)))
    )
