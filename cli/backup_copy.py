"""Copying a deployment into a backup while the service runs, so that the parts belong together.

Files are copied first. Then the state of the queues and, right after, the rows are read, each at one moment. An
embedded Qdrant is copied at that moment while its writers wait: one copy is enough, however often uploads change. The
points of a server have no such moment: what had changed since it was copied is copied again, until nothing has. So
every upload that is ready has its file and its points, and every upload that is not ready has its job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import Connection, select

from client.files.archive import BackupWriter
from client.qdrant.base import Collections, Engine, FieldMatch, Frozen, Point, PointFilter
from client.qdrant.points import UPLOAD_FIELD
from client.qdrant.transfer import read_points, to_json, upload_of
from client.sql.database import REVISION, Database, IndexVersionRow, UploadRow
from client.sql.index_versions import VersionState
from client.sql.transfer import read_tables
from client.valkey.transfer import KeyRecord, KeySnapshot, take_snapshot
from errors import BackupError, FileMissing
from queues.wiring import Services
from schemas import UploadStatus
from settings import VERSION

FORMAT = 1
# How often what has changed is copied again. Each round takes less time than the one before.
MAX_ROUNDS = 50
# A job that is still unknown after so many rounds is lost: a restore queues another.
PATIENT_ROUNDS = 5
UPLOADS_AT_A_TIME = 100
RECORDS_IN_A_MEMBER = 1_000
_IN_PROGRESS = {UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING}
_COLUMNS = [
    UploadRow.__table__.columns[name]
    for name in (
        *("upload_id", "user_id", "file_id", "sha256", "status", "job_id", "chunks", "indexed_at", "index_version"),
        *("built_version", "built_chunks"),
    )
]


@dataclass(frozen=True, slots=True)
class UploadState:
    """What of an upload's row says which file and points belong to the upload."""

    upload_id: str
    user_id: str
    file_id: str
    sha256: str
    status: str
    job_id: str | None
    chunks: int | None
    indexed_at: datetime | None
    index_version: int | None
    built_version: int | None
    built_chunks: int | None

    @property
    def in_progress(self) -> bool:
        """True if a job works, or will work, on the upload."""
        return self.status in _IN_PROGRESS

    @property
    def is_searchable(self) -> bool:
        """True unless points of the upload belong to nothing, as after a first indexing that failed."""
        return self.status != UploadStatus.FAILED or self.indexed_at is not None

    @property
    def content(self) -> tuple[Any, ...]:
        """What changes whenever the file or the points change. The job of an upload in progress makes its points."""
        built = (self.file_id, self.built_version, self.built_chunks)
        if self.in_progress:
            return built
        return (*built, self.status, self.chunks, self.indexed_at, self.index_version)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of uploads at one moment, by id, and the collections of the versions of the index."""

    uploads: dict[str, UploadState]
    collections: frozenset[str]


class BackupCopy:
    """Copies a deployment through a writer. Each method raises what the stores raise, and BackupError.

    `scratch` is a folder for a copy of the points, which does not exist before and after.
    """

    def __init__(
        self, services: Services, database: Database, valkey: Redis, writer: BackupWriter, scratch: Path
    ) -> None:
        self._scratch = scratch
        self._services = services
        self._database = database
        self._valkey = valkey
        self._writer = writer
        self._copied: dict[str, tuple[Any, ...]] = {}
        self._round_of: dict[str, int] = {}
        self._collections: frozenset[str] = frozenset()
        self._files: set[str] = set()
        self._missing: set[str] = set()
        self._round = -1
        self._points: Counter[tuple[int, str]] = Counter()
        self.warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        """Copy everything, and return the manifest. Raises BackupError if uploads never cease to change."""
        with self._database.snapshot() as connection:
            self._copy_files(_read_rows(connection).uploads.values())
        for attempt in range(MAX_ROUNDS):
            with ExitStack() as block:
                frozen = self._freeze(block)
                keys = take_snapshot(self._valkey)
                connection = block.enter_context(self._database.snapshot())
                rows = _read_rows(connection)
                frozen.release()
                changed = self._changed(rows)
                jobless = attempt < PATIENT_ROUNDS and _jobless(rows.uploads.values(), keys)
                has_all_files = self._copy(frozen.collections, rows, changed)
                if has_all_files and not jobless and (frozen.is_still or not changed):
                    counts = {"rows": self._copy_tables(connection), "keys": self._copy_keys(keys)}
                    return self._manifest(rows, counts | {"uploads": len(rows.uploads)})
        raise BackupError(f"the uploads changed {MAX_ROUNDS} times while they were copied: try again later")

    def _freeze(self, block: ExitStack) -> Frozen:
        try:
            return block.enter_context(self._services.index.collections.frozen(self._scratch))
        except OSError as error:
            raise BackupError(f"points cannot be copied to {self._scratch}: {error.strerror or error}") from None

    def _changed(self, rows: Rows) -> set[str]:
        """Return the uploads that are not as they were copied; all uploads where a collection was not copied."""
        if rows.collections - self._collections:
            return set(rows.uploads)
        return {upload_id for upload_id, row in rows.uploads.items() if self._copied.get(upload_id) != row.content}

    def _copy(self, collections: Collections, rows: Rows, upload_ids: Collection[str]) -> bool:
        """Copy the files and points of uploads. What is copied again replaces what earlier rounds copied.

        Returns False if a file was away for the first time: the upload may have been deleted just now.
        """
        if not upload_ids and self._round >= 0:
            return True
        self._round += 1
        for name in sorted(rows.collections):
            for number, page in enumerate(self._pages(collections.engine(name), upload_ids)):
                lines = b"\n".join(to_json(point) for point in page)
                self._writer.add(f"points/{self._round:04}/{name}/{number:06}", lines)
                self._points.update((self._round, upload_of(point)[1]) for point in page)
        for upload_id in upload_ids:
            self._copied[upload_id] = rows.uploads[upload_id].content
            self._round_of[upload_id] = self._round
        self._collections = rows.collections
        return self._copy_files(rows.uploads[upload_id] for upload_id in upload_ids)

    def _pages(self, engine: Engine, upload_ids: Collection[str]) -> Iterator[list[Point]]:
        """Yield the points of uploads; in the first round those of all uploads, also of those not known then."""
        if self._round == 0:
            yield from read_points(engine)
            return
        ids = sorted(upload_ids)
        for start in range(0, len(ids), UPLOADS_AT_A_TIME):
            some = FieldMatch(UPLOAD_FIELD, ids[start : start + UPLOADS_AT_A_TIME])
            yield from read_points(engine, PointFilter((some,)))

    def _copy_files(self, uploads: Iterable[UploadState]) -> bool:
        """Copy the files that have not been copied. Returns False if one was away for the first time."""
        missing = len(self._missing)
        for row in uploads:
            self._copy_file(row)
        return len(self._missing) == missing

    def _copy_file(self, row: UploadState) -> None:
        if row.file_id in self._files:
            return
        try:
            sha256 = self._writer.add_file(f"files/{row.file_id}", self._services.files.read(row.file_id))
        except FileMissing:
            self._missing.add(row.file_id)
            return
        self._files.add(row.file_id)
        self._missing.discard(row.file_id)
        if sha256 != row.sha256:
            self.warnings.append(f"the file of upload {row.upload_id} is not the one that was sent: its hash differs")

    def _copy_tables(self, connection: Connection) -> int:
        count = 0
        for number, (name, lines) in enumerate(read_tables(connection)):
            self._writer.add(f"sql/{number:06}/{name}", b"\n".join(lines))
            count += len(lines)
        return count

    def _copy_keys(self, snapshot: KeySnapshot) -> int:
        count = 0
        for number, records in enumerate(_parts(snapshot, self._valkey)):
            self._writer.add(f"valkey/{number:06}", b"\n".join(record.to_json() for record in records))
            count += len(records)
        return count

    def _manifest(self, rows: Rows, counts: dict[str, int]) -> dict[str, Any]:
        kept = [row for row in rows.uploads.values() if row.is_searchable]
        known = {row.file_id for row in rows.uploads.values()}
        points = sum(self._points[self._round_of[row.upload_id], row.upload_id] for row in kept)
        lacking = [row for row in rows.uploads.values() if row.file_id in self._missing and not row.in_progress]
        self.warnings += [f"upload {row.upload_id} has no file: the file store has lost it" for row in lacking]
        return {
            "format": FORMAT,
            "version": VERSION,
            "revision": REVISION,
            "deployment": self._services.deployment.read(),
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "counts": counts | {"files": len(self._files & known), "points": points},
            "files": sorted(self._files & known),
            "uploads": {row.upload_id: [row.user_id, self._round_of[row.upload_id]] for row in kept},
        }


def _parts(snapshot: KeySnapshot, valkey: Redis) -> Iterator[list[KeyRecord]]:
    for start in range(0, len(snapshot.records), RECORDS_IN_A_MEMBER):
        yield snapshot.records[start : start + RECORDS_IN_A_MEMBER]
    yield from snapshot.read_others(valkey)


def _read_rows(connection: Connection) -> Rows:
    uploads = [UploadState(**row._mapping) for row in connection.execute(select(*_COLUMNS))]  # noqa: SLF001
    versions = select(IndexVersionRow.collection).where(IndexVersionRow.state != VersionState.REMOVING)
    return Rows({row.upload_id: row for row in uploads}, frozenset(connection.execute(versions).scalars()))


def _jobless(uploads: Iterable[UploadState], keys: KeySnapshot) -> bool:
    """Return True if the job of an upload is not among the jobs: its row was written after the jobs were read."""
    return any(row.in_progress and row.job_id and row.job_id not in keys.unended for row in uploads)
