"""Conversations and their items."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.base import Frozen


class Conversation(Frozen):
    """A conversation of a user. `details` are the user's texts.

    A conversation that is not `kept` is deleted once nothing was added for as long as results are kept.
    """

    conversation_id: str
    user_id: str
    details: dict[str, str] = {}  # noqa: RUF012  pydantic copies it
    kept: bool = False
    created_at: datetime
    updated_at: datetime


class ConversationItem(Frozen):
    """Something that was said: an item of a client in OpenAI's form, or the answer of a job.

    The `data` of an answer has `type` "answer", the Answer as `answer`, and `cites_files`.
    """

    item_id: str
    job_id: str | None = None
    data: dict[str, Any]
    created_at: datetime | None = None

    @property
    def said(self) -> tuple[str, str] | None:
        """The role and the text of a question or an answer; None for another item."""
        if self.data.get("type") == "answer":
            return "assistant", str(self.data["answer"]["text"])
        role, content = self.data.get("role"), self.data.get("content")
        if role not in {"user", "assistant"}:
            return None
        parts = [content] if isinstance(content, str) else [part.get("text") for part in content or ()]
        text = "\n".join(part for part in parts if isinstance(part, str)).strip()
        return (str(role), text) if text else None
