"""The list of uploads in SQL.

Every change of a row names what the row must still be, so that two processes that work on one upload cannot undo
each other: the second finds that nothing matched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, true, tuple_, update

from client.sql.database import Database, RowTaken, UploadRow
from errors import InvalidRequest
from schemas import Upload, UploadStatus

MAX_ERROR_CHARS = 1_000
# What the row of an upload says whose job was cancelled: the reason, and the sentence.
CANCELLED = ("cancelled", "its indexing was cancelled; index it again")
BATCH = 500
_COLUMNS = [column for column in UploadRow.__table__.columns if column.name != "unique_sha256"]


class UploadRepository:
    """The list. Safe for threads and many processes. Every method raises UploadsUnavailable.

    Where `user_id` may be None, None is everybody.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, upload: Upload, *, unique: bool) -> Upload:
        """Add an upload; `unique`: unless the user has one of the same content, which is then returned instead."""
        try:
            return self._add(upload, unique=unique)
        except RowTaken:  # another process was quicker: now its row is found
            return self._add(upload, unique=unique)

    def _add(self, upload: Upload, *, unique: bool) -> Upload:
        with self._database.writing() as connection:
            if unique:
                same = connection.execute(
                    select(*_COLUMNS)
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
        """Return an upload, of any user when `user_id` is None; None when there is none."""
        chosen = and_(UploadRow.upload_id == upload_id, _of(user_id))
        with self._database.reading() as connection:
            row = connection.execute(select(*_COLUMNS).where(chosen)).first()
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
        """Return uploads, newest first, and the cursor of the next page, None after the last.

        `name` is a part of the name, in any case. Raises InvalidRequest for a cursor that is none.
        """
        chosen = [_of(user_id)]
        if status is not None:
            chosen.append(UploadRow.status == status)
        if name:
            chosen.append(UploadRow.name.icontains(name, autoescape=True))
        if cursor is not None:
            chosen.append(tuple_(UploadRow.created_at, UploadRow.upload_id) < _parse_cursor(cursor))
        newest = select(*_COLUMNS).where(*chosen)
        newest = newest.order_by(UploadRow.created_at.desc(), UploadRow.upload_id.desc()).limit(limit + 1)
        with self._database.reading() as connection:
            uploads = [_upload(row) for row in connection.execute(newest)]
        more = len(uploads) > limit
        return uploads[:limit], _cursor(uploads[limit - 1]) if more else None

    def begin(self, upload_id: str, *, job_id: str | None) -> Upload | None:
        """Start indexing; None when the upload is gone, is being deleted, or another job has taken it over."""
        return self.change(
            upload_id,
            _owned(job_id),
            status=UploadStatus.PROCESSING,
            pages_done=0,
            reason=None,
            error=None,
            started_at=datetime.now(UTC),
        )

    def progress(self, upload_id: str, *, job_id: str | None, pages_done: int, pages: int) -> Upload | None:
        """Note how far indexing is; None as for `begin`."""
        return self.change(upload_id, _owned(job_id), pages_done=pages_done, pages=pages)

    def finish(self, upload_id: str, *, job_id: str | None, pages: int, chunks: int) -> Upload | None:
        """Note that every chunk is stored; None as for `begin`."""
        return self.change(
            upload_id,
            _owned(job_id),
            status=UploadStatus.READY,
            pages=pages,
            pages_done=pages,
            chunks=chunks,
            reason=None,
            error=None,
            indexed_at=datetime.now(UTC),
        )

    def fail(self, upload_id: str, *, job_id: str | None, reason: str, error: str) -> Upload | None:
        """Note that indexing failed and why; None as for `begin`."""
        return self.change(
            upload_id, _owned(job_id), status=UploadStatus.FAILED, reason=reason, error=error[:MAX_ERROR_CHARS]
        )

    def abandon(self, was: Upload, *, reason: str, error: str) -> Upload | None:
        """Note that the job of an upload ended without a word; None when the row has changed since it was read."""
        unchanged = and_(UploadRow.status == was.status, UploadRow.updated_at == was.updated_at)
        return self.change(
            was.upload_id, unchanged, status=UploadStatus.FAILED, reason=reason, error=error[:MAX_ERROR_CHARS]
        )

    def queue(self, upload_id: str, *, was: Upload, job_id: str | None, **values: Any) -> Upload | None:
        """Give the upload to another job; None when it is no longer as it `was`."""
        as_it_was = and_(UploadRow.status == was.status, UploadRow.job_id.is_not_distinct_from(was.job_id))
        values = {"status": UploadStatus.QUEUED, "pages_done": 0, "reason": None, "error": None} | values
        return self.change(upload_id, as_it_was, job_id=job_id, **values)

    def mark_deleting(self, upload_id: str, *, user_id: str | None, job_id: str) -> Upload | None:
        """Take the upload out of every answer. None when there is none; one that is being deleted stays as it is."""
        marked = self.change(
            upload_id,
            and_(_of(user_id), UploadRow.status != UploadStatus.DELETING),
            status=UploadStatus.DELETING,
            job_id=job_id,
            unique_sha256=None,
        )
        return marked or self.get(upload_id, user_id=user_id)

    def forget(self, upload_id: str) -> None:
        """Remove the row of an upload that is being deleted."""
        self.drop(upload_id, UploadRow.status == UploadStatus.DELETING)

    def withdraw(self, upload_id: str, *, job_id: str) -> None:
        """Remove the row of an upload that was never accepted, since its job could not be queued."""
        self.drop(upload_id, and_(UploadRow.job_id == job_id, UploadRow.status == UploadStatus.QUEUED))

    def searchable(self, user_id: str | None, upload_ids: Collection[str]) -> set[str]:
        """Return which of these uploads answers may stand on: ready once, and not being deleted."""
        if not upload_ids:
            return set()
        chosen = and_(
            _of(user_id),
            UploadRow.upload_id.in_(upload_ids),
            UploadRow.indexed_at.is_not(None),
            UploadRow.status != UploadStatus.DELETING,
        )
        with self._database.reading() as connection:
            return set(connection.execute(select(UploadRow.upload_id).where(chosen)).scalars())

    def state(self, user_id: str | None) -> str:
        """Name the set of a user's uploads that can be found. What is added, removed or indexed anew renames it.

        How many there are and when the latest was indexed are enough: time goes forward, so what was there before
        cannot come back without being later.
        """
        found = and_(_of(user_id), UploadRow.indexed_at.is_not(None), UploadRow.status != UploadStatus.DELETING)
        with self._database.reading() as connection:
            count, latest = connection.execute(select(func.count(), func.max(UploadRow.indexed_at)).where(found)).one()
        return f"{count}/{latest}"

    def stored_bytes(self, user_id: str) -> int:
        """Sum up what the files of a user take."""
        kept = and_(_of(user_id), UploadRow.status != UploadStatus.DELETING)
        with self._database.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(UploadRow.bytes), 0)).where(kept)).scalar_one())

    def count_by_user(self) -> dict[str, int]:
        """Return how many uploads each user has, without those that are being deleted."""
        kept = UploadRow.status != UploadStatus.DELETING
        query = select(UploadRow.user_id, func.count()).where(kept).group_by(UploadRow.user_id)
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def hidden(self, user_id: str | None) -> tuple[str, ...]:
        """Return the uploads that may have chunks stored but must not be found: being deleted, or half indexed."""
        half = and_(UploadRow.status == UploadStatus.PROCESSING, UploadRow.indexed_at.is_(None))
        chosen = and_(_of(user_id), or_(UploadRow.status == UploadStatus.DELETING, half))
        with self._database.reading() as connection:
            return tuple(connection.execute(select(UploadRow.upload_id).where(chosen)).scalars())

    def unsettled(self, *, quiet_seconds: float, after: str = "", limit: int = BATCH) -> list[Upload]:
        """Return uploads that wait for work and have not changed for so long, by id, those `after` an id."""
        waiting = (UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING)
        since = datetime.now(UTC) - timedelta(seconds=quiet_seconds)
        chosen = and_(UploadRow.status.in_(waiting), UploadRow.updated_at <= since, UploadRow.upload_id > after)
        by_id = select(*_COLUMNS).where(chosen).order_by(UploadRow.upload_id).limit(limit)
        with self._database.reading() as connection:
            return [_upload(row) for row in connection.execute(by_id)]

    def everything(self) -> Iterator[Upload]:
        """Walk every upload of every user, by id."""
        last = ""
        while True:
            batch = select(*_COLUMNS).where(UploadRow.upload_id > last).order_by(UploadRow.upload_id).limit(BATCH)
            with self._database.reading() as connection:
                uploads = [_upload(row) for row in connection.execute(batch)]
            yield from uploads
            if len(uploads) < BATCH:
                return
            last = uploads[-1].upload_id

    def change(self, upload_id: str, condition: ColumnElement[bool], **values: Any) -> Upload | None:
        """Change a row if the condition holds; return it as it now is, None when it did not hold."""
        changed = (
            update(UploadRow)
            .where(UploadRow.upload_id == upload_id, condition)
            .values(values | {"updated_at": datetime.now(UTC)})
            .returning(*_COLUMNS)
        )
        with self._database.writing() as connection:
            row = connection.execute(changed).first()
        return None if row is None else _upload(row)

    def drop(self, upload_id: str, condition: ColumnElement[bool]) -> None:
        """Remove a row if the condition holds."""
        with self._database.writing() as connection:
            connection.execute(delete(UploadRow).where(UploadRow.upload_id == upload_id, condition))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _of(user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else UploadRow.user_id == user_id


def _owned(job_id: str | None) -> ColumnElement[bool]:
    """Hold for a row that this job works on."""
    return and_(UploadRow.job_id.is_not_distinct_from(job_id), UploadRow.status != UploadStatus.DELETING)


def _same_content(user_id: str, sha256: str) -> ColumnElement[bool]:
    return and_(UploadRow.user_id == user_id, UploadRow.sha256 == sha256, UploadRow.status != UploadStatus.DELETING)


def _upload(row: Any) -> Upload:
    return Upload.model_validate(dict(row._mapping))  # noqa: SLF001  SQLAlchemy's own name for a row as a mapping


def _cursor(upload: Upload) -> str:
    return f"{upload.created_at.timestamp() * 1_000_000:.0f}.{upload.upload_id}"


def _parse_cursor(cursor: str) -> tuple[datetime, str]:
    microseconds, _, upload_id = cursor.partition(".")
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(microseconds)), upload_id
    except (ValueError, OverflowError):
        raise InvalidRequest([("cursor", "must be the `next` of a page of GET /uploads")]) from None
