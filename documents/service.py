"""What can be done with uploads: accept, index again, delete, and reconcile with their jobs.

The file is written before the row, and the row before the job. So a crash anywhere leaves either a file without a row,
which an audit removes, or a row without a job, which `reconcile` submits again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, BinaryIO

from client.files.store import FileStore
from client.rq.ids import new_id
from client.rq.records import PROCESS_PDF, REMOVE_UPLOAD
from client.rq_client import JobQueue, too_many_jobs
from client.sql.uploads import CANCELLED, UploadRepository
from documents.incoming import MeasuredFile, clean_name
from documents.refusals import MIB, not_found, not_ready, storage_full
from documents.threads import InThread
from errors import (
    AppError,
    JobExpired,
    JobNotFound,
    QueueUnavailable,
    TooManyJobs,
    UploadNotFound,
)
from rag.ingest.media_types import detect
from schemas import JobStatus, JobView, Upload, UploadStatus, UploadTask

# A row younger than this may be between its commit and the submission of its job.
YOUNG_SECONDS = 10.0
# index.py writes to its row at least once a batch. An index.py that was silent for this long was killed.
LOCAL_SECONDS = 600.0
# `reconcile_unfinished` leaves alone the uploads, and the questions that wait for uploads, changed within this time.
UNCHANGED_SECONDS = 30.0
RECONCILE_BATCH = 100
INDEXING = frozenset({UploadStatus.QUEUED, UploadStatus.PROCESSING})
UNFINISHED = INDEXING | {UploadStatus.DELETING}


class OnDuplicate(StrEnum):
    """What to do with a file that the user has uploaded before, byte for byte.

    `skip` keeps the earlier upload, and indexes it again only if indexing failed; `replace` gives it the new name, and
    always indexes it again; `keep` makes another upload.
    """

    SKIP = "skip"
    REPLACE = "replace"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class AcceptedUpload:
    """An accepted upload. `duplicate`: the user had it before; `queued`: a job will index it."""

    upload: Upload
    duplicate: bool
    queued: bool


@dataclass(frozen=True, slots=True)
class Reconciled:
    """An upload as stored after it was reconciled with its job; None if the upload is gone.

    `submitted`: its job was lost and was put on the queue again.
    """

    upload: Upload | None
    submitted: bool = False


class DocumentService:
    """Uploads, their files and their jobs. Without a queue the caller does the work of the jobs, as index.py does.

    A `user_id` of None means the uploads of all users. Every method raises UploadsUnavailable, FilesUnavailable and
    QueueUnavailable.
    """

    def __init__(
        self,
        uploads: UploadRepository,
        files: FileStore,
        queue: JobQueue | None,
        *,
        max_waiting: int | None = None,
        max_stored_mb: int | None = None,
        converts: bool = False,
        in_sql_thread: InThread = asyncio.to_thread,
        in_files_thread: InThread = asyncio.to_thread,
    ) -> None:
        """`max_waiting` bounds the waiting jobs of a user, `max_stored_mb` a user's files in MiB; None: no bound.

        `converts`: a service reads further kinds of files. `in_sql_thread` and `in_files_thread` run the calls of the
        database and of the file store, which block.
        """
        self._in_sql_thread = in_sql_thread
        self._in_files_thread = in_files_thread
        self._max_waiting = max_waiting
        self._max_stored_mb = max_stored_mb
        self._converts = converts
        self._uploads = uploads
        self._files = files
        self._queue = queue
        self._reconciled_to = ""

    async def accept(
        self,
        file: BinaryIO,
        *,
        name: str,
        user_id: str = "local",
        on_duplicate: OnDuplicate = OnDuplicate.SKIP,
        upload_id: str | None = None,
        **details: Any,
    ) -> AcceptedUpload:
        """Store a file and queue the job that indexes the file. If `upload_id` exists, that upload gets the new file.

        `details` are further fields of the upload. Raises DocumentError for a file of a kind that is not accepted.
        """
        new = await self._in_files_thread(
            self._store, file, name=clean_name(name), user_id=user_id, upload_id=upload_id
        )
        new = new.model_copy(update=details)
        existing = await self._in_sql_thread(self._uploads.get, new.upload_id, user_id=user_id)
        if existing is not None and existing.status is UploadStatus.DELETING:
            new = new.model_copy(update={"upload_id": new_id()})
        elif existing is not None:
            return await self._replace_file(existing, new)
        # If `add` raises, the file stays: the row may have been written all the same. An audit removes lost files.
        unique = on_duplicate is not OnDuplicate.KEEP
        added = await self._in_sql_thread(self._uploads.add, new, unique=unique)
        if added.upload_id != new.upload_id:
            await self._in_files_thread(self._files.delete, new.file_id)
            return await self._accept_duplicate(added, new.name, on_duplicate)
        await self._submit_new(new)
        return AcceptedUpload(upload=new, duplicate=False, queued=True)

    def media_type(self, file: BinaryIO, name: str) -> str:
        """Return the media type of a file. Raises UnsupportedFile for a kind that is not accepted, DocumentError."""
        return detect(file, clean_name(name), converts=self._converts)

    async def check_limits(self, user_id: str, *, files: int, size_bytes: int) -> None:
        """Raise TooManyRequests unless the user may upload this many more files of this total size.

        Requests sent at the same moment do not see each other: the last of them may exceed MAX_STORED_MB, and may have
        its last files refused.
        """
        if self._max_waiting is not None and self._queue is not None:
            waiting = await self._queue.count_waiting(user_id)
            if waiting + files > self._max_waiting:
                raise too_many_jobs(self._max_waiting)
        if self._max_stored_mb is not None:
            stored = await self._in_sql_thread(self._uploads.stored_bytes, user_id)
            free = max(0, self._max_stored_mb * MIB - stored)
            if size_bytes > free:
                raise storage_full(self._max_stored_mb, free)

    async def reindex(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Index an upload again, unless it is queued or being indexed already. Raises UploadNotFound."""
        upload = await self.get(upload_id, user_id=user_id)
        if upload.status is UploadStatus.DELETING:
            raise not_found()
        if upload.status in INDEXING:
            return upload
        return await self._requeue(upload, limited=True)

    async def delete(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Delete an upload: no later answer uses it; a job removes points, file and row. Raises UploadNotFound."""
        job_id = new_id()
        if not _is_uuid(upload_id):
            raise not_found()
        marked = await self._in_sql_thread(self._uploads.mark_deleting, upload_id, user_id=user_id, job_id=job_id)
        if marked is None:
            raise not_found()
        if marked.job_id == job_id and self._queue is not None:
            with suppress(QueueUnavailable):  # the row names the job: `reconcile` submits it once the queue is back
                await self._submit(marked)
        return marked

    async def get(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Return an upload, reconciled with its job where the queue can be reached.

        An upload that is being deleted is returned too. Raises UploadNotFound.
        """
        try:
            return await self._get_reconciled(upload_id, user_id=user_id)
        except QueueUnavailable:
            return await self._get(upload_id, user_id=user_id)

    async def prerequisite_jobs(
        self, upload_ids: Sequence[str], *, user_id: str | None = "local", wait: bool
    ) -> list[str]:
        """Return the jobs that must end before a question about these uploads can run.

        `wait`: the question waits for uploads that are being indexed. Raises UploadNotFound, and UploadNotReady for an
        upload that was never indexed and for which the question does not wait.
        """
        jobs = []
        for upload_id in upload_ids:
            upload = await self._get_reconciled(upload_id, user_id=user_id)
            if upload.status is UploadStatus.DELETING:
                raise not_found()
            if wait and upload.status in INDEXING and upload.job_id is not None:
                jobs.append(upload.job_id)
            elif upload.indexed_at is None:
                raise not_ready(upload, wait=wait)
        return jobs

    async def reconcile_unfinished(self) -> None:
        """Reconcile the next batch of unfinished uploads, and release stranded questions."""
        uploads = await self._in_sql_thread(
            self._uploads.unfinished,
            unchanged_seconds=UNCHANGED_SECONDS,
            after=self._reconciled_to,
            limit=RECONCILE_BATCH,
        )
        self._reconciled_to = uploads[-1].upload_id if len(uploads) == RECONCILE_BATCH else ""
        for upload in uploads:
            await self.reconcile(upload)
        if self._queue is not None:
            await self._queue.release_stranded(waiting_seconds=UNCHANGED_SECONDS)

    async def delete_expired(self) -> None:
        """Delete uploads whose time has come."""
        for upload_id in await self._in_sql_thread(self._uploads.expired):
            with suppress(UploadNotFound):
                await self.delete(upload_id, user_id=None)

    async def reconcile(self, upload: Upload) -> Reconciled:
        """Bring an upload in line with its job: submit a lost job again, record a failure that the row does not show.

        Raises QueueUnavailable.
        """
        if self._queue is None or _seconds_since(upload.updated_at) < YOUNG_SECONDS:
            return Reconciled(upload)
        if upload.job_id is None:  # index.py works on the upload
            killed = _seconds_since(upload.updated_at) > LOCAL_SECONDS
            return Reconciled(await self._requeue(upload), submitted=True) if killed else Reconciled(upload)
        job = await _fetch_job(self._queue, upload.job_id)
        if job is None:
            await self._submit(upload)
            return Reconciled(upload, submitted=True)
        if not job.status.terminal:
            return Reconciled(upload)
        if upload.status is UploadStatus.DELETING:
            return Reconciled(await self._requeue(upload), submitted=True)
        reason, error = _failure_of(job)
        failed = await self._in_sql_thread(self._uploads.fail_if_unchanged, upload, reason=reason, error=error)
        return Reconciled(failed or await self._in_sql_thread(self._uploads.get, upload.upload_id))

    async def _get_reconciled(self, upload_id: str, *, user_id: str | None) -> Upload:
        """Return an upload, reconciled with its job. Raises UploadNotFound and QueueUnavailable."""
        upload = await self._get(upload_id, user_id=user_id)
        if upload.status not in UNFINISHED:
            return upload
        reconciled = (await self.reconcile(upload)).upload
        if reconciled is None:
            raise not_found()
        return reconciled

    async def _get(self, upload_id: str, *, user_id: str | None) -> Upload:
        if not _is_uuid(upload_id):
            raise not_found()
        upload = await self._in_sql_thread(self._uploads.get, upload_id, user_id=user_id)
        if upload is None:
            raise not_found()
        return upload

    def _store(self, file: BinaryIO, *, name: str, user_id: str, upload_id: str | None) -> Upload:
        """Write a file to the file store and return an upload for it, not yet in the table."""
        media_type = self.media_type(file, name)
        measured = MeasuredFile(file)
        file_id = str(uuid.uuid4())
        self._files.put(file_id, measured.chunks())
        now = datetime.now(UTC)
        return Upload(
            upload_id=upload_id or new_id(),
            user_id=user_id,
            file_id=file_id,
            name=name,
            media_type=media_type,
            bytes=measured.bytes,
            sha256=measured.sha256.hexdigest(),
            status=UploadStatus.QUEUED,
            job_id=new_id() if self._queue is not None else None,
            created_at=now,
            updated_at=now,
        )

    async def _submit_new(self, new: Upload) -> None:
        try:
            await self._submit(new, limited=True)
        except AppError:
            # A refused upload leaves nothing behind. If the job was queued all the same, the job finds no row.
            await self._in_sql_thread(self._uploads.undo_add, new.upload_id, job_id=new.job_id or "")
            await self._in_files_thread(self._files.delete, new.file_id)
            raise

    async def _accept_duplicate(self, existing: Upload, name: str, on_duplicate: OnDuplicate) -> AcceptedUpload:
        usable = existing.status in INDEXING or existing.status is UploadStatus.READY
        if on_duplicate is OnDuplicate.SKIP and usable:
            return AcceptedUpload(upload=existing, duplicate=True, queued=False)
        values = {"name": name} if on_duplicate is OnDuplicate.REPLACE else {}
        upload = await self._requeue(existing, limited=True, **values)
        return AcceptedUpload(upload=upload, duplicate=True, queued=True)

    async def _replace_file(self, existing: Upload, new: Upload) -> AcceptedUpload:
        """Give an upload a new version of its file, and delete the old file."""
        fields = new.model_dump(include={"file_id", "name", "media_type", "bytes", "sha256"})
        upload = await self._requeue(existing, limited=True, **fields)
        if upload.file_id != new.file_id:
            raise QueueUnavailable("the upload is being changed by another process; try again", retry_after_seconds=5)
        await self._in_files_thread(self._files.delete, existing.file_id)
        return AcceptedUpload(upload=upload, duplicate=existing.sha256 == new.sha256, queued=True)

    async def _requeue(self, upload: Upload, *, limited: bool = False, **values: Any) -> Upload:
        """Give an upload a new job and `values`, unless the row has changed meanwhile. Return the stored upload."""
        job_id = new_id() if self._queue is not None else None
        if upload.status is UploadStatus.DELETING:
            values["status"] = UploadStatus.DELETING
        if values.get("sha256", upload.sha256) != upload.sha256:
            values["unique_sha256"] = None  # another upload may have the new content
        queued = await self._in_sql_thread(self._uploads.requeue, upload, job_id=job_id, **values)
        if queued is None:
            return await self._get(upload.upload_id, user_id=upload.user_id)
        try:
            await self._submit(queued, limited=limited)
        except (QueueUnavailable, TooManyJobs):
            earlier = upload.model_dump(exclude={"upload_id", "updated_at", "job_id"})
            await self._in_sql_thread(self._uploads.requeue, queued, job_id=upload.job_id, **earlier)
            raise
        return queued

    async def _submit(self, upload: Upload, *, limited: bool = False) -> None:
        """Queue the upload's job under the job id of the row, so that a second submission changes nothing.

        `limited` raises TooManyJobs when the user has `max_waiting` waiting jobs.
        """
        if self._queue is None:
            return
        function = REMOVE_UPLOAD if upload.status is UploadStatus.DELETING else PROCESS_PDF
        task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
        await self._queue.submit(
            "document",
            task.model_dump(mode="json"),
            owner=upload.user_id,
            function=function,
            job_id=upload.job_id,
            max_waiting=self._max_waiting if limited else None,
        )


async def _fetch_job(queue: JobQueue, job_id: str) -> JobView | None:
    try:
        return await queue.fetch(job_id)
    except (JobNotFound, JobExpired):
        return None


def _failure_of(job: JobView) -> tuple[str, str]:
    """Return reason and error for an upload whose job ended without changing it."""
    if job.status is JobStatus.CANCELLED:
        return CANCELLED
    if job.failure is None:
        return "internal", "the job ended without indexing the file; index it again"
    return "timeout" if job.failure.code == "job_timed_out" else job.failure.code, job.failure.detail


def _seconds_since(then: datetime) -> float:
    return (datetime.now(UTC) - then).total_seconds()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
