"""The errors of requests about uploads that are refused."""

from __future__ import annotations

from errors import TooManyRequests, UploadNotFound, UploadNotReady, rate_limit_headers
from schemas import Upload, UploadStatus

MIB = 1024 * 1024
# Retry-After when a user's storage is full: only a delete frees space, so waiting seldom helps.
FULL_SECONDS = 3_600


def storage_full(max_stored_mb: int, free_bytes: int) -> TooManyRequests:
    """Return the error for a file that does not fit into what a user may store."""
    return TooManyRequests(
        f"a user may store {max_stored_mb} MiB (MAX_STORED_MB), of which {free_bytes} bytes are free: "
        "delete an upload first",
        retry_after_seconds=FULL_SECONDS,
        headers=rate_limit_headers(
            "stored-bytes",
            f'q={max_stored_mb * MIB};qu="content-bytes"',
            remaining=free_bytes,
            reset_seconds=FULL_SECONDS,
        ),
    )


def not_ready(upload: Upload, *, wait: bool) -> UploadNotReady:
    """Return the error for an upload that cannot be searched. `wait`: the question would wait for its indexing."""
    if upload.status is UploadStatus.FAILED:
        return UploadNotReady(f"the upload {upload.upload_id} could not be indexed: {upload.error}")
    hint = "ask again once it is ready" if wait else "ask with after_upload, or again once it is ready"
    return UploadNotReady(f"the upload {upload.upload_id} is {upload.status}: {hint}")


def not_found() -> UploadNotFound:
    """Return the error for an upload that the caller does not have."""
    return UploadNotFound("there is no such upload: GET /uploads lists yours")
