"""Uploads as the files of OpenAI's types."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from api.v1 import ids
from errors import UploadNotFound
from schemas import Upload, UploadStatus


async def load_upload(request: Request, file_id: str, *, param: str = "file_id") -> Upload:
    """Return the upload of a file's id. Raises ApiError for an id that names no upload of the caller."""
    upload_id = ids.to_ours(ids.FILE, file_id, param=param)
    try:
        upload: Upload = await request.state.documents.get(upload_id, user_id=request.state.caller.visible_owner)
    except UploadNotFound:
        raise ids.not_found(ids.FILE, param=param) from None
    if upload.status is UploadStatus.DELETING:
        raise ids.not_found(ids.FILE, param=param)
    return upload


def file_object(upload: Upload) -> dict[str, Any]:
    """Return an upload as a file. `uploaded`: questions do not find it yet."""
    failed = upload.status is UploadStatus.FAILED
    ready = upload.indexed_at is not None and not failed
    return {
        "id": ids.to_theirs(ids.FILE, upload.upload_id),
        "object": "file",
        "bytes": upload.bytes,
        "created_at": int(upload.created_at.timestamp()),
        "expires_at": None if upload.expires_at is None else int(upload.expires_at.timestamp()),
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": "error" if failed else "processed" if ready else "uploaded",
        "status_details": upload.error if failed else None,
    }
