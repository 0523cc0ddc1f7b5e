"""Rows of the list of uploads, and changes of them."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from client.sql.database import Database
from client.sql.uploads import UploadRepository
from schemas import Upload, UploadStatus
from settings import Settings


def new_upload(**values: Any) -> Upload:
    now = datetime.now(UTC)
    fields = {
        "upload_id": str(uuid.uuid4()),
        "user_id": "local",
        "file_id": str(uuid.uuid4()),
        "name": "größe 📄.pdf",
        "media_type": "application/pdf",
        "bytes": 5_000_000_000,
        "sha256": "0" * 64,
        "status": UploadStatus.QUEUED,
        "job_id": "job",
        "created_at": now,
        "updated_at": now,
    }
    return Upload.model_validate(fields | values)


CHANGES = ("add", "start", "progress", "finish", "fail", "requeue", "delete", "remove", "undo")


def change(uploads: UploadRepository, name: str, upload: Upload) -> None:
    """Make one of CHANGES to an upload, if its row allows it."""
    match name:
        case "add":
            uploads.add(upload, unique=False)
        case "start":
            uploads.start(upload.upload_id, job_id=upload.job_id)
        case "progress":
            uploads.record_progress(upload.upload_id, job_id=upload.job_id, pages_done=1, pages=2)
        case "finish":
            uploads.finish(upload.upload_id, job_id=upload.job_id, pages=2, chunks=2)
        case "fail":
            uploads.fail(upload.upload_id, job_id=upload.job_id, reason="broken", error="It is broken.")
        case "requeue":
            kept = upload.status if upload.status is UploadStatus.DELETING else UploadStatus.QUEUED
            uploads.requeue(upload, job_id="again", status=kept)
        case "delete":
            uploads.mark_deleting(upload.upload_id, user_id=None, job_id="delete")
        case "remove":
            uploads.finish_delete(upload.upload_id)
        case "undo":
            uploads.undo_add(upload.upload_id, job_id=upload.job_id or "")


def change_from_here(settings: Settings, name: str, upload: Upload) -> None:
    """Make a change on a connection of its own: for a process of its own."""
    with closing(UploadRepository(Database(settings))) as uploads:
        change(uploads, name, upload)
