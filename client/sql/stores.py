"""The tables of vector stores, of their files and of batches of files.

A file is in a store as long as its upload exists: every read joins the table of uploads, and leaves out those that are
being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select, true, tuple_, update

from client.sql.database import PENDING, Database, FileBatchRow, StoreFileRow, UploadRow, VectorStoreRow
from client.sql.uploads import NOT_DELETING, UPLOAD_COLUMNS, as_upload
from schemas import UploadStatus
from schemas.attribute_filters import AttributeValue
from schemas.stores import FileBatch, StoreFile, StoreFileStatus, StoreTotals, VectorStore

MAX_FILES = 10_000
# The time of the last use is written at most this often.
ACTIVE_SECONDS = 60.0
_STATUS = case(
    (StoreFileRow.cancelled, StoreFileStatus.CANCELLED.value),
    (UploadRow.indexed_at.is_not(None), StoreFileStatus.COMPLETED.value),
    (UploadRow.status == UploadStatus.FAILED, StoreFileStatus.FAILED.value),
    else_=StoreFileStatus.IN_PROGRESS.value,
)
_MEMBERS = and_(StoreFileRow.upload_id == UploadRow.upload_id, NOT_DELETING)


class TooManyFiles(Exception):
    """A store would have more than MAX_FILES files."""


class VectorStoreRepository:
    """Reads and changes vector stores. Safe for threads and processes. Every method raises UploadsUnavailable.

    A `user_id` of None means the stores of all users. A method that names a store does not ask whose it is: `get` does.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, store: VectorStore) -> None:
        """Add a store. Raises DuplicateRow if the id exists."""
        with self._database.writing() as connection:
            connection.execute(insert(VectorStoreRow).values(store.model_dump()))

    def get(self, store_id: str, *, user_id: str | None) -> VectorStore | None:
        """Return a store; None when the user has no such store."""
        return next(iter(self._select(VectorStoreRow.store_id == store_id, _of_user(user_id))), None)

    def named(self, name: str, *, user_id: str) -> list[VectorStore]:
        """Return the stores of this name of a user, the oldest first."""
        found = self._select(VectorStoreRow.name == name, VectorStoreRow.user_id == user_id)
        return sorted(found, key=lambda store: store.store_id)

    def count(self, user_id: str) -> int:
        """Return how many stores a user has."""
        with self._database.reading() as connection:
            return int(connection.execute(select(func.count()).where(VectorStoreRow.user_id == user_id)).scalar_one())

    def listed(
        self, user_id: str | None, *, limit: int, after: str | None, before: str | None, ascending: bool
    ) -> tuple[list[VectorStore], bool]:
        """Return a page of stores by the time at which they were made, and True if another follows."""
        column = VectorStoreRow.store_id  # holds the time
        forward, condition = _beyond([column], [after], [before], ascending=ascending)
        newest = select(VectorStoreRow.__table__).where(_of_user(user_id), condition)
        newest = newest.order_by(column if forward else column.desc()).limit(limit + 1)
        with self._database.reading() as connection:
            stores = [_store(row) for row in connection.execute(newest)]
        return _page(stores, limit, reverse=before is not None)

    def change(self, store_id: str, **values: Any) -> VectorStore | None:
        """Change a store and return it; None if it is gone. Counts as a use of the store."""
        values["last_active_at"] = datetime.now(UTC)
        changed = update(VectorStoreRow).where(VectorStoreRow.store_id == store_id).values(values)
        with self._database.writing() as connection:
            row = connection.execute(changed.returning(VectorStoreRow.__table__)).first()
        return None if row is None else _store(row)

    def touch(self, stores: Iterable[VectorStore]) -> None:
        """Note that stores are used, unless that was noted a moment ago."""
        now = datetime.now(UTC)
        old = [one.store_id for one in stores if now - one.last_active_at > timedelta(seconds=ACTIVE_SECONDS)]
        if old:
            with self._database.writing() as connection:
                used = update(VectorStoreRow).where(VectorStoreRow.store_id.in_(old))
                connection.execute(used.values(last_active_at=now))

    def remove(self, store_id: str) -> None:
        """Delete a store. Its files stay."""
        with self._database.writing() as connection:
            for table in (FileBatchRow, StoreFileRow, VectorStoreRow):
                connection.execute(delete(table).where(table.store_id == store_id))

    def totals(self, store_ids: Sequence[str]) -> dict[str, StoreTotals]:
        """Return the totals of each store."""
        counted = select(StoreFileRow.store_id, _STATUS.label("state"), func.count(), func.sum(UploadRow.bytes))
        counted = counted.where(StoreFileRow.store_id.in_(store_ids), _MEMBERS).group_by(StoreFileRow.store_id, "state")
        with self._database.reading() as connection:
            rows = [tuple(row) for row in connection.execute(counted)]
        return {store_id: _totals([row[1:] for row in rows if row[0] == store_id]) for store_id in store_ids}

    def batch_totals(self, batch: FileBatch) -> StoreTotals:
        """Return the totals of a batch. A file that was deleted since is not counted."""
        counted = select(_STATUS.label("state"), func.count(), func.sum(UploadRow.bytes)).where(_of_batch(batch))
        with self._database.reading() as connection:
            return _totals([tuple(row) for row in connection.execute(counted.where(_MEMBERS).group_by("state"))])

    def add_files(self, store_id: str, files: Mapping[str, Mapping[str, AttributeValue]]) -> None:
        """Put uploads into a store, with their attributes. Uploads in it already get the attributes.

        Raises TooManyFiles.
        """
        with self._database.writing() as connection:
            _add_files(connection, store_id, files)

    def files(
        self,
        store_id: str,
        *,
        limit: int,
        ascending: bool,
        after: StoreFile | None = None,
        before: StoreFile | None = None,
        status: StoreFileStatus | None = None,
        batch: FileBatch | None = None,
    ) -> tuple[list[StoreFile], bool]:
        """Return a page of the files of a store, or of a batch, by time, and True if another follows."""
        columns = [StoreFileRow.created_at, StoreFileRow.upload_id]
        forward, condition = _beyond(columns, _place(after), _place(before), ascending=ascending)
        listed = _FILES.where(StoreFileRow.store_id == store_id, condition)
        listed = listed if status is None else listed.where(_STATUS.in_([status.value]))
        listed = listed if batch is None else listed.where(_of_batch(batch))
        listed = listed.order_by(*(column if forward else column.desc() for column in columns)).limit(limit + 1)
        with self._database.reading() as connection:
            files = [_file(row) for row in connection.execute(listed)]
        return _page(files, limit, reverse=before is not None)

    def file(self, store_id: str, upload_id: str) -> StoreFile | None:
        """Return a file of a store; None when the store has no such file."""
        one = _FILES.where(StoreFileRow.store_id == store_id, StoreFileRow.upload_id == upload_id)
        with self._database.reading() as connection:
            row = connection.execute(one).first()
        return None if row is None else _file(row)

    def change_file(self, store_id: str, upload_id: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Give a file of a store other attributes."""
        condition = (StoreFileRow.store_id == store_id, StoreFileRow.upload_id == upload_id)
        with self._database.writing() as connection:
            connection.execute(update(StoreFileRow).where(*condition).values(attributes=dict(attributes)))

    def remove_file(self, store_id: str, upload_id: str) -> None:
        """Take a file out of a store. The upload stays."""
        condition = (StoreFileRow.store_id == store_id, StoreFileRow.upload_id == upload_id)
        with self._database.writing() as connection:
            connection.execute(delete(StoreFileRow).where(*condition))

    def add_batch(self, batch: FileBatch, files: Mapping[str, Mapping[str, AttributeValue]]) -> None:
        """Put the files of a batch into its store, and add the batch. Raises TooManyFiles, DuplicateRow."""
        with self._database.writing() as connection:
            _add_files(connection, batch.store_id, files)
            values = batch.model_dump() | {"upload_ids": list(batch.upload_ids)}
            connection.execute(insert(FileBatchRow).values(values))

    def batch(self, store_id: str, batch_id: str) -> FileBatch | None:
        """Return a batch of a store."""
        condition = (FileBatchRow.store_id == store_id, FileBatchRow.batch_id == batch_id)
        with self._database.reading() as connection:
            row = connection.execute(select(FileBatchRow.__table__).where(*condition)).first()
        return None if row is None else FileBatch.model_validate(dict(row._mapping))  # noqa: SLF001

    def cancel_batch(self, batch: FileBatch) -> None:
        """Cancel a batch: its files that are not ready yet are not searched in the store."""
        waiting = select(UploadRow.upload_id).where(PENDING)
        with self._database.writing() as connection:
            unready = (_of_batch(batch), StoreFileRow.upload_id.in_(waiting))
            connection.execute(update(StoreFileRow).where(*unready).values(cancelled=True))
            same = FileBatchRow.batch_id == batch.batch_id
            connection.execute(update(FileBatchRow).where(same).values(cancelled=True))

    def _select(self, *conditions: ColumnElement[bool]) -> list[VectorStore]:
        with self._database.reading() as connection:
            return [_store(row) for row in connection.execute(select(VectorStoreRow.__table__).where(*conditions))]


_FILES = select(
    StoreFileRow.store_id,
    StoreFileRow.attributes,
    StoreFileRow.cancelled,
    StoreFileRow.created_at.label("added_at"),
    *UPLOAD_COLUMNS,
).where(_MEMBERS)


def _add_files(connection: Any, store_id: str, files: Mapping[str, Mapping[str, AttributeValue]]) -> None:
    of_store = StoreFileRow.store_id == store_id
    present = set(connection.execute(select(StoreFileRow.upload_id).where(of_store)).scalars())
    if len(present | files.keys()) > MAX_FILES:
        raise TooManyFiles
    again = [upload_id for upload_id in files if upload_id in present]
    for upload_id in again:
        values = {"attributes": dict(files[upload_id]), "cancelled": False}
        connection.execute(update(StoreFileRow).where(of_store, StoreFileRow.upload_id == upload_id).values(values))
    now = datetime.now(UTC)
    new = [
        {"store_id": store_id, "upload_id": one, "attributes": dict(attributes), "cancelled": False, "created_at": now}
        for one, attributes in files.items()
        if one not in present
    ]
    if new:
        connection.execute(insert(StoreFileRow), new)


def _of_user(user_id: str | None) -> ColumnElement[bool]:
    return true() if user_id is None else VectorStoreRow.user_id == user_id


def _of_batch(batch: FileBatch) -> ColumnElement[bool]:
    return and_(StoreFileRow.store_id == batch.store_id, StoreFileRow.upload_id.in_(batch.upload_ids))


def _place(file: StoreFile | None) -> list[Any]:
    return [None, None] if file is None else [file.created_at, file.upload.upload_id]


def _beyond(
    columns: Sequence[Any], after: Sequence[Any], before: Sequence[Any], *, ascending: bool
) -> tuple[bool, ColumnElement[bool]]:
    """Return True if rows are read upwards, and the condition for rows after one place or before another."""
    backwards = before[0] is not None
    upwards = ascending is not backwards
    place = before if backwards else after
    if place[0] is None:
        return upwards, true()
    return upwards, tuple_(*columns) > tuple(place) if upwards else tuple_(*columns) < tuple(place)


def _page(rows: list[Any], limit: int, *, reverse: bool) -> tuple[list[Any], bool]:
    page = rows[:limit]
    return page[::-1] if reverse else page, len(rows) > limit


def _totals(rows: Sequence[tuple[Any, ...]]) -> StoreTotals:
    counts = {StoreFileStatus(state): count for state, count, _bytes in rows}
    used = sum(int(size or 0) for state, _count, size in rows if state == StoreFileStatus.COMPLETED)
    return StoreTotals(counts=counts, used_bytes=used)


def _store(row: Any) -> VectorStore:
    return VectorStore.model_validate(dict(row._mapping))  # noqa: SLF001  SQLAlchemy's documented name


def _file(row: Any) -> StoreFile:
    values = dict(row._mapping)  # noqa: SLF001
    own = {name: values.pop(name) for name in ("store_id", "attributes", "cancelled")}
    created_at = values.pop("added_at")
    return StoreFile(**own, created_at=created_at, upload=as_upload(values))
