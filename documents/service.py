"""What can be done with uploads: take one in, index it again, delete it, and see to it that none is forgotten.

The row comes first and the job second, or the file first and the row second. So after a crash anywhere there is
either a file without a row, which an audit removes, or a row whose job is missing, which `settle` gives one.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, BinaryIO

from client.files.store import CHUNK_BYTES, FileStore
from client.rq.ids import new_id
from client.rq.records import PROCESS, REMOVE
from client.rq_client import JobQueue, too_many_jobs
from client.sql.uploads import CANCELLED, UploadRepository
from documents.media_types import detect
from errors import (
    AppError,
    JobExpired,
    JobNotFound,
    QueueUnavailable,
    TooManyJobs,
    TooManyRequests,
    UploadNotFound,
    UploadNotReady,
    rate_limit_headers,
)
from schemas import JobStatus, JobView, Upload, UploadStatus, UploadTask

MAX_NAME_CHARS = 255
MAX_SUFFIX_CHARS = 16
# A row this young may be between its commit and its job.
YOUNG_SECONDS = 10.0
# index.py writes to its row at least once a batch; one that was silent for so long was killed.
LOCAL_SECONDS = 600.0


# How long a row, or a question that waits for a row, is left alone by the round that looks for forgotten ones.
QUIET_SECONDS = 30.0
SETTLE_BATCH = 100
MIB = 1024 * 1024
# Nothing makes room but a delete; so a client that only waits should not do so often.
FULL_SECONDS = 3_600
UNSETTLED = frozenset({UploadStatus.QUEUED, UploadStatus.PROCESSING, UploadStatus.DELETING})


class OnDuplicate(StrEnum):
    """What to do with a file that the user has uploaded before, byte for byte.

    `skip` keeps the upload there is, and indexes it again only if that failed; `replace` gives it the new name and
    indexes it again; `keep` makes another upload.
    """

    SKIP = "skip"
    REPLACE = "replace"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An upload taken in. `duplicate`: it was there before; `queued`: a job will index it."""

    upload: Upload
    duplicate: bool
    queued: bool


