"""Indexing and deleting an upload, in step with its row in the list of uploads.

Another process may delete the upload, or give it to another job, at any moment. So an indexing job reads the row after
every batch, and each change of the row names the job. A job that finds its upload deleted removes the upload's points,
so that points never outlive the upload, whichever of the two jobs writes last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from client.files.store import FileStore
from client.llm.deadline import current_deadline
from client.qdrant.store import VectorStore
from client.sql.index_versions import NextUpload
from client.sql.uploads import CANCELLED
from errors import (
    AppError,
    DocumentError,
    FileMissing,
    IndexSwitched,
    JobCancelled,
    JobStopped,
    JobTimedOut,
    ProviderError,
    StoreError,
    StoreUnavailable,
    UploadGone,
    UploadsUnavailable,
)
from queues.wiring import Services
from rag.ingest.indexing import OutageCallback, ProgressCallback, give_up, index_document
from schemas import Document, Indexed, Page, Progress, Removed, Upload, UploadStatus, UploadTask

# The row is read and updated at least this often while pages are read.
ROW_SECONDS = 0.5
# Reason and sentence for the row.
_TIMEOUT = ("timeout", "indexing ran too long (INGESTION_TIMEOUT_SECONDS)")
_INTERNAL = ("internal", "indexing failed with an internal error; the worker's log says why")


def index_upload(
    task: UploadTask,
    services: Services,
    report: ProgressCallback,
    *,
    job_id: str | None,
    outlasts_outage: Callable[[], bool] = lambda: False,
    on_outage: OutageCallback = give_up,
) -> Indexed:
    """Index an upload, and write the outcome into its row.

    `job_id` is None outside any job. While `outlasts_outage` is True, the job is run again after a StoreUnavailable.
    `on_outage` may wait instead, so that the vectors of a batch are kept.

    Raises:
        StoreUnavailable: the vector store does not answer. The row is unchanged if the job is run again.
        UploadGone: the upload was deleted, or another job indexes the upload now.
        JobStopped: another worker has taken over the job, and with it the row.
        AppError: indexing failed; the row says why.

    """
    while True:
        try:
            return _index_once(
                task, services, report, job_id=job_id, outlasts_outage=outlasts_outage, on_outage=on_outage
            )
        except IndexSwitched:  # the upload is to be in the version that is searched now
            continue


def _index_once(
    task: UploadTask,
    services: Services,
    report: ProgressCallback,
    *,
    job_id: str | None,
    outlasts_outage: Callable[[], bool],
    on_outage: OutageCallback,
) -> Indexed:
    """As `index_upload`, into the version that is searched. Raises IndexSwitched if it is not at the end."""
    before = services.uploads.get(task.upload_id)
    upload = services.uploads.start(task.upload_id, job_id=job_id)
    if before is None or upload is None:
        raise _gone(task, services)
    try:
        searched = services.index.searched()
        fresh = before.started_at is None
        indexed = _index(upload, services, searched.store, report, fresh=fresh, on_outage=on_outage)
        # From here on questions find the chunks, so all chunks must be stored.
        version = searched.version.version_id
        finished = services.uploads.finish(
            task.upload_id,
            job_id=job_id,
            pages=indexed.pages,
            chunks=indexed.chunks,
            index_version=version,
            warnings=indexed.warnings,
        )
        if finished is None:
            raise _gone(task, services)
        if searched.version.dimensions is None and searched.store.dimensions is not None:
            services.index.versions.set_dimensions(version, searched.store.dimensions)
    except (JobCancelled, KeyboardInterrupt):  # the latter by Ctrl-C on index.py
        _cancel(upload, services)
        raise
    except (UploadGone, JobStopped, IndexSwitched):
        raise
    except JobTimedOut:
        _fail(upload, services, *_TIMEOUT)
        raise
    except AppError as error:
        if isinstance(error, StoreUnavailable) and outlasts_outage():
            raise
        _fail(upload, services, reason=_reason(error), error=error.detail)
        raise
    except Exception as error:
        reason, detail = _TIMEOUT if "Timeout" in type(error).__name__ else _INTERNAL  # RQ's exception
        _fail(upload, services, reason=reason, error=detail)
        raise
    return indexed


def remove_upload(task: UploadTask, services: Services) -> Removed:
    """Remove the points, the file and the row of an upload that is being deleted. A second run resumes a first one.

    Raises UploadGone when the upload is not being deleted.
    """
    upload = services.uploads.get(task.upload_id)
    if upload is not None and upload.status is not UploadStatus.DELETING:
        raise UploadGone("the upload is not to be deleted")
    services.store.delete_everywhere(task.upload_id, user_id=task.user_id)
    if upload is None:
        return Removed(upload_id=task.upload_id, name=task.upload_id)
    services.files.delete(upload.file_id)
    services.uploads.finish_delete(upload.upload_id)
    return Removed(upload_id=upload.upload_id, name=upload.name)


def _index(
    upload: Upload,
    services: Services,
    store: VectorStore,
    report: ProgressCallback,
    *,
    fresh: bool,
    on_outage: OutageCallback,
) -> Indexed:
    task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
    written_at = time.monotonic()
    pages_done, pages = 0, 0

    def on_progress(progress: Progress) -> None:
        nonlocal pages_done, pages, written_at
        report(progress)
        pages_done, pages = progress.done or 0, progress.total or 0
        if time.monotonic() - written_at >= ROW_SECONDS:
            check()

    def check() -> None:
        nonlocal written_at
        written_at = time.monotonic()
        current_deadline().check()
        row = services.uploads.record_progress(
            upload.upload_id, job_id=upload.job_id, pages_done=pages_done, pages=pages
        )
        if row is None:
            raise _gone(task, services)

    def wait(outage: StoreUnavailable) -> None:
        on_outage(outage)
        check()

    with local_document(upload, services.files) as document:
        return index_document(
            document,
            store,
            on_progress,
            limits=services.limits,
            check=check,
            fresh=fresh,
            on_outage=wait,
            keep=keep_recognized(upload, services, upload.started_at),
            converter=services.converter,
        )


def keep_recognized(
    upload: Upload | NextUpload, services: Services, read_at: datetime | None
) -> Callable[[Page], None]:
    """Return a function that keeps the pages that took OCR, so that a page that is looked at takes none."""

    def keep(page: Page) -> None:
        if read_at is not None:
            services.recognized.add(page, upload.upload_id, file_id=upload.file_id, read_at=read_at)

    return keep


@contextmanager
def local_document(upload: Upload | NextUpload, files: FileStore) -> Iterator[Document]:
    """Yield the document of an upload, with its file at a local path for as long."""
    with files.local_path(upload.file_id) as path:
        yield Document(
            upload_id=upload.upload_id,
            path=str(path),
            name=upload.name,
            user_id=upload.user_id,
            media_type=upload.media_type,
        )


def _gone(task: UploadTask, services: Services) -> UploadGone:
    """Return the error of a job that no longer has its upload; remove the points when the upload was deleted."""
    upload = services.uploads.get(task.upload_id)
    if upload is None or upload.status is UploadStatus.DELETING:
        services.store.delete_everywhere(task.upload_id, user_id=task.user_id)
        return UploadGone("the upload was deleted")
    return UploadGone("the upload is being indexed by another job")


def _cancel(upload: Upload, services: Services) -> None:
    """Write into the row that the indexing was cancelled, unless a write that Ctrl-C cut short holds the database."""
    with suppress(UploadsUnavailable):
        _fail(upload, services, *CANCELLED)


def _fail(upload: Upload, services: Services, reason: str, error: str) -> None:
    """Write a failure into the row. An upload that was ready keeps its old chunks; any other has its chunks removed."""
    if upload.indexed_at is None:
        with suppress(StoreError):
            services.store.delete(upload.upload_id, user_id=upload.user_id)
    services.uploads.fail(upload.upload_id, job_id=upload.job_id, reason=reason, error=error)


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
