"""The users that the tables name, and what each of them has. A user is a text: there is no table of users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, or_, select, union

from client.sql.database import ApiKeyRow, ConversationRow, Database, UploadRow
from client.sql.uploads import NOT_DELETING


@dataclass(frozen=True, slots=True)
class UserUse:
    """A user: valid keys, uploads with their size in bytes, and conversations."""

    user_id: str
    keys: int
    uploads: int
    stored_bytes: int
    conversations: int


class UserRepository:
    """Reads who uses the service. Safe for threads and processes. Every method raises UploadsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, *, limit: int, after: str | None) -> list[UserUse]:
        """Return up to `limit` users, in the order of their ids, after an id."""
        tables = (UploadRow, ApiKeyRow, ConversationRow)
        named = union(*(select(table.user_id) for table in tables)).subquery()
        column = named.c.user_id
        listed = select(column).order_by(column).limit(limit)
        if after is not None:
            listed = listed.where(column > after)
        with self._database.reading() as connection:
            ids = list(connection.execute(listed).scalars())
            keys = _by_user(connection, ApiKeyRow, ids, func.count(), condition=_valid())
            uploads = _by_user(connection, UploadRow, ids, func.count(), condition=NOT_DELETING)
            stored = _by_user(connection, UploadRow, ids, func.sum(UploadRow.bytes), condition=NOT_DELETING)
            conversations = _by_user(connection, ConversationRow, ids, func.count())
        return [
            UserUse(
                user_id=user_id,
                keys=keys.get(user_id, 0),
                uploads=uploads.get(user_id, 0),
                stored_bytes=stored.get(user_id, 0),
                conversations=conversations.get(user_id, 0),
            )
            for user_id in ids
        ]


def _valid() -> Any:
    lasting = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > datetime.now(UTC))
    return ApiKeyRow.revoked_at.is_(None) & lasting


def _by_user(connection: Any, table: Any, ids: list[str], value: Any, *, condition: Any = None) -> dict[str, int]:
    """Return a value of the rows of each of these users."""
    query = select(table.user_id, value).where(table.user_id.in_(ids)).group_by(table.user_id)
    if condition is not None:
        query = query.where(condition)
    return {user_id: int(number) for user_id, number in connection.execute(query)}