class DocumentService:
    """Uploads, their files and their jobs. Without a queue, whoever asked runs the work: index.py does.

    Where `user_id` is given, only that user's uploads are there; None is everybody's. Every method raises
    UploadsUnavailable, FilesUnavailable and QueueUnavailable.
    """

    def __init__(
        self,
        uploads: UploadRepository,
        files: FileStore,
        queue: JobQueue | None,
        *,
        max_waiting: int | None = None,
        max_stored_mb: int | None = None,
    ) -> None:
        """`max_waiting` is how many jobs of a user may wait, `max_stored_mb` what they may keep; None is no limit."""
        self._max_waiting = max_waiting
        self._max_stored_mb = max_stored_mb
        self._uploads = uploads
        self._files = files
        self._queue = queue
        self._settled_to = ""

    async def accept(
        self,
        file: BinaryIO,
        *,
        name: str,
        user_id: str = "local",
        on_duplicate: OnDuplicate = OnDuplicate.SKIP,
        upload_id: str | None = None,
    ) -> Accepted:
        """Store a file and have it indexed. `upload_id`, if given, is that of an upload whose file this replaces.

        Raises DocumentError for a file that is not taken.
        """
        new = await asyncio.to_thread(self._store, file, name=clean_name(name), user_id=user_id, upload_id=upload_id)
        before = await asyncio.to_thread(self._uploads.get, new.upload_id, user_id=user_id)
        if before is not None and before.status is UploadStatus.DELETING:
            new = new.model_copy(update={"upload_id": new_id()})
        elif before is not None:
            return await self._replace_file(before, new)
        # Should this fail, the file stays: the row may have been written all the same, and an audit knows.
        unique = on_duplicate is not OnDuplicate.KEEP
        kept = await asyncio.to_thread(self._uploads.add, new, unique=unique)
        if kept.upload_id != new.upload_id:
            await asyncio.to_thread(self._files.delete, new.file_id)
            return await self._duplicate(kept, new.name, on_duplicate)
        await self._submit_new(new)
        return Accepted(upload=new, duplicate=False, queued=True)

    async def require_room(self, user_id: str, *, files: int, more_bytes: int) -> None:
        """Make sure that a user may bring so many more files, of so many bytes in all. Raises TooManyRequests.

        Those that are sent at the same moment do not see each other: the last of them may go beyond what may be kept,
        and have its last files refused.
        """
        if self._max_waiting is not None and self._queue is not None:
            waiting = await self._queue.count_waiting(user_id)
            if waiting + files > self._max_waiting:
                raise too_many_jobs(self._max_waiting)
        if self._max_stored_mb is not None:
            stored = await asyncio.to_thread(self._uploads.stored_bytes, user_id)
            free = max(0, self._max_stored_mb * MIB - stored)
            if more_bytes > free:
                raise TooManyRequests(
                    f"of the {self._max_stored_mb} MiB that a user may keep (MAX_STORED_MB) {free} bytes are free: "
                    "delete an upload first",
                    retry_after_seconds=FULL_SECONDS,
                    headers=rate_limit_headers(
                        "stored-bytes",
                        f'q={self._max_stored_mb * MIB};qu="content-bytes"',
                        remaining=free,
                        reset_seconds=FULL_SECONDS,
                    ),
                )

    async def reindex(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Index an upload again; one that waits for it or is at it stays as it is. Raises UploadNotFound."""
        upload = await self.get(upload_id, user_id=user_id)
        if upload.status is UploadStatus.DELETING:
            raise _not_found()
        if upload.status in {UploadStatus.QUEUED, UploadStatus.PROCESSING}:
            return upload
        return await self._requeue(upload, limited=True)

    async def remove(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Delete an upload: at once from every answer, then its points, file and row. Raises UploadNotFound."""
        job_id = new_id()
        if not _is_uuid(upload_id):
            raise _not_found()
        marked = await asyncio.to_thread(self._uploads.mark_deleting, upload_id, user_id=user_id, job_id=job_id)
        if marked is None:
            raise _not_found()
        if marked.job_id == job_id and self._queue is not None:
            with suppress(QueueUnavailable):  # the row asks for it: `settle` submits the job once the queue is back
                await self._submit(marked)
        return marked

    async def get(self, upload_id: str, *, user_id: str | None = "local") -> Upload:
        """Return an upload, after a look at its job. Raises UploadNotFound; one being deleted is still found."""
        try:
            return await self._settled(upload_id, user_id=user_id)
        except QueueUnavailable:
            return await self._get(upload_id, user_id=user_id)

    async def jobs_before(self, upload_ids: Sequence[str], *, user_id: str | None = "local", wait: bool) -> list[str]:
        """Return the jobs that have to end before a question about these uploads can run.

        Raises UploadNotFound, and UploadNotReady for one that cannot be searched yet and is not to be waited for.
        """
        jobs = []
        for upload_id in upload_ids:
            upload = await self._settled(upload_id, user_id=user_id)
            if upload.status is UploadStatus.DELETING:
                raise _not_found()
            at_work = upload.status in {UploadStatus.QUEUED, UploadStatus.PROCESSING}
            if wait and at_work and upload.job_id is not None:
                jobs.append(upload.job_id)
            elif upload.indexed_at is None:
                raise _not_ready(upload, wait=wait)
        return jobs

    async def settle_all(self) -> None:
        """Settle a batch of the uploads that wait for work, going round; and questions that wait for nothing."""
        waiting = await asyncio.to_thread(
            self._uploads.unsettled, quiet_seconds=QUIET_SECONDS, after=self._settled_to, limit=SETTLE_BATCH
        )
        self._settled_to = waiting[-1].upload_id if len(waiting) == SETTLE_BATCH else ""
        for upload in waiting:
            await self.settle(upload)
        if self._queue is not None:
            await self._queue.release_stranded(waiting_seconds=QUIET_SECONDS)

    async def settle(self, upload: Upload) -> Upload | None:
        """Give an upload whose job is lost another, and note the failure of one whose job failed unseen.

        Returns the upload as it now is. Raises QueueUnavailable.
        """
        if self._queue is None or _seconds_since(upload.updated_at) < YOUNG_SECONDS:
            return upload
        if upload.job_id is None:
            silent = _seconds_since(upload.updated_at) > LOCAL_SECONDS
            return await self._requeue(upload) if silent else upload
        job = await _job_of(self._queue, upload.job_id)
        if job is None:
            await self._submit(upload)
            return upload
        if not job.status.terminal:
            return upload
        if upload.status is UploadStatus.DELETING:
            return await self._requeue(upload)
        detail = job.failure.detail if job.failure else "the job ended without indexing the file; index it again"
        reason = job.failure.code if job.failure else "internal"
        reason = "timeout" if reason == "job_timed_out" else reason
        if job.status is JobStatus.CANCELLED:
            reason, detail = CANCELLED
        failed = await asyncio.to_thread(self._uploads.abandon, upload, reason=reason, error=detail)
        return failed or await asyncio.to_thread(self._uploads.get, upload.upload_id)

    async def _settled(self, upload_id: str, *, user_id: str | None) -> Upload:
        """Return an upload, after a look at its job. Raises UploadNotFound."""
        upload = await self._get(upload_id, user_id=user_id)
        settled = await self.settle(upload) if upload.status in UNSETTLED else upload
        if settled is None:
            raise _not_found()
        return settled

    async def _get(self, upload_id: str, *, user_id: str | None) -> Upload:
        if not _is_uuid(upload_id):
            raise _not_found()
        upload = await asyncio.to_thread(self._uploads.get, upload_id, user_id=user_id)
        if upload is None:
            raise _not_found()
        return upload

    def _store(self, file: BinaryIO, *, name: str, user_id: str, upload_id: str | None) -> Upload:
        """Put a file into the store and return an upload of it, not yet in the list."""
        media_type = detect(file, name)
        measured = _Measured(file)
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
            # Not accepted, so nothing stays. Should the job have got through, it finds nothing to do.
            await asyncio.to_thread(self._uploads.withdraw, new.upload_id, job_id=new.job_id or "")
            await asyncio.to_thread(self._files.delete, new.file_id)
            raise

    async def _duplicate(self, kept: Upload, name: str, on_duplicate: OnDuplicate) -> Accepted:
        at_work = kept.status in {UploadStatus.QUEUED, UploadStatus.PROCESSING}
        if on_duplicate is OnDuplicate.SKIP and (at_work or kept.status is UploadStatus.READY):
            return Accepted(upload=kept, duplicate=True, queued=False)
        values = {"name": name} if on_duplicate is OnDuplicate.REPLACE else {}
        return Accepted(upload=await self._requeue(kept, limited=True, **values), duplicate=True, queued=True)

    async def _replace_file(self, before: Upload, new: Upload) -> Accepted:
        """Give an upload a new version of its file, and drop the old one."""
        fields = new.model_dump(include={"file_id", "name", "media_type", "bytes", "sha256"})
        upload = await self._requeue(before, limited=True, **fields)
        if upload.file_id != new.file_id:
            raise QueueUnavailable("the upload is being changed by another process; try again", retry_after_seconds=5)
        await asyncio.to_thread(self._files.delete, before.file_id)
        return Accepted(upload=upload, duplicate=before.sha256 == new.sha256, queued=True)

    async def _requeue(self, was: Upload, *, limited: bool = False, **values: Any) -> Upload:
        """Give an upload another job, unless it has changed meanwhile; return it as it now is."""
        job_id = new_id() if self._queue is not None else None
        if was.status is UploadStatus.DELETING:
            values["status"] = UploadStatus.DELETING
        if values.get("sha256", was.sha256) != was.sha256:
            values["unique_sha256"] = None  # its content may now be that of another upload
        queued = await asyncio.to_thread(self._uploads.queue, was.upload_id, was=was, job_id=job_id, **values)
        if queued is None:
            return await self._get(was.upload_id, user_id=was.user_id)
        try:
            await self._submit(queued, limited=limited)
        except (QueueUnavailable, TooManyJobs):
            back = was.model_dump(exclude={"upload_id", "updated_at", "job_id"})
            await asyncio.to_thread(self._uploads.queue, was.upload_id, was=queued, job_id=was.job_id, **back)
            raise
        return queued

    async def _submit(self, upload: Upload, *, limited: bool = False) -> None:
        """Put the upload's job on the queue, under the id its row names; done twice it is there once.

        `limited`: only if no more of its user's jobs wait than may.
        """
        if self._queue is None:
            return
        function = REMOVE if upload.status is UploadStatus.DELETING else PROCESS
        task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
        await self._queue.submit(
            "document",
            task.model_dump(mode="json"),
            owner=upload.user_id,
            function=function,
            job_id=upload.job_id,
            max_waiting=self._max_waiting if limited else None,
        )


class _Measured:
    """A file read in pieces, hashed and counted on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def chunks(self) -> Iterator[bytes]:
        while chunk := self._file.read(CHUNK_BYTES):
            self.bytes += len(chunk)
            self.sha256.update(chunk)
            yield chunk


def clean_name(name: str) -> str:
    """Return the last part of a file's name, without what no list should show, at most MAX_NAME_CHARS long."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(char for char in last if char.isprintable()).strip()
    if len(shown) > MAX_NAME_CHARS:
        stem, dot, suffix = shown.rpartition(".")
        keep_suffix = dot and len(suffix) < MAX_SUFFIX_CHARS
        shown = f"{stem[: MAX_NAME_CHARS - len(suffix) - 1]}.{suffix}" if keep_suffix else shown[:MAX_NAME_CHARS]
    return shown or "unnamed"


async def _job_of(queue: JobQueue, job_id: str) -> JobView | None:
    try:
        return await queue.fetch(job_id)
    except (JobNotFound, JobExpired):
        return None


def _seconds_since(then: datetime) -> float:
    return (datetime.now(UTC) - then).total_seconds()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _not_ready(upload: Upload, *, wait: bool) -> UploadNotReady:
    if upload.status is UploadStatus.FAILED:
        return UploadNotReady(f"the upload {upload.upload_id} is failed: {upload.error}")
    hint = "ask again once it is ready" if wait else "ask with after_upload, or again once it is ready"
    return UploadNotReady(f"the upload {upload.upload_id} is {upload.status}: {hint}")


def _not_found() -> UploadNotFound:
    return UploadNotFound("there is no such upload: GET /uploads lists yours")
