"""The tables of conversations and of their items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, true, tuple_, update

from client.sql.database import ConversationItemRow, ConversationRow, Database, DuplicateRow
from schemas import Turn
from schemas.conversations import Conversation, ConversationItem

MAX_TURNS: Final = 6
# The last turns are among these items, unless a client adds items that nobody said.
_READ_FOR_TURNS: Final = 50
MAX_ITEMS: Final = 10_000
_ITEM_COLUMNS = [
    column for column in ConversationItemRow.__table__.columns if column.name in ConversationItem.model_fields
]


class TooManyItems(Exception):
    """A conversation would have more than MAX_ITEMS items."""


class ConversationRepository:
    """Reads and changes conversations. Safe for threads and processes. Every method raises UploadsUnavailable.

    A `user_id` of None means the conversations of all users.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, conversation: Conversation, items: Sequence[ConversationItem] = ()) -> None:
        """Add a conversation with its first items. Raises DuplicateRow if the user has one with this id."""
        with self._database.writing() as connection:
            connection.execute(insert(ConversationRow).values(conversation.model_dump()))
            _insert(connection, conversation.user_id, conversation.conversation_id, items)

    def get(self, conversation_id: str, *, user_id: str | None) -> Conversation | None:
        """Return a conversation; None when the user has no such conversation. Among those of all users: the newest."""
        one = select(ConversationRow.__table__).where(
            ConversationRow.conversation_id == conversation_id, _of_user(user_id)
        )
        with self._database.reading() as connection:
            row = connection.execute(one.order_by(ConversationRow.updated_at.desc()).limit(1)).first()
        return None if row is None else _conversation(row)

    def listed(
        self, user_id: str | None, *, limit: int, before: datetime | None
    ) -> list[tuple[Conversation, str | None]]:
        """Return conversations that were last used before a time, the newest first, with the first item of each."""
        newest = select(ConversationRow.__table__).where(_of_user(user_id))
        if before is not None:
            newest = newest.where(ConversationRow.updated_at < before)
        newest = newest.order_by(ConversationRow.updated_at.desc(), ConversationRow.conversation_id).limit(limit)
        with self._database.reading() as connection:
            found = [_conversation(row) for row in connection.execute(newest)]
            titles = _titles(connection, found) if found else {}
        return [(one, titles.get((one.user_id, one.conversation_id))) for one in found]

    def change(self, conversation: Conversation, details: dict[str, str]) -> None:
        """Give a conversation other texts of the user."""
        with self._database.writing() as connection:
            connection.execute(
                update(ConversationRow).where(_same(ConversationRow, conversation)).values(details=details)
            )

    def remove(self, conversation: Conversation) -> None:
        """Delete a conversation with its items."""
        with self._database.writing() as connection:
            for table in (ConversationItemRow, ConversationRow):
                connection.execute(delete(table).where(_same(table, conversation)))

    def remove_unused(self, *, unused_seconds: float) -> int:
        """Delete the conversations that are not kept and to which nothing was added for a time; return how many."""
        before = datetime.now(UTC) - timedelta(seconds=unused_seconds)
        unused = select(ConversationRow.__table__).where(
            ConversationRow.kept.is_(False), ConversationRow.updated_at < before
        )
        with self._database.reading() as connection:
            found = [_conversation(row) for row in connection.execute(unused.limit(100))]
        for conversation in found:
            self.remove(conversation)
        return len(found)

    def items(
        self, conversation: Conversation, *, limit: int, after: str | None, ascending: bool
    ) -> list[ConversationItem]:
        """Return up to `limit` items after an item, in the order in which they were added."""
        column = ConversationItemRow.place
        listed = select(*_ITEM_COLUMNS).where(_same(ConversationItemRow, conversation))
        if after is not None:
            named = _same(ConversationItemRow, conversation), ConversationItemRow.item_id == after
            place = select(column).where(*named).scalar_subquery()
            listed = listed.where(column > place if ascending else column < place)
        listed = listed.order_by(column if ascending else column.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_item(row) for row in connection.execute(listed)]

    def item(self, conversation: Conversation, item_id: str) -> ConversationItem | None:
        """Return an item; None when the conversation has no such item."""
        one = select(*_ITEM_COLUMNS).where(
            _same(ConversationItemRow, conversation), ConversationItemRow.item_id == item_id
        )
        with self._database.reading() as connection:
            row = connection.execute(one).first()
        return None if row is None else _item(row)

    def add_items(self, conversation: Conversation, items: Sequence[ConversationItem]) -> None:
        """Add items at the end. Raises TooManyItems."""
        with self._database.writing() as connection:
            _insert(connection, conversation.user_id, conversation.conversation_id, items)
            used = update(ConversationRow).where(_same(ConversationRow, conversation))
            connection.execute(used.values(updated_at=datetime.now(UTC)))

    def remove_item(self, conversation: Conversation, item_id: str) -> None:
        """Delete an item."""
        with self._database.writing() as connection:
            same = (_same(ConversationItemRow, conversation), ConversationItemRow.item_id == item_id)
            connection.execute(delete(ConversationItemRow).where(*same))

    def turns(self, user_id: str, conversation_id: str, *, job_id: str) -> list[Turn]:
        """Return the last turns, oldest first. Leaves out the job's own turn, in case it runs again."""
        here = _named(ConversationItemRow, user_id, conversation_id)
        last = select(*_ITEM_COLUMNS).where(here).order_by(ConversationItemRow.place.desc()).limit(_READ_FOR_TURNS)
        with self._database.reading() as connection:
            items = [_item(row) for row in connection.execute(last)]
        return _turns([item for item in reversed(items) if item.job_id != job_id])

    def add_turn(
        self, user_id: str, conversation_id: str, job_id: str, items: Sequence[ConversationItem], *, begins: bool
    ) -> None:
        """Add the items of a job, in place of those that an earlier attempt at the job added.

        `begins`: make the conversation if there is none; else nothing is added to a conversation that was deleted.
        """
        try:
            self._add_turn(user_id, conversation_id, job_id, items, begins=begins)
        except DuplicateRow:  # another process has just made the conversation
            self._add_turn(user_id, conversation_id, job_id, items, begins=begins)

    def _add_turn(
        self, user_id: str, conversation_id: str, job_id: str, items: Sequence[ConversationItem], *, begins: bool
    ) -> None:
        now = datetime.now(UTC)
        same = _named(ConversationRow, user_id, conversation_id)
        with self._database.writing() as connection:
            used = connection.execute(update(ConversationRow).where(same).values(updated_at=now))
            if not used.rowcount:
                if not begins:
                    return
                new = Conversation(conversation_id=conversation_id, user_id=user_id, created_at=now, updated_at=now)
                connection.execute(insert(ConversationRow).values(new.model_dump()))
            of_job = (_named(ConversationItemRow, user_id, conversation_id), ConversationItemRow.job_id == job_id)
            connection.execute(delete(ConversationItemRow).where(*of_job))
            _insert(connection, user_id, conversation_id, items, job_id=job_id)


