"""Documents: POST /uploads takes them in, and what can be seen of them and done with them afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Form, Query, Response, UploadFile
from fastapi import File as FormFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import schemas
from api.callbacks import WebhookUrl, callback_of
from api.dependencies import (
    DocumentServiceDep,
    FileStoreDep,
    JobQueueDep,
    QuotasDep,
    ScopedRoute,
    SettingsDep,
    UploadRepositoryDep,
    UserIdDep,
    VisibleOwnerDep,
    WebhookStoreDep,
    require_scope,
)
from api.problems import openapi_problems
from api.routes.chat import IdempotencyKey
from client.rq.idempotency import IdempotentRequest
from client.rq.ids import new_id
from client.rq.outbox import Callback
from client.rq_client import JobQueue
from documents.incoming import clean_name
from documents.media_types import detect
from documents.service import UNFINISHED, AcceptedUpload, DocumentService, OnDuplicate
from errors import DocumentError, InvalidRequest, UnsupportedFile
from observability import logs
from schemas import KeyScope, UploadStatus
from webhooks.store import WebhookStore

if TYPE_CHECKING:
    from io import BytesIO

router = APIRouter(route_class=ScopedRoute, tags=["uploads"])
CHANGES = [require_scope(KeyScope.UPLOAD)]
READS = [require_scope(KeyScope.UPLOAD, KeyScope.QUERY)]

PAGE_LIMIT = 50
MAX_PAGE_LIMIT = 500
MAX_FILES = 100
# Of a form, beside its files: a webhook's URL is the longest.
MAX_FIELDS = 10
MAX_FIELD_BYTES = 8 * 1024
# Before the ids that stand for an Idempotency-Key, once all that they name was taken in.
TAKEN = "taken:"

Duplicate = Annotated[
    OnDuplicate,
    Query(description="What to do with a file uploaded before: `skip` it, `replace` that upload's name, `keep` both."),
]


class UploadAccepted(BaseModel):
    """A file taken in."""

    upload_id: str
    job_id: str | None = Field(description="The job that indexes it; follow it with GET /job-status/{job_id}.")
    name: str
    status: UploadStatus
    duplicate: bool = Field(description="The same file was uploaded before; this is that upload.")


class UploadsAccepted(BaseModel):
    """The files taken in. For one file its fields stand here, too."""

    uploads: list[UploadAccepted]
    upload_id: str | None = None
    job_id: str | None = None
    name: str | None = None
    status: UploadStatus | None = None
    duplicate: bool | None = None


class UploadView(BaseModel):
    """An upload. What is not known yet is left out."""

    upload_id: str
    job_id: str | None = None
    name: str
    media_type: str
    status: UploadStatus
    bytes: int
    sha256: str
    pages: int | None = Field(None, description="Pages of the document; a text without pages has few.")
    pages_done: int = Field(description="Pages read by the last run of indexing.")
    chunks: int | None = Field(None, description="Chunks stored when it last became ready.")
    reason: str | None = Field(None, description="Why it failed, for programs, such as `encrypted` or `no_text`.")
    error: str | None = Field(None, description="Why it failed, for people.")
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    indexed_at: datetime | None = Field(None, description="When it last became ready. It is searched since then.")


class UploadPage(BaseModel):
    """A page of uploads, newest first. `next`, where there is more, is the `cursor` of the next page."""

    uploads: list[UploadView]
    next: str | None = None


@router.post(
    "/uploads",
    dependencies=CHANGES,
    status_code=202,
    form_limits={"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES},
    responses=openapi_problems(404, 413, 415, 422, 503),
    response_model_exclude_none=True,
)
async def upload(
    library: DocumentServiceDep,
    webhooks: WebhookStoreDep,
    settings: SettingsDep,
    user: UserIdDep,
    quotas: QuotasDep,
    queue: JobQueueDep,
    response: Response,
    file: Annotated[list[UploadFile], FormFile(description="PDF, DOCX, HTML, Markdown or plain text.")],
    on_duplicate: Duplicate = OnDuplicate.SKIP,
    form_on_duplicate: Annotated[OnDuplicate | None, Form(alias="on_duplicate")] = None,
    webhook_url: Annotated[WebhookUrl, Query()] = None,
    form_webhook_url: Annotated[WebhookUrl, Form(alias="webhook_url")] = None,
    idempotency_key: IdempotencyKey = None,
) -> UploadsAccepted:
    """Take in one or several files and have workers index them. None is taken when one is of no kind that is taken."""
    callback = callback_of(settings, form_webhook_url or webhook_url, {})
    for number, one in enumerate(file, start=1):
        place = f"number {number}: " if len(file) > 1 else ""
        await anyio.to_thread.run_sync(partial(_check, one, place=place))
    choice = form_on_duplicate or on_duplicate
    once = None
    if idempotency_key is not None:
        once = await anyio.to_thread.run_sync(partial(_same_files, idempotency_key, file, choice, callback, user))
        if before := await _taken_before(once, queue, library):
            return _all_accepted(before, response)
    await library.check_limits(user, files=len(file), size_bytes=sum(one.size or 0 for one in file))
    await quotas.count_uploads(user, len(file))
    ids = [new_id() for _ in file]
    if once is not None:
        ids = (await queue.idempotency.reserve(once, ",".join(ids))).removeprefix(TAKEN).split(",")
    accepted = [
        await library.accept(one.file, name=one.filename or "", user_id=user, on_duplicate=choice, upload_id=upload_id)
        for one, upload_id in zip(file, ids, strict=True)
    ]
    if once is not None:
        await queue.idempotency.replace(once, TAKEN + ",".join(one.upload.upload_id for one in accepted))
    for taken in accepted:
        _audit("upload_repeated" if taken.duplicate else "upload_added", taken.upload)
    if callback.url:
        await _tell(accepted, callback, webhooks)
    return _all_accepted(accepted, response)


def _all_accepted(accepted: list[AcceptedUpload], response: Response) -> UploadsAccepted:
    views = [_accepted(one) for one in accepted]
    if len(views) > 1:
        return UploadsAccepted(uploads=views)
    response.headers["Location"] = f"/uploads/{views[0].upload_id}"
    return UploadsAccepted(uploads=views, **views[0].model_dump())


def _same_files(
    key: str, files: list[UploadFile], on_duplicate: OnDuplicate, callback: Callback, user: str
) -> IdempotentRequest:
    """Describe a request by all it brings; the files by name and content."""
    told = []
    for one in files:
        content = cast("BytesIO", one.file)
        told.append([one.filename, hashlib.file_digest(content, "sha256").hexdigest()])
        one.file.seek(0)
    request = {"kind": "upload", "files": told, "on_duplicate": on_duplicate, "callback": callback.model_dump()}
    return IdempotentRequest.of(key, request, user_id=user)


async def _taken_before(
    once: IdempotentRequest, queue: JobQueue, library: DocumentService
) -> list[AcceptedUpload] | None:
    """Return what a request made before has brought, as it now is; None for a new one, and for one cut short.

    Raises UploadNotFound when it was deleted since.
    """
    ids = await queue.idempotency.find(once)
    if ids is None or not ids.startswith(TAKEN):
        return None
    found = [await library.get(one, user_id=None) for one in ids.removeprefix(TAKEN).split(",")]
    return [AcceptedUpload(upload=one, duplicate=False, queued=one.status in UNFINISHED) for one in found]


async def _tell(accepted: list[AcceptedUpload], callback: Callback, webhooks: WebhookStore) -> None:
    """Have the end of each job told, before the 202 promises it. A file indexed long ago has none to wait for."""
    for upload in (one.upload for one in accepted if one.queued or one.upload.status is not UploadStatus.READY):
        if upload.job_id is not None:
            tell = partial(webhooks.tell, upload.job_id, owner=upload.user_id, callback=callback)
            await anyio.to_thread.run_sync(tell)


@router.get("/uploads", dependencies=READS, responses=openapi_problems(422, 503), response_model_exclude_none=True)
async def uploads(
    listed: UploadRepositoryDep,
    owner: VisibleOwnerDep,
    status: Annotated[UploadStatus | None, Query(description="Only those with this status.")] = None,
    name: Annotated[str | None, Query(max_length=255, description="Only those with this in their name.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_LIMIT)] = PAGE_LIMIT,
    cursor: Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")] = None,
) -> UploadPage:
    """List uploads, newest first."""
    found, following = await anyio.to_thread.run_sync(
        lambda: listed.page(owner, limit=limit, status=status, name=_searchable(name), cursor=cursor)
    )
    return UploadPage(uploads=[_view(one) for one in found], next=following)


@router.get(
    "/uploads/{upload_id}",
    dependencies=READS,
    responses=openapi_problems(404, 422, 503),
    response_model_exclude_none=True,
)
async def upload_state(upload_id: str, library: DocumentServiceDep, owner: VisibleOwnerDep) -> UploadView:
    """Tell how far an upload is."""
    return _view(await library.get(upload_id, user_id=owner))


@router.get(
    "/uploads/{upload_id}/file",
    dependencies=READS,
    responses=openapi_problems(404, 422, 503) | {200: {"content": {"application/octet-stream": {}}}},
    response_class=StreamingResponse,
)
async def upload_file(
    upload_id: str, library: DocumentServiceDep, files: FileStoreDep, owner: VisibleOwnerDep
) -> StreamingResponse:
    """Give the uploaded file back, byte for byte."""
    found = await library.get(upload_id, user_id=owner)
    chunks: Iterator[bytes] = await anyio.to_thread.run_sync(files.read, found.file_id)
    headers = {
        # Always to be saved, never shown: an uploaded page must not run as one of ours.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "Content-Length": str(found.bytes),
        "ETag": f'"{found.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(chunks, media_type=found.media_type, headers=headers)


@router.delete("/uploads/{upload_id}", dependencies=CHANGES, status_code=202, responses=openapi_problems(404, 422, 503))
async def delete_upload(upload_id: str, library: DocumentServiceDep, owner: VisibleOwnerDep) -> UploadAccepted:
    """Delete an upload: no answer stands on it from now on; a worker then removes all that is stored of it."""
    removed = await library.delete(upload_id, user_id=owner)
    _audit("upload_deleted", removed)
    return _accepted(AcceptedUpload(upload=removed, duplicate=False, queued=True))


@router.post(
    "/uploads/{upload_id}/reindex", dependencies=CHANGES, status_code=202, responses=openapi_problems(404, 422, 503)
)
async def reindex_upload(upload_id: str, library: DocumentServiceDep, owner: VisibleOwnerDep) -> UploadAccepted:
    """Index an upload again. It stays in answers meanwhile. One that is being indexed is left at it."""
    found = await library.reindex(upload_id, user_id=owner)
    _audit("upload_reindexed", found)
    return _accepted(AcceptedUpload(upload=found, duplicate=False, queued=True))


def _audit(event: str, upload: schemas.Upload) -> None:
    """Note what was done to an upload; who did it is on every line of a request."""
    logs.audit(
        event,
        owner=upload.user_id,
        upload_id=upload.upload_id,
        job_id=upload.job_id,
        bytes=upload.bytes,
        sha256=upload.sha256,
    )


def _check(file: UploadFile, *, place: str) -> None:
    """Refuse a file that is not taken, naming its place in the request."""
    try:
        detect(file.file, clean_name(file.filename or ""))
    except UnsupportedFile as error:
        raise UnsupportedFile(error.reason, f"{place}{error.detail}") from None
    except DocumentError as error:
        raise InvalidRequest([("file", f"{place}{error.detail}")]) from None


def _searchable(name: str | None) -> str | None:
    return clean_name(name) if name else None


def _accepted(one: AcceptedUpload) -> UploadAccepted:
    upload = one.upload
    return UploadAccepted(
        upload_id=upload.upload_id,
        job_id=upload.job_id,
        name=upload.name,
        status=upload.status,
        duplicate=one.duplicate,
    )


def _view(upload: schemas.Upload) -> UploadView:
    return UploadView.model_validate(upload.model_dump(exclude={"user_id", "file_id"}))
