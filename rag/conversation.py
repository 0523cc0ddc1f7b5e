"""Follow-up questions made to stand alone, so that a search can answer them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag.answer import ChatModel
from rag.fence import Fence
from schemas import MAX_QUERY_CHARS, Turn

MAX_REWRITE_TOKENS = 300
# Of an earlier answer the model sees so much: enough to know what "it" is.
MAX_ANSWER_CHARS = 500

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

    Without a model, the last question is added to it: a search by words then finds what both are about.
    """
    if not turns:
        return question
    if chat is None:
        return f"{question} {turns[-1].question}"[:MAX_QUERY_CHARS].strip()
    fence = Fence()
    said = [
        fence.around("turn", f"Question: {turn.question}\nAnswer: {turn.answer[:MAX_ANSWER_CHARS]}") for turn in turns
    ]
    prompt = "\n\n".join([*said, fence.around("question", question)])
    rewritten = chat.complete(_SYSTEM + fence.rule("the turns"), prompt, max_tokens=MAX_REWRITE_TOKENS).text.strip()
    return rewritten if _is_question(rewritten, question) else question


def _is_question(rewritten: str, asked: str) -> bool:
    """Tell whether a model's rewriting may take a question's place: earlier answers may have told it what to write."""
    longest = min(MAX_QUERY_CHARS, len(asked) + MAX_ADDED_CHARS)
    return (
        0 < len(rewritten) <= longest
        and "\n" not in rewritten
        and (not _LINK.search(rewritten) or bool(_LINK.search(asked)))
    )
