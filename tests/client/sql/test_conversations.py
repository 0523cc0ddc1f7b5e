"""The tables of conversations: one contract for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from client.sql.conversations import MAX_TURNS, ConversationRepository
from client.sql.database import Database
from schemas.conversations import Conversation, ConversationItem
from settings import Settings


@pytest.fixture
def repository(database_settings: Settings) -> Iterator[ConversationRepository]:
    database = Database(database_settings)
    yield ConversationRepository(database)
    database.close()


def said(job_id: str, question: str, answer: str) -> list[ConversationItem]:
    asked: dict[str, Any] = {"role": "user", "content": [{"type": "input_text", "text": question}]}
    answered = {"type": "answer", "answer": {"text": answer, "sources": []}, "cites_files": False}
    return [ConversationItem(item_id=f"{job_id}-0", data=asked), ConversationItem(item_id=job_id, data=answered)]


def test_a_repeated_turn_is_kept_once_and_the_last_turns_are_read(repository: ConversationRepository) -> None:
    for n in range(10):
        for attempt in range(2):
            repository.add_turn("local", "c", f"j{n}", said(f"j{n}", f"q{n}", f"a{attempt}"), begins=True)
    turns = repository.turns("local", "c", job_id="new")
    assert [turn.question for turn in turns] == [f"q{n}" for n in range(10 - MAX_TURNS, 10)]
    assert {turn.answer for turn in turns} == {"a1"}
    assert repository.turns("local", "c", job_id="j9")[-1].question == "q8"
    assert repository.turns("somebody else", "c", job_id="new") == []
    conversation = repository.get("c", user_id="local")
    assert conversation is not None
    assert len(repository.items(conversation, limit=100, after=None, ascending=True)) == 20
    after = repository.items(conversation, limit=100, after="j8", ascending=True)
    assert [item.item_id for item in after] == ["j9-0", "j9"]
    before = repository.items(conversation, limit=2, after="j1-0", ascending=False)
    assert [item.item_id for item in before] == ["j0", "j0-0"]


def test_unused_conversations_are_deleted_and_kept_ones_stay(repository: ConversationRepository) -> None:
    now = datetime.now(UTC)
    kept = Conversation(conversation_id="kept", user_id="local", kept=True, created_at=now, updated_at=now)
    repository.add(kept, said("j0", "q0", "a0"))
    repository.add_turn("local", "c", "j1", said("j1", "q1", "a1"), begins=True)
    assert repository.remove_unused(unused_seconds=60) == 0
    listed = repository.listed("local", limit=10, before=None)
    assert [(one.conversation_id, title) for one, title in listed] == [("c", "q1"), ("kept", "q0")]
    assert repository.remove_unused(unused_seconds=0) == 1
    assert [one.conversation_id for one, _ in repository.listed(None, limit=10, before=None)] == ["kept"]
    repository.add_turn("local", "c", "j2", said("j2", "q2", "a2"), begins=False)
    assert repository.get("c", user_id="local") is None
    assert repository.turns("local", "c", job_id="") == []
