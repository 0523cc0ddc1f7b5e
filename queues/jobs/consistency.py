"""The consistency check: rows, files and points of uploads that do not belong together, and their repair.

A crash between two steps, a restored backup or a manual change in the database leaves such remains. Questions never
find them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from client.files.store import PARTIAL_SUFFIX, file_missing
from client.qdrant.store import VectorStore
from queues.wiring import Services
from schemas import SearchFilter, Upload, UploadStatus

# The row of a younger file may be about to be written.
MIN_FILE_AGE_SECONDS = 3_600.0
FILE_MISSING = "file_missing"
STORE_ERROR = "store_error"
# A job works on uploads in these states.
_IN_PROGRESS = frozenset({UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING})


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """Stored things that do not belong together, and their repair.

    `description` and `outcome` are phrases for the operator: "file … belongs to no upload" and "removed". `deletes`:
    the repair removes data, which may seem to belong to nothing because of a wrong setting.
    """

    description: str
    outcome: str
    repair: Callable[[], object]
    deletes: bool = False


def check_consistency(
    services: Services, *, reindex: Callable[[Upload], object], min_file_age_seconds: float = MIN_FILE_AGE_SECONDS
) -> Iterator[Inconsistency]:
    """Yield each inconsistency of the stores. `reindex` has an upload indexed again.

    Safe beside running workers: points and files are listed before rows, and a point or file without a row never gets
    one later.
    """
    stores = [services.store, *_stores_being_built(services)]
    points = [(store, store.count_by_upload()) for store in stores]
    files = dict(services.files.all())
    rows = {upload.upload_id: upload for upload in services.uploads.all()}
    for store, counts in points:
        yield from _points_without_rows(store, counts, rows)
    yield from _collections_without_version(services)
    yield from _built_without_points(services, points)
    yield from _files_without_rows(services, files, rows, min_file_age_seconds)
    for upload in rows.values():
        if upload.status in _IN_PROGRESS:
            continue
        if upload.file_id not in files:
            yield from _row_without_file(services, upload)
        elif _seems_incomplete(upload, points[0][1]) and (stored := _count_points(services, upload)) != upload.chunks:
            description = f"upload {upload.upload_id}: {stored} points for {upload.chunks} chunks"
            yield Inconsistency(description, "indexed again", partial(reindex, upload))


def incomplete_uploads(services: Services) -> list[Upload]:
    """Return the uploads that are ready and have fewer points than chunks. Raises StoreError."""
    points = services.store.count_by_upload()
    suspects = [upload for upload in services.uploads.all() if _seems_incomplete(upload, points)]
    return [upload for upload in suspects if _lacks_points(services, upload)]


def lost_with_the_store(services: Services) -> list[Upload]:
    """Return the failed uploads whose points, or whose indexing, a damaged store has cost."""
    return [
        upload
        for upload in services.uploads.all()
        if upload.status is UploadStatus.FAILED
        and upload.reason != FILE_MISSING
        and (upload.indexed_at is not None or upload.reason == STORE_ERROR)
    ]


def _seems_incomplete(upload: Upload, points: Mapping[tuple[str, str], int]) -> bool:
    """Return True if a ready upload did not have its points when all were counted, which was before its row was read.

    Who asks again opens an embedded store that a worker has open: 0.4 s for each upload.
    """
    stored = points.get((upload.user_id, upload.upload_id), 0)
    return upload.status is UploadStatus.READY and stored != upload.chunks


def _lacks_points(services: Services, upload: Upload) -> bool:
    """Return True if an upload still lacks points: it may have been indexed again since they were counted."""
    current = services.uploads.get(upload.upload_id)
    if current is None or current.status is not UploadStatus.READY:
        return False
    return _count_points(services, current) < (current.chunks or 0)


def _stores_being_built(services: Services) -> list[VectorStore]:
    version = services.index.versions.under_way()
    return [] if version is None else [services.index.open(version).store]


def _collections_without_version(services: Services) -> Iterator[Inconsistency]:
    """Yield the collections of versions that are unknown, such as those that earlier releases left behind."""
    names = services.index.collections.names()
    known = {version.collection for version in services.index.versions.all()}
    for name in names:
        if known and name not in known:
            remove = partial(services.index.collections.remove, name)
            yield Inconsistency(f"collection {name} is no version of the index", "removed", remove, deletes=True)


def _built_without_points(
    services: Services, points: list[tuple[VectorStore, dict[tuple[str, str], int]]]
) -> Iterator[Inconsistency]:
    """Yield the uploads whose points in the version being built are not those that its build has noted."""
    version = services.index.versions.under_way()
    if version is None or len(points) == 1:
        return
    stored = points[1][1]
    for (user_id, upload_id), chunks in services.index.versions.built_counts(version).items():
        found = stored.get((user_id, upload_id), 0)
        if found < chunks:
            again = partial(services.index.versions.unmark_built, upload_id)
            yield Inconsistency(
                f"upload {upload_id}: {found} points for {chunks} chunks in the index being built", "built again", again
            )


def _points_without_rows(
    store: VectorStore, points: dict[tuple[str, str], int], rows: dict[str, Upload]
) -> Iterator[Inconsistency]:
    """Yield the points of uploads that are unknown, never became ready, or belong to another user.

    `points` maps user id and upload id to the number of points.
    """
    for (user_id, upload_id), count in points.items():
        upload = rows.get(upload_id)
        never_ready = upload is not None and upload.status is UploadStatus.FAILED and upload.indexed_at is None
        if upload is None or upload.user_id != user_id or never_ready:
            remove = partial(store.delete, upload_id, user_id=user_id)
            yield Inconsistency(
                f"{count} points belong to no searchable upload ({upload_id})", "removed", remove, deletes=True
            )


def _files_without_rows(
    services: Services, files: dict[str, datetime], rows: dict[str, Upload], min_age_seconds: float
) -> Iterator[Inconsistency]:
    known = {upload.file_id for upload in rows.values()}
    for file_id, stored_at in files.items():
        age_seconds = (datetime.now(UTC) - stored_at).total_seconds()
        if file_id not in known and age_seconds >= min_age_seconds and _is_file_id(file_id):
            remove = partial(services.files.delete, file_id)
            yield Inconsistency(f"file {file_id} belongs to no upload", "removed", remove, deletes=True)


def _row_without_file(services: Services, upload: Upload) -> Iterator[Inconsistency]:
    """Yield an upload whose file is lost, once. The points stay: with a wrong FILE_STORE_URL files only seem lost."""
    if upload.reason != FILE_MISSING:
        mark_failed = partial(
            services.uploads.fail,
            upload.upload_id,
            job_id=upload.job_id,
            reason=FILE_MISSING,
            error=file_missing().detail,
        )
        yield Inconsistency(f"upload {upload.upload_id} has no file", "noted as failed", mark_failed)


def _count_points(services: Services, upload: Upload) -> int:
    return services.store.count(SearchFilter(user_id=upload.user_id, upload_ids=(upload.upload_id,)))


def _is_file_id(name: str) -> bool:
    """Return True for the id of a file of this service, whole or half-written: other files may share the place."""
    try:
        uuid.UUID(name.removesuffix(PARTIAL_SUFFIX))
    except ValueError:
        return False
    return True
