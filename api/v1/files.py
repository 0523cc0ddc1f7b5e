"""Files: POST /v1/files uploads one; the other routes list, show, download and delete files.

A file is an upload of POST /uploads under OpenAI's names. The same content sent twice makes two files.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from fastapi import File as FormFile

from api.dependencies import ANY_SCOPE
from api.downloads import file_response
from api.multipart_forms import MAX_FIELD_BYTES, MAX_FIELDS
from api.routes.uploads import UPLOAD_SCOPE, audit_upload
from api.upload_limits import UploadRoute
from api.v1 import ids
from api.v1.errors import ApiError, OpenAIRoute, unsupported
from api.v1.file_objects import file_object, load_upload
from api.v1.lists import Order, page_of
from api.v1.repeats import reserve_id
from api.v1.sending import JsonResponse
from documents.service import DocumentService, OnDuplicate
from errors import DocumentError
from schemas import Upload, UploadStatus

PURPOSES: Final = ("assistants", "user_data")
# OpenAI's bounds of an expiry: an hour and 30 days.
MIN_SECONDS, MAX_SECONDS = 3_600, 30 * 86_400
MAX_FILES_LISTED: Final = 1_000


class _FileRoute(OpenAIRoute, UploadRoute):
    """The route that takes a file: checks the limits of the user before the body is read."""


# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(prefix="/v1", route_class=OpenAIRoute, include_in_schema=False)
_accepting = APIRouter(route_class=_FileRoute)


@_accepting.post(
    "/files",
    dependencies=UPLOAD_SCOPE,
    form_limits={"max_files": 1, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES},
)
async def create(
    request: Request,
    file: Annotated[UploadFile, FormFile()],
    purpose: Annotated[str, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=MIN_SECONDS, le=MAX_SECONDS)] = None,
) -> Response:
    """Accept a file and have a worker index it."""
    if purpose not in PURPOSES:
        raise unsupported("purpose", f"files are for questions: send {' or '.join(PURPOSES)}")
    if (anchor is None) != (seconds is None):
        raise ApiError("expires_after: needs anchor and seconds", code="invalid_request_error", param="expires_after")
    state = request.state
    digest = await state.pools.files.run(_check, file, state.documents)
    fields = {"kind": "file", "name": file.filename, "sha256": digest, "purpose": purpose, "seconds": seconds}
    upload_id = await reserve_id(request, fields)
    earlier = await state.pools.sql.run(state.uploads.get, upload_id, user_id=state.caller.user_id)
    if earlier is not None and earlier.status is not UploadStatus.DELETING:
        return JsonResponse(file_object(earlier))
    expires_at = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    upload = await _accept(request, file, upload_id, purpose=purpose, expires_at=expires_at)
    audit_upload("upload_added", upload)
    return JsonResponse(file_object(upload))


router.include_router(_accepting)


def _check(file: UploadFile, documents: DocumentService) -> str:
    """Return the SHA-256 of a file. Raises ApiError for a file that cannot be indexed."""
    try:
        documents.media_type(file.file, file.filename or "")
    except DocumentError as error:
        raise ApiError(f"file: {error.detail}", code="unsupported_file", param="file") from None
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()  # type: ignore[arg-type]  # a SpooledTemporaryFile
    file.file.seek(0)
    return digest


async def _accept(request: Request, file: UploadFile, upload_id: str, **details: Any) -> Upload:
    state = request.state
    user_id = state.caller.user_id
    await state.documents.check_limits(user_id, files=1, size_bytes=file.size or 0)
    await state.quotas.count_uploads(user_id, 1)
    try:
        accepted = await state.documents.accept(
            file.file,
            name=file.filename or "",
            user_id=user_id,
            on_duplicate=OnDuplicate.KEEP,
            upload_id=upload_id,
            **details,
        )
    except Exception:
        await state.quotas.give_back_uploads(user_id, 1)
        raise
    upload: Upload = accepted.upload
    return upload


@router.get("/files", dependencies=ANY_SCOPE)
async def listed(
    request: Request,
    purpose: Annotated[str | None, Query(max_length=20)] = None,
    after: str | None = None,
    order: Order = "desc",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> Response:
    """List files, the newest first, up to MAX_FILES_LISTED at a time."""
    last = None if after is None else await load_upload(request, after, param="after")
    limit = min(limit, MAX_FILES_LISTED)
    state = request.state
    uploads = await state.pools.sql.run(
        state.uploads.listed,
        state.caller.visible_owner,
        limit=limit + 1,
        after=last,
        ascending=order == "asc",
        purpose=purpose,
    )
    return JsonResponse(page_of([file_object(upload) for upload in uploads[:limit]], more=len(uploads) > limit))


@router.get("/files/{file_id}", dependencies=ANY_SCOPE)
async def retrieve(file_id: str, request: Request) -> Response:
    """Return a file as it is now."""
    return JsonResponse(file_object(await load_upload(request, file_id)))


@router.get("/files/{file_id}/content", dependencies=ANY_SCOPE)
async def content(file_id: str, request: Request) -> Response:
    """Download a file, byte for byte."""
    upload = await load_upload(request, file_id)
    return await file_response(upload, request.state.files, request.state.pools)


@router.delete("/files/{file_id}", dependencies=UPLOAD_SCOPE)
async def delete(file_id: str, request: Request) -> Response:
    """Delete a file. No answer uses it from now on."""
    upload = await load_upload(request, file_id)
    removed = await request.state.documents.delete(upload.upload_id, user_id=request.state.caller.visible_owner)
    audit_upload("upload_deleted", removed)
    await request.state.page_views.forget(removed)
    return JsonResponse({"id": ids.to_theirs(ids.FILE, upload.upload_id), "object": "file", "deleted": True})
