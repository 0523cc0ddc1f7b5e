"""The consistency check: rows, files and points of uploads that do not belong together, and their repair.

Nothing here is needed while all goes well. A crash between two steps, a restored backup or a change by hand in the
database leaves such remains. Questions never find them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from queues.wiring import Services
from schemas import SearchFilter, Upload, UploadStatus

# The row of a younger file may be about to be written.
MIN_FILE_AGE_SECONDS = 3_600.0
FILE_MISSING = "file_missing"
# A job or a delete is at work on these.
_IN_PROGRESS = frozenset({UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING})


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """Stored things that do not belong together, and their repair.

    `description` and `outcome` are phrases for the operator: "file … of no upload" and "removed".
    """

    description: str
    outcome: str
    repair: Callable[[], object]


def check_consistency(
    services: Services, *, reindex: Callable[[Upload], object], min_file_age_seconds: float = MIN_FILE_AGE_SECONDS
) -> Iterator[Inconsistency]:
    """Yield each inconsistency of the stores. `reindex` has an upload indexed again.

    Safe beside running workers: points and files are listed before rows, and a point or file without a row never gets
    one later.
    """
    points = services.store.count_by_upload()
    files = dict(services.files.all())
    rows = {upload.upload_id: upload for upload in services.uploads.all()}
    yield from _points_without_rows(services, points, rows)
    yield from _files_without_rows(services, files, rows, min_file_age_seconds)
    for upload in rows.values():
        if upload.status in _IN_PROGRESS:
            continue
        if upload.file_id not in files:
            yield from _row_without_file(services, upload)
        elif upload.status is UploadStatus.READY and _count_points(services, upload) != upload.chunks:
            stored = _count_points(services, upload)
            description = f"upload {upload.upload_id}: {stored} points for {upload.chunks} chunks"
            yield Inconsistency(description, "indexed again", partial(reindex, upload))


def _points_without_rows(
    services: Services, points: dict[tuple[str, str], int], rows: dict[str, Upload]
) -> Iterator[Inconsistency]:
    """Yield the points of unknown uploads. `points` maps user and upload to the number of points."""
    for (user_id, upload_id), count in points.items():
        upload = rows.get(upload_id)
        never_ready = upload is not None and upload.status is UploadStatus.FAILED and upload.indexed_at is None
        if upload is None or upload.user_id != user_id or never_ready:
            remove = partial(services.store.delete, upload_id, user_id=user_id)
            yield Inconsistency(f"{count} points of {upload_id}, which is no upload", "removed", remove)


def _files_without_rows(
    services: Services, files: dict[str, datetime], rows: dict[str, Upload], min_age_seconds: float
) -> Iterator[Inconsistency]:
    known = {upload.file_id for upload in rows.values()}
    for file_id, stored_at in files.items():
        age_seconds = (datetime.now(UTC) - stored_at).total_seconds()
        if file_id not in known and age_seconds >= min_age_seconds and _is_file_id(file_id):
            yield Inconsistency(f"file {file_id} of no upload", "removed", partial(services.files.delete, file_id))


def _row_without_file(services: Services, upload: Upload) -> Iterator[Inconsistency]:
    """Yield a lost file once. The points stay: the file may only seem lost, because of a wrong FILE_STORE_URL."""
    if upload.reason != FILE_MISSING:
        mark_failed = partial(
            services.uploads.fail,
            upload.upload_id,
            job_id=upload.job_id,
            reason=FILE_MISSING,
            error="the uploaded file is no longer there: upload it again",
        )
        yield Inconsistency(f"upload {upload.upload_id} has no file", "noted as failed", mark_failed)


def _count_points(services: Services, upload: Upload) -> int:
    return services.store.count(SearchFilter(user_id=upload.user_id, upload_ids=(upload.upload_id,)))


def _is_file_id(name: str) -> bool:
    """Return True for an id of a file of this service, or of a half-written one; others may share the place."""
    try:
        uuid.UUID(name.removesuffix(".partial"))
    except ValueError:
        return False
    return True