def _titles(connection: Any, conversations: Sequence[Conversation]) -> dict[tuple[str, str], str]:
    """Return what was said first in conversations, by user and id."""
    owner, name = ConversationItemRow.user_id, ConversationItemRow.conversation_id
    keys = [(one.user_id, one.conversation_id) for one in conversations]
    first = select(func.min(ConversationItemRow.place)).where(tuple_(owner, name).in_(keys)).group_by(owner, name)
    rows = connection.execute(select(owner, name, *_ITEM_COLUMNS).where(ConversationItemRow.place.in_(first)))
    titles = {}
    for row in rows:
        user_id, conversation_id, *columns = row
        item = ConversationItem(**dict(zip([column.name for column in _ITEM_COLUMNS], columns, strict=True)))
        if item.said is not None:
            titles[user_id, conversation_id] = item.said[1]
    return titles


def _turns(items: Sequence[ConversationItem]) -> list[Turn]:
    """Return the questions with their answers, oldest first."""
    turns: list[Turn] = []
    question = ""
    for item in items:
        role, text = item.said or ("", "")
        if role == "user":
            question = text
        elif role == "assistant" and question:
            turns.append(Turn(job_id=item.job_id or "", question=question, answer=text))
            question = ""
    return turns[-MAX_TURNS:]


def _insert(
    connection: Any, user_id: str, conversation_id: str, items: Sequence[ConversationItem], *, job_id: str | None = None
) -> None:
    if not items:
        return
    here = _named(ConversationItemRow, user_id, conversation_id)
    present = connection.execute(select(func.count()).select_from(ConversationItemRow).where(here)).scalar_one()
    if job_id is None and present + len(items) > MAX_ITEMS:
        raise TooManyItems
    values = {"user_id": user_id, "conversation_id": conversation_id, "job_id": job_id, "created_at": datetime.now(UTC)}
    rows = [values | {"item_id": item.item_id, "data": item.data} for item in items]
    connection.execute(insert(ConversationItemRow), rows)


def _of_user(user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else ConversationRow.user_id == user_id


def _named(table: Any, user_id: str, conversation_id: str) -> ColumnElement[bool]:
    return and_(table.user_id == user_id, table.conversation_id == conversation_id)


def _same(table: Any, conversation: Conversation) -> ColumnElement[bool]:
    return _named(table, conversation.user_id, conversation.conversation_id)


def _conversation(row: Any) -> Conversation:
    return Conversation.model_validate(dict(row._mapping))  # noqa: SLF001  SQLAlchemy's documented name


def _item(row: Any) -> ConversationItem:
    return ConversationItem.model_validate(dict(row._mapping))  # noqa: SLF001
