"""Indexing and deleting an upload, in step with its row in the list.

Other processes may change the row at any moment: delete the upload, or give it to another job. So the row is asked
after every batch, and each change of it names this job. Whoever finds that the upload is to be deleted removes its
points; so the one that writes last cleans up, in whichever order a delete and an indexing meet.
"""

from __future__ import annotations

import time
from contextlib import suppress

from client.llm.deadline import current_deadline
from client.sql.uploads import CANCELLED
from errors import (
    AppError,
    DocumentError,
    FileMissing,
    JobCancelled,
    JobStopped,
    JobTimedOut,
    ProviderError,
    StoreError,
    UploadGone,
)
from queues.wiring import Services
from rag.ingest.indexing import ProgressCallback, index_document
from schemas import Document, Indexed, Progress, Removed, Upload, UploadStatus, UploadTask

ROW_SECONDS = 0.5


def index_upload(task: UploadTask, use: Services, report: ProgressCallback, *, job_id: str | None) -> Indexed:
    """Index an upload, and have its row say what came of it.

    Raises:
        UploadGone: it was deleted, or another job has it now.
        JobStopped: the job was taken from this worker; the row is then another's.
        AppError: it failed, and the row says so.

    """
    before = use.uploads.get(task.upload_id)
    upload = use.uploads.begin(task.upload_id, job_id=job_id)
    if before is None or upload is None:
        raise _gone(task, use)
    try:
        indexed = _index(upload, use, report, fresh=before.started_at is None)
        # From here on the chunks are found, so they must all be there.
        if use.uploads.finish(task.upload_id, job_id=job_id, pages=indexed.pages, chunks=indexed.chunks) is None:
            raise _gone(task, use)
    except JobCancelled:
        _fail(upload, use, *CANCELLED)
        raise
    except (UploadGone, JobStopped):
        raise
    except JobTimedOut:
        _fail(upload, use, *_TIMEOUT)
        raise
    except AppError as error:
        _fail(upload, use, reason=_reason(error), error=error.detail)
        raise
    except Exception as error:
        reason, detail = _TIMEOUT if "Timeout" in type(error).__name__ else _INTERNAL  # RQ's own
        _fail(upload, use, reason=reason, error=detail)
        raise
    return indexed


_TIMEOUT = ("timeout", "indexing ran too long (INGESTION_TIMEOUT_SECONDS)")
_INTERNAL = ("internal", "indexing failed inside; the worker's log says why")


def remove_upload(task: UploadTask, use: Services) -> Removed:
    """Remove what is stored of an upload that is being deleted: points, file, row. Run again, it goes on."""
    upload = use.uploads.get(task.upload_id)
    if upload is not None and upload.status is not UploadStatus.DELETING:
        raise UploadGone("the upload is not to be deleted")
    use.store.delete_everywhere(task.upload_id, user_id=task.user_id)
    if upload is None:
        return Removed(upload_id=task.upload_id, name=task.upload_id)
    use.files.delete(upload.file_id)
    use.uploads.forget(upload.upload_id)
    return Removed(upload_id=upload.upload_id, name=upload.name)


def _index(upload: Upload, use: Services, report: ProgressCallback, *, fresh: bool) -> Indexed:
    task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
    written_at = time.monotonic()
    pages_done, pages = 0, 0

    def reported(progress: Progress) -> None:
        nonlocal pages_done, pages, written_at
        report(progress)
        pages_done, pages = progress.done or 0, progress.total or 0
        if time.monotonic() - written_at >= ROW_SECONDS:
            check()

    def check() -> None:
        nonlocal written_at
        written_at = time.monotonic()
        current_deadline().check()
        if use.uploads.progress(upload.upload_id, job_id=upload.job_id, pages_done=pages_done, pages=pages) is None:
            raise _gone(task, use)

    with use.files.local(upload.file_id) as path:
        document = Document(
            upload_id=upload.upload_id,
            path=str(path),
            name=upload.name,
            user_id=upload.user_id,
            media_type=upload.media_type,
        )
        return index_document(document, use.store, reported, limits=use.limits, check=check, fresh=fresh)


def _gone(task: UploadTask, use: Services) -> UploadGone:
    """Remove what this job stored of an upload that was deleted meanwhile; say what happened to it."""
    upload = use.uploads.get(task.upload_id)
    if upload is None or upload.status is UploadStatus.DELETING:
        use.store.delete(task.upload_id, user_id=task.user_id)
        return UploadGone("the upload was deleted")
    return UploadGone("the upload is being indexed by another job")


def _fail(upload: Upload, use: Services, reason: str, error: str) -> None:
    """Note a failure. Of an upload that never was ready nothing is kept but its file; else the old chunks stay."""
    if upload.indexed_at is None:
        with suppress(StoreError):
            use.store.delete(upload.upload_id, user_id=upload.user_id)
    use.uploads.fail(upload.upload_id, job_id=upload.job_id, reason=reason, error=error)


def _reason(error: AppError) -> str:
    if isinstance(error, DocumentError):
        return error.reason
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "internal"


_REASONS: tuple[tuple[type[AppError], str], ...] = (
    (ProviderError, "provider_error"),
    (StoreError, "store_error"),
    (FileMissing, "file_missing"),
)
