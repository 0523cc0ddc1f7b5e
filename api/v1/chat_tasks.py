"""Tasks of chat programs among the messages of a chat: they want a title, tags or the next questions, and no answer.

Open WebUI sends such a task as one message in a form of its own, to the model of the chat or to its task model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from api.v1.errors import ApiError, unsupported
from schemas import MAX_TASK_CHARS, check_text
from settings import Settings

# What lists of jobs show as the question.
TASK_NAME: Final = "A title, tags or questions for a chat program"
# How such a task begins, and what it always holds.
_BEGINNING: Final = "### Task:\n"
_CHAT: Final = "<chat_history>"


def chat_task(messages: Sequence[Any], settings: Settings) -> str | None:
    """Return the task in the only message of a chat; None for a question. Raises ApiError."""
    if len(messages) != 1 or not isinstance(messages[0], dict):
        return None
    text = messages[0].get("content")
    if not (isinstance(text, str) and text.startswith(_BEGINNING) and _CHAT in text):
        return None
    if settings.offline:
        raise unsupported(
            "messages[0].content",
            "titles and tags need a model: set OPENAI_API_KEY or OPENAI_BASE_URL, or turn them off",
        )
    if len(text) > MAX_TASK_CHARS:
        message = f"messages[0].content: a task has at most {MAX_TASK_CHARS:,} characters: send less"
        raise ApiError(message, code="string_above_max_length", param="messages[0].content")
    try:
        return check_text(text)
    except ValueError as error:
        message = f"messages[0].content: {error}"
        raise ApiError(message, code="invalid_request_error", param="messages[0].content") from None
