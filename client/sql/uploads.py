"""The table of uploads.

Every change of a row names the state that the row must still have. So two processes that work on one upload cannot
undo each other's changes: the second change matches no row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    select,
    true,
    tuple_,
    update,
)

from client.sql.database import Database, DuplicateRow, StoreFileRow, UploadRow
from client.sql.recognized_pages import drop_reading, drop_readings, keep_reading
from client.sql.scopes import (
    SEARCHED,
    SearchScope,
    read_members,
    read_names,
    read_scope,
    read_searchable,
    read_searchable_version,
)
from errors import IndexSwitched, InvalidRequest
from schemas import PageWarning, Upload, UploadStatus
from schemas.stores import StoreMembers

MAX_ERROR_CHARS = 1_000
# Reason and error of an upload whose job was cancelled.
CANCELLED = ("cancelled", "its indexing was cancelled; index it again")
BATCH = 500
NOT_DELETING = UploadRow.status != UploadStatus.DELETING
# The columns that Upload shows.
UPLOAD_COLUMNS = [column for column in UploadRow.__table__.columns if column.name in Upload.model_fields]


class UploadRepository:
    """Reads and changes uploads. Safe for threads and processes. Every method raises UploadsUnavailable.

    A `user_id` of None means the uploads of all users. A method that changes an upload returns it as it is afterwards,
    or None when the row is gone or no longer has the expected state.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, upload: Upload, *, unique: bool) -> Upload:
        """Add and return an upload. With `unique`, return the user's earlier upload of the same content instead."""
        try:
            return self._add(upload, unique=unique)
        except DuplicateRow:  # another process has just added the content: this time its row is found
            return self._add(upload, unique=unique)

    def _add(self, upload: Upload, *, unique: bool) -> Upload:
        with self._database.writing() as connection:
            if unique:
                same = connection.execute(
                    select(*UPLOAD_COLUMNS)
                    .where(_same_content(upload.user_id, upload.sha256))
                    .order_by(UploadRow.created_at, UploadRow.upload_id)
                    .limit(1)
                ).first()
                if same is not None:
                    return _upload(same)
            values = upload.model_dump() | {"unique_sha256": upload.sha256 if unique else None}
            connection.execute(insert(UploadRow).values(values))
        return upload

    def get(self, upload_id: str, *, user_id: str | None = None) -> Upload | None:
        """Return an upload, or None when the user has no such upload."""
        condition = and_(UploadRow.upload_id == upload_id, _of_user(user_id))
        with self._database.reading() as connection:
            row = connection.execute(select(*UPLOAD_COLUMNS).where(condition)).first()
        return None if row is None else _upload(row)

    def page(
        self,
        user_id: str | None,
        *,
        limit: int,
        status: UploadStatus | None = None,
        name: str | None = None,
        cursor: str | None = None,
    ) -> tuple[list[Upload], str | None]:
        """Return a page of uploads, newest first, and the cursor of the next page; None after the last page.

        `name` is a part of the upload's name, in upper or lower case. Raises InvalidRequest for a malformed cursor.
        """
        conditions = [_of_user(user_id)]
        if status is not None:
            conditions.append(UploadRow.status == status)
        if name:
            conditions.append(UploadRow.name.icontains(name, autoescape=True))
        if cursor is not None:
            conditions.append(tuple_(UploadRow.created_at, UploadRow.upload_id) < _parse_cursor(cursor))
        newest = select(*UPLOAD_COLUMNS).where(*conditions)
        newest = newest.order_by(UploadRow.created_at.desc(), UploadRow.upload_id.desc()).limit(limit + 1)
        with self._database.reading() as connection:
            uploads = [_upload(row) for row in connection.execute(newest)]
        more = len(uploads) > limit
        return uploads[:limit], _cursor(uploads[limit - 1]) if more else None

    def listed(
        self, user_id: str | None, *, limit: int, after: Upload | None, ascending: bool, purpose: str | None
    ) -> list[Upload]:
        """Return up to `limit` uploads after an upload, by the time at which they were made; none being deleted."""
        place = (UploadRow.created_at, UploadRow.upload_id)
        conditions = [_of_user(user_id), NOT_DELETING]
        if purpose is not None:
            conditions.append(UploadRow.purpose == purpose)
        if after is not None:
            last = (after.created_at, after.upload_id)
            conditions.append(tuple_(*place) > last if ascending else tuple_(*place) < last)
        order = place if ascending else tuple(column.desc() for column in place)
        with self._database.reading() as connection:
            rows = connection.execute(select(*UPLOAD_COLUMNS).where(*conditions).order_by(*order).limit(limit))
            return [_upload(row) for row in rows]

    def expired(self, *, limit: int = BATCH) -> list[str]:
        """Return uploads that are to be deleted since their time has come."""
        due = select(UploadRow.upload_id).where(UploadRow.expires_at <= datetime.now(UTC), NOT_DELETING).limit(limit)
        with self._database.reading() as connection:
            return list(connection.execute(due).scalars())

    def start(self, upload_id: str, *, job_id: str | None) -> Upload | None:
        """Mark an upload as processing. None when the upload is gone, being deleted, or given to another job."""
        return self._change(
            upload_id,
            _indexed_by(job_id),
            status=UploadStatus.PROCESSING,
            pages_done=0,
            reason=None,
            error=None,
            started_at=datetime.now(UTC),
        )

    def record_progress(self, upload_id: str, *, job_id: str | None, pages_done: int, pages: int) -> Upload | None:
        """Record how many pages are indexed. None as for `start`."""
        return self._change(upload_id, _indexed_by(job_id), pages_done=pages_done, pages=pages)

    def finish(
        self,
        upload_id: str,
        *,
        job_id: str | None,
        pages: int,
        chunks: int,
        index_version: int | None = None,
        warnings: Sequence[PageWarning] = (),
    ) -> Upload | None:
        """Mark an upload as ready: every chunk is stored in a version of the index. None as for `start`.

        Raises IndexSwitched if that version is no longer searched. The version being built lacks the content then.
        """
        return self._change(
            upload_id,
            _indexed_by(job_id),
            only_while_searched=index_version,
            readings=keep_reading,
            status=UploadStatus.READY,
            pages=pages,
            pages_done=pages,
            chunks=chunks,
            warnings=[warning.model_dump() for warning in warnings],
            reason=None,
            error=None,
            indexed_at=datetime.now(UTC),
            index_version=index_version,
            built_version=None,
            build_error=None,
        )

    def fail(self, upload_id: str, *, job_id: str | None, reason: str, error: str) -> Upload | None:
        """Mark an upload as failed. None as for `start`."""
        return self._change(
            upload_id,
            _indexed_by(job_id),
            readings=drop_reading,
            status=UploadStatus.FAILED,
            reason=reason,
            error=error[:MAX_ERROR_CHARS],
        )

    def fail_if_unchanged(self, upload: Upload, *, reason: str, error: str) -> Upload | None:
        """Mark an upload as failed whose job ended without a report. None if the row has changed since it was read."""
        unchanged = and_(UploadRow.status == upload.status, UploadRow.updated_at == upload.updated_at)
        return self._change(
            upload.upload_id, unchanged, status=UploadStatus.FAILED, reason=reason, error=error[:MAX_ERROR_CHARS]
        )

    def requeue(self, upload: Upload, *, job_id: str | None, **values: Any) -> Upload | None:
        """Give an upload to another job. None when its status or job has changed since `upload` was read.

        `values` are further columns to change.
        """
        unchanged = and_(UploadRow.status == upload.status, UploadRow.job_id.is_not_distinct_from(upload.job_id))
        values = {"status": UploadStatus.QUEUED, "pages_done": 0, "reason": None, "error": None} | values
        return self._change(
            upload.upload_id, unchanged, job_id=job_id, only_while_searched=None, readings=None, **values
        )

    def mark_deleting(self, upload_id: str, *, user_id: str | None, job_id: str) -> Upload | None:
        """Hide an upload from every answer until it is deleted. An upload already being deleted is not changed."""
        marked = self._change(
            upload_id,
            and_(_of_user(user_id), NOT_DELETING),
            status=UploadStatus.DELETING,
            job_id=job_id,
            unique_sha256=None,
        )
        return marked or self.get(upload_id, user_id=user_id)

    def finish_delete(self, upload_id: str) -> None:
        """Remove the row of an upload that is being deleted, and take the upload out of every vector store."""
        self._delete(upload_id, UploadRow.status == UploadStatus.DELETING)

    def undo_add(self, upload_id: str, *, job_id: str) -> None:
        """Remove the row of an upload that was not accepted because its job could not be queued."""
        self._delete(upload_id, and_(UploadRow.job_id == job_id, UploadRow.status == UploadStatus.QUEUED))

    def has_content(self, user_id: str, sha256: str) -> bool:
        """Return True if the user has an upload of this content that is ready."""
        ready = select(UploadRow.upload_id).where(
            _same_content(user_id, sha256), UploadRow.status == UploadStatus.READY
        )
        with self._database.reading() as connection:
            return connection.execute(ready.limit(1)).first() is not None

    def searchable(self, user_id: str | None, upload_ids: Collection[str]) -> set[str]:
        """Return which of these uploads an answer may cite: indexed at least once, and not being deleted."""
        ids = list(upload_ids)
        return self._database.look_up(lambda lookup: read_searchable(lookup, user_id, ids)) if ids else set()

    def names(self, user_id: str | None, upload_ids: Collection[str]) -> dict[str, str]:
        """Return the names of the uploads that exist and belong to the user, by id."""
        ids = list(upload_ids)
        return self._database.look_up(lambda lookup: read_names(lookup, user_id, ids)) if ids else {}

    def searchable_version(self, user_id: str | None) -> str:
        """Return a text that changes when a searchable upload of the user is added, removed or indexed again.

        It changes also when another version of the index is searched.

        The number of uploads and the time of the latest indexing are enough. Time goes forward, so an earlier set
        cannot return without a later time.
        """
        return self._database.look_up(lambda lookup: read_searchable_version(lookup, user_id))

    def search_scope(self, user_id: str | None) -> SearchScope:
        """Return what a question of the user may search now."""
        return self._database.look_up(lambda lookup: read_scope(lookup, user_id))

    def members(
        self, user_id: str | None, store_ids: Sequence[str], filters: Mapping[str, Any] | None = None
    ) -> StoreMembers:
        """Return the documents of vector stores that a question of the user may search, of those that meet `filters`.

        Stores of other users have no documents.
        """
        return self._database.look_up(lambda lookup: read_members(lookup, user_id, store_ids, filters))

    def stored_bytes(self, user_id: str) -> int:
        """Return the size of all files of a user, in bytes, without uploads that are being deleted."""
        total = select(func.coalesce(func.sum(UploadRow.bytes), 0)).where(_of_user(user_id), NOT_DELETING)
        with self._database.reading() as connection:
            return int(connection.execute(total).scalar_one())

    def count_by_user(self) -> dict[str, int]:
        """Return how many uploads each user has, without uploads that are being deleted."""
        query = select(UploadRow.user_id, func.count()).where(NOT_DELETING).group_by(UploadRow.user_id)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def count_by_status(self) -> dict[UploadStatus, int]:
        """Return how many uploads of all users have each status."""
        query = select(UploadRow.status, func.count()).group_by(UploadRow.status)
        with self._database.reading() as connection:
            found = {UploadStatus(row[0]): int(row[1]) for row in connection.execute(query)}
        return dict.fromkeys(UploadStatus, 0) | found

    def hidden_ids(self, user_id: str | None) -> tuple[str, ...]:
        """Return the ids of uploads whose chunks must not be found: being deleted, or indexed for the first time."""
        return self.search_scope(user_id).hidden

    def unfinished(self, *, unchanged_seconds: float, after: str = "", limit: int = BATCH) -> list[Upload]:
        """Return unfinished uploads, unchanged for `unchanged_seconds`, by id, from the first id past `after`."""
        unfinished = (UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING)
        since = datetime.now(UTC) - timedelta(seconds=unchanged_seconds)
        condition = and_(UploadRow.status.in_(unfinished), UploadRow.updated_at <= since, UploadRow.upload_id > after)
        by_id = select(*UPLOAD_COLUMNS).where(condition).order_by(UploadRow.upload_id).limit(limit)
        with self._database.reading() as connection:
            return [_upload(row) for row in connection.execute(by_id)]

    def all(self) -> Iterator[Upload]:
        """Yield every upload of every user, by id."""
        last = ""
        while True:
            batch = select(*UPLOAD_COLUMNS).where(UploadRow.upload_id > last).order_by(UploadRow.upload_id).limit(BATCH)
            with self._database.reading() as connection:
                uploads = [_upload(row) for row in connection.execute(batch)]
            yield from uploads
            if len(uploads) < BATCH:
                return
            last = uploads[-1].upload_id

    def _change(
        self,
        upload_id: str,
        condition: ColumnElement[bool],
        *,
        only_while_searched: int | None = None,
        readings: Callable[[Connection, str, datetime | None], None] | None = None,
        **values: Any,
    ) -> Upload | None:
        """Change a row if it meets the condition, and return it; None when it does not.

        `readings` decides which recognized pages stay, by the time at which the upload was started.
        Raises IndexSwitched unless the version `only_while_searched` is searched.
        """
        changed = (
            update(UploadRow)
            .where(UploadRow.upload_id == upload_id, condition)
            .values(values | {"updated_at": datetime.now(UTC)})
            .returning(*UPLOAD_COLUMNS)
        )
        with self._database.writing() as connection:
            if only_while_searched is not None:
                # The lock makes a switch wait for this change, so that the switch sees the row as it is afterwards.
                searched = connection.execute(SEARCHED.with_for_update(read=True))
                if searched.scalar() != only_while_searched:
                    raise IndexSwitched
            row = connection.execute(changed).first()
            upload = None if row is None else _upload(row)
            if upload is not None and readings is not None:
                readings(connection, upload_id, upload.started_at)
        return upload

    def _delete(self, upload_id: str, condition: ColumnElement[bool]) -> None:
        """Remove a row if it meets the condition."""
        with self._database.writing() as connection:
            removed = connection.execute(delete(UploadRow).where(UploadRow.upload_id == upload_id, condition))
            if removed.rowcount:
                connection.execute(delete(StoreFileRow).where(StoreFileRow.upload_id == upload_id))
                drop_readings(connection, upload_id)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _of_user(user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else UploadRow.user_id == user_id


def _indexed_by(job_id: str | None) -> ColumnElement[bool]:
    """Return the condition for an upload that this job indexes."""
    return and_(UploadRow.job_id.is_not_distinct_from(job_id), NOT_DELETING)


def _same_content(user_id: str, sha256: str) -> ColumnElement[bool]:
    return and_(UploadRow.user_id == user_id, UploadRow.sha256 == sha256, NOT_DELETING)


def _upload(row: Any) -> Upload:
    return as_upload(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name


def as_upload(columns: Mapping[str, Any]) -> Upload:
    """Return an upload from its UPLOAD_COLUMNS."""
    return Upload.model_validate(dict(columns))


def _cursor(upload: Upload) -> str:
    return f"{upload.created_at.timestamp() * 1_000_000:.0f}.{upload.upload_id}"


def _parse_cursor(cursor: str) -> tuple[datetime, str]:
    microseconds, _, upload_id = cursor.partition(".")
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(microseconds)), upload_id
    except (ValueError, OverflowError):
        raise InvalidRequest([("cursor", "must be the `next` of a page of GET /uploads")]) from None
