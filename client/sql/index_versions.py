"""The versions of the index: which is searched, which is being built, and which uploads are in each.

One version is searched. At most one other is built. The switch from one to the other is one transaction, so that every
question is answered from one of them. Each change names the state that it expects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from client.sql.database import SEARCHABLE, Database, DuplicateRow, IndexVersionRow, UploadRow
from client.sql.recognized_pages import keep_reading
from client.sql.uploads import MAX_ERROR_CHARS
from schemas import Indexed, UploadStatus

# So often an upload is tried whose building ends the worker.
MAX_ATTEMPTS = 5


class VersionState(StrEnum):
    """The state of a version. `failed`: it was being built, and `error` says why that stopped.

    `retired`: it is searched no more, or its building was given up. `removing`: its collection is being removed.
    """

    BUILDING = "building"
    SEARCHED = "searched"
    FAILED = "failed"
    RETIRED = "retired"
    REMOVING = "removing"


SEARCHED = (VersionState.SEARCHED,)
UNDER_WAY = (VersionState.BUILDING, VersionState.FAILED)
RETIRED = (VersionState.RETIRED, VersionState.REMOVING)


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """A version of the index: the chunks of all uploads, made in one way.

    `model`: the embedding model, `bm25` for none. `dimensions`: the length of the vectors; None while unknown, and
    without a model. `chunking`: see rag.ingest.chunking. `job_id`: the job that builds it now; `upload_id`: the upload
    that is being added, for the number of `attempts`.
    """

    version_id: int
    model: str
    chunking: int
    collection: str
    state: VersionState
    created_at: datetime
    changed_at: datetime
    dimensions: int | None = None
    job_id: str | None = None
    upload_id: str | None = None
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NextUpload:
    """An upload to add to the version that is being built, as its row was: see `mark_built`."""

    upload_id: str
    user_id: str
    file_id: str
    name: str
    media_type: str
    indexed_at: datetime
    status: UploadStatus


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How many of the uploads that are searched are in the version being built, and which cannot be added to it.

    `errors` maps their ids to their name and the reason.
    """

    done: int
    total: int
    chunks: int
    errors: dict[str, tuple[str, str]]


_COLUMNS = [column for column in IndexVersionRow.__table__.columns if column.name in IndexVersion.__slots__]
_NEXT = [UploadRow.__table__.columns[name] for name in NextUpload.__slots__]


def in_states(versions: Iterable[IndexVersion], states: Collection[VersionState]) -> Iterator[IndexVersion]:
    """Yield the versions in some of the states."""
    return (version for version in versions if version.state in states)


