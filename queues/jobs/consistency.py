"""Finding what does not belong together among rows, files, points and jobs, and mending it.

Nothing here is needed while all goes well: a crash between two steps, a restored backup or a hand in the database
leaves such things behind. None of them is ever found by a question.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from queues.wiring import Services
from schemas import SearchFilter, Upload, UploadStatus

# A file this young may be of an upload whose row is about to be written.
YOUNG_SECONDS = 3_600.0
FILE_MISSING = "file_missing"
_AT_WORK = frozenset({UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not belong, what is done about it, and the doing."""

    what: str
    remedy: str
    mend: Callable[[], object]


def audit(
    use: Services, *, reindex: Callable[[Upload], object], young_seconds: float = YOUNG_SECONDS
) -> Iterator[Finding]:
    """Walk what does not belong together. `reindex` has an upload indexed again.

    Safe beside running workers: points and files are listed before rows, so that what has no row then never will.
    """
    points = use.store.count_by_upload()
    files = dict(use.files.everything())
    rows = {upload.upload_id: upload for upload in use.uploads.everything()}
    yield from _points_without_rows(use, points, rows)
    yield from _files_without_rows(use, files, rows, young_seconds)
    for upload in rows.values():
        if upload.status in _AT_WORK:
            continue
        if upload.file_id not in files:
            yield from _row_without_file(use, upload)
        elif upload.status is UploadStatus.READY and _count(use, upload) != upload.chunks:
            stored = _count(use, upload)
            what = f"upload {upload.upload_id}: {stored} points for {upload.chunks} chunks"
            yield Finding(what, "indexed again", partial(reindex, upload))


def _points_without_rows(
    use: Services, points: dict[tuple[str, str], int], rows: dict[str, Upload]
) -> Iterator[Finding]:
    for (user_id, upload_id), count in points.items():
        upload = rows.get(upload_id)
        never_ready = upload is not None and upload.status is UploadStatus.FAILED and upload.indexed_at is None
        if upload is None or upload.user_id != user_id or never_ready:
            remove = partial(use.store.delete, upload_id, user_id=user_id)
            yield Finding(f"{count} points of {upload_id}, which is no upload", "removed", remove)


def _files_without_rows(
    use: Services, files: dict[str, datetime], rows: dict[str, Upload], young_seconds: float
) -> Iterator[Finding]:
    known = {upload.file_id for upload in rows.values()}
    for file_id, stored_at in files.items():
        age_seconds = (datetime.now(UTC) - stored_at).total_seconds()
        if file_id not in known and age_seconds >= young_seconds and _is_ours(file_id):
            yield Finding(f"file {file_id} of no upload", "removed", partial(use.files.delete, file_id))


def _row_without_file(use: Services, upload: Upload) -> Iterator[Finding]:
    """What is stored of it stays in answers: the file alone is lost, and maybe only for a wrong FILE_STORE_URL."""
    if upload.reason != FILE_MISSING:
        note = partial(
            use.uploads.fail,
            upload.upload_id,
            job_id=upload.job_id,
            reason=FILE_MISSING,
            error="the uploaded file is no longer there: upload it again",
        )
        yield Finding(f"upload {upload.upload_id} has no file", "noted as failed", note)


def _count(use: Services, upload: Upload) -> int:
    return use.store.count(SearchFilter(user_id=upload.user_id, upload_ids=(upload.upload_id,)))


def _is_ours(file_id: str) -> bool:
    """Tell ids of ours, and what is left of half-written files, from others' files in the same place."""
    try:
        uuid.UUID(file_id.removesuffix(".partial"))
    except ValueError:
        return False
    return True