class IndexVersionRepository:
    """Reads and changes the versions. Safe for threads and processes. Every method raises UploadsUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[IndexVersion]:
        """Return every version, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(IndexVersionRow.version_id))
            return [_version(row) for row in rows]

    def searched(self) -> IndexVersion | None:
        """Return the version that is searched; None before the first."""
        return next(in_states(self.all(), SEARCHED), None)

    def under_way(self) -> IndexVersion | None:
        """Return the version that is being built, or whose building failed."""
        return next(in_states(self.all(), UNDER_WAY), None)

    def retired(self) -> list[IndexVersion]:
        """Return the versions that are searched no more, and not being built."""
        return list(in_states(self.all(), RETIRED))

    def add_first(self, *, model: str, chunking: int, collection: str, missing: Collection[tuple[str, str]]) -> None:
        """Add the version that is searched from now on, unless there is one.

        All uploads are in it but the `missing`, given by upload id and a new job id: these are to be indexed again.
        """
        try:
            with self._database.writing() as connection:
                _insert(connection, 1, model, chunking, collection, VersionState.SEARCHED)
                for upload_id, job_id in missing:
                    lost = {"status": UploadStatus.QUEUED, "indexed_at": None, "job_id": job_id, "pages_done": 0}
                    connection.execute(update(UploadRow).where(UploadRow.upload_id == upload_id).values(lost))
                connection.execute(update(UploadRow).where(SEARCHABLE).values(index_version=1))
        except DuplicateRow:  # another process was first
            return

    def begin(self, *, model: str, chunking: int, collection: str, again: bool = False) -> IndexVersion:
        """Begin to build a version, and give up another that is being built.

        A retired version of the same kind is taken up again. With `again` the version is a new one in any case, whose
        collection gets a name that no other has.
        """
        with self._database.writing() as connection:
            self._set_state(connection, IndexVersionRow.state.in_(UNDER_WAY), VersionState.RETIRED)
            rows = connection.execute(select(*_COLUMNS).order_by(IndexVersionRow.version_id)).all()
            versions = [_version(row) for row in rows]
            kept = next((each for each in versions if each.collection == collection), None)
            if kept is not None and kept.state is VersionState.RETIRED and not again:
                self._set_state(connection, IndexVersionRow.version_id == kept.version_id, VersionState.BUILDING)
                version_id = kept.version_id
            else:
                version_id = 1 + max((each.version_id for each in versions), default=0)
                name = collection if kept is None and not again else f"{collection}~{version_id}"
                _insert(connection, version_id, model, chunking, name, VersionState.BUILDING)
            # What an earlier attempt built is looked at again, and is not embedded again.
            begun = UploadRow.built_version.is_not(None) | UploadRow.build_error.is_not(None)
            connection.execute(update(UploadRow).where(begun).values(built_version=None, build_error=None))
            row = connection.execute(select(*_COLUMNS).where(IndexVersionRow.version_id == version_id)).one()
        return _version(row)

    def give_up(self) -> IndexVersion | None:
        """Give up the version that is being built. Return that version; None if none is being built."""
        version = self.under_way()
        if version is not None:
            with self._database.writing() as connection:
                self._set_state(connection, _as_read(version), VersionState.RETIRED)
        return version

    def resume(self, version: IndexVersion) -> None:
        """Go on with a version whose building failed, also with the uploads that could not be added."""
        with self._database.writing() as connection:
            failed = and_(_as_read(version), IndexVersionRow.state == VersionState.FAILED)
            if self._set_state(connection, failed, VersionState.BUILDING):
                connection.execute(update(UploadRow).where(UploadRow.build_error.is_not(None)).values(build_error=None))

    def fail(self, version: IndexVersion, error: str) -> bool:
        """Note why a version cannot be built. False if it is no longer being built."""
        building = and_(_as_read(version), IndexVersionRow.state == VersionState.BUILDING)
        with self._database.writing() as connection:
            return self._set_state(connection, building, VersionState.FAILED, error=error[:MAX_ERROR_CHARS])

    def set_job(self, version: IndexVersion, job_id: str, *, after: str | None = None) -> bool:
        """Have a job build the version from now on; with `after`, only if that job does so now. False if not."""
        building = and_(_as_read(version), IndexVersionRow.state.in_((*UNDER_WAY, VersionState.RETIRED)))
        if after is not None:
            building = and_(building, IndexVersionRow.job_id == after)
        with self._database.writing() as connection:
            return self._change(connection, building, job_id=job_id)

    def set_dimensions(self, version_id: int, dimensions: int) -> None:
        """Note the length of a version's vectors."""
        with self._database.writing() as connection:
            unknown = and_(IndexVersionRow.version_id == version_id, IndexVersionRow.dimensions.is_(None))
            self._change(connection, unknown, dimensions=dimensions)

    def next_upload(self, version: IndexVersion) -> NextUpload | None:
        """Return an upload to add to the version, and note that it is tried; None if no upload can be added now.

        An upload that is just being indexed again is left out: its content is about to change.
        """
        settled = UploadRow.status.in_((UploadStatus.READY, UploadStatus.FAILED))
        lacking = and_(SEARCHABLE, settled, _not_in(version.version_id), UploadRow.build_error.is_(None))
        with self._database.writing() as connection:
            row = connection.execute(select(*_NEXT).where(lacking).order_by(UploadRow.upload_id).limit(1)).first()
            if row is None:
                return None
            upload = NextUpload(**row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
            state = connection.execute(
                select(IndexVersionRow.upload_id, IndexVersionRow.attempts).where(_as_read(version))
            ).one()
            attempts = state.attempts + 1 if state.upload_id == upload.upload_id else 1
            self._change(connection, _as_read(version), upload_id=upload.upload_id, attempts=attempts)
        if attempts > MAX_ATTEMPTS:
            self.note_error(upload, f"it ended the worker {MAX_ATTEMPTS} times")
            return self.next_upload(version)
        return upload

    def mark_built(
        self, version: IndexVersion, upload: NextUpload, indexed: Indexed, *, read_at: datetime | None = None
    ) -> bool:
        """Note that an upload is in the version. False if its content has changed since `upload` was read.

        The pages and warnings of the upload are those of this reading, which began at `read_at`, from now on.
        """
        unchanged = and_(
            UploadRow.upload_id == upload.upload_id,
            UploadRow.file_id == upload.file_id,
            UploadRow.name == upload.name,
            UploadRow.indexed_at == upload.indexed_at,
            UploadRow.status != UploadStatus.DELETING,
        )
        values = {
            "built_version": version.version_id,
            "built_chunks": indexed.chunks,
            "build_error": None,
            "pages": indexed.pages,
            "warnings": [warning.model_dump() for warning in indexed.warnings],
        }
        with self._database.writing() as connection:
            built = connection.execute(update(UploadRow).where(unchanged).values(values)).rowcount > 0
            if built and read_at is not None:
                keep_reading(connection, upload.upload_id, read_at)
            self._change(connection, _as_read(version), upload_id=None, attempts=0)
        return built

    def unmark_built(self, upload_id: str) -> None:
        """Have an upload added to the version again."""
        with self._database.writing() as connection:
            connection.execute(update(UploadRow).where(UploadRow.upload_id == upload_id).values(built_version=None))

    def note_error(self, upload: NextUpload, error: str) -> None:
        """Note why an upload cannot be added to the version."""
        values = {"build_error": error[:MAX_ERROR_CHARS]}
        with self._database.writing() as connection:
            connection.execute(update(UploadRow).where(UploadRow.upload_id == upload.upload_id).values(values))

    def progress(self, version: IndexVersion) -> BuildProgress:
        """Return how far the building of a version is."""
        built = and_(SEARCHABLE, UploadRow.built_version == version.version_id)
        failed = and_(SEARCHABLE, UploadRow.build_error.is_not(None))
        with self._database.reading() as connection:
            total = connection.execute(select(func.count()).select_from(UploadRow).where(SEARCHABLE)).scalar_one()
            done, chunks = connection.execute(
                select(func.count(), func.coalesce(func.sum(UploadRow.built_chunks), 0)).where(built)
            ).one()
            named = select(UploadRow.upload_id, UploadRow.name, UploadRow.build_error).where(failed).limit(10)
            errors = {upload_id: (name, error or "") for upload_id, name, error in connection.execute(named)}
        return BuildProgress(done=done, total=total, chunks=int(chunks or 0), errors=errors)

    def size(self) -> tuple[int, int]:
        """Return how many uploads are searched, and how many chunks they have."""
        with self._database.reading() as connection:
            statement = select(func.count(), func.coalesce(func.sum(UploadRow.chunks), 0)).where(SEARCHABLE)
            uploads, chunks = connection.execute(statement).one()
        return int(uploads), int(chunks or 0)

    def built_counts(self, version: IndexVersion) -> dict[tuple[str, str], int]:
        """Return the number of chunks of each upload in the version being built, by user id and upload id."""
        built = and_(SEARCHABLE, UploadRow.built_version == version.version_id)
        statement = select(UploadRow.user_id, UploadRow.upload_id, UploadRow.built_chunks).where(built)
        with self._database.reading() as connection:
            return {(row[0], row[1]): row[2] or 0 for row in connection.execute(statement)}

    def switch(self, version: IndexVersion) -> bool:
        """Search a version from now on, if every upload is in it. False if it lacks one, or is not being built.

        An upload whose last indexing failed, and that cannot be added either, is left out: its row says why.
        """
        broken = and_(UploadRow.status == UploadStatus.FAILED, UploadRow.build_error.is_not(None))
        lacking = and_(SEARCHABLE, _not_in(version.version_id))
        with self._database.writing() as connection:
            # An upload that becomes ready in the old version waits for these locks, and then sees the new one.
            states = select(IndexVersionRow.version_id, IndexVersionRow.state).with_for_update()
            if (version.version_id, VersionState.BUILDING) not in [tuple(row) for row in connection.execute(states)]:
                return False
            if connection.execute(select(func.count()).where(lacking, ~broken)).scalar_one():
                return False
            self._set_state(connection, IndexVersionRow.state == VersionState.SEARCHED, VersionState.RETIRED)
            self._set_state(connection, _as_read(version), VersionState.SEARCHED)
            connection.execute(update(UploadRow).where(lacking, broken).values(indexed_at=None, index_version=None))
            connection.execute(
                update(UploadRow)
                .where(SEARCHABLE)
                .values(index_version=version.version_id, chunks=UploadRow.built_chunks, build_error=None)
            )
            connection.execute(update(UploadRow).values(built_version=None, built_chunks=None))
        return True

    def begin_removal(self, version: IndexVersion) -> bool:
        """Have a retired version removed: from now on nothing takes it up again. False if it is in use again."""
        retired = and_(_as_read(version), IndexVersionRow.state.in_((VersionState.RETIRED, VersionState.REMOVING)))
        with self._database.writing() as connection:
            return self._change(connection, retired, state=VersionState.REMOVING)

    def forget(self, version: IndexVersion) -> None:
        """Remove the row of a version whose collection is removed."""
        with self._database.writing() as connection:
            removing = and_(_as_read(version), IndexVersionRow.state == VersionState.REMOVING)
            connection.execute(delete(IndexVersionRow).where(removing))

    def _set_state(
        self, connection: Connection, condition: ColumnElement[bool], state: VersionState, *, error: str | None = None
    ) -> bool:
        return self._change(connection, condition, state=state, error=error, upload_id=None, attempts=0)

    def _change(self, connection: Connection, condition: ColumnElement[bool], **values: Any) -> bool:
        """Change the versions that meet the condition. False if no version meets the condition."""
        changed = update(IndexVersionRow).where(condition).values(values | {"changed_at": datetime.now(UTC)})
        return connection.execute(changed).rowcount > 0


def _insert(
    connection: Connection, version_id: int, model: str, chunking: int, collection: str, state: VersionState
) -> None:
    now = datetime.now(UTC)
    values = {"version_id": version_id, "model": model, "chunking": chunking, "collection": collection}
    times = {"created_at": now, "changed_at": now}
    connection.execute(insert(IndexVersionRow).values(values | times | {"state": state, "attempts": 0}))


def _as_read(version: IndexVersion) -> ColumnElement[bool]:
    return IndexVersionRow.version_id == version.version_id


def _not_in(version_id: int) -> ColumnElement[bool]:
    return UploadRow.built_version.is_distinct_from(version_id)


def _version(row: Any) -> IndexVersion:
    fields = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
    return IndexVersion(**fields | {"state": VersionState(fields["state"])})
