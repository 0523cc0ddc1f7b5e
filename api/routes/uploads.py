"""Documents: POST /uploads accepts files; the other routes list, show, download, delete and reindex uploads."""

from __future__ import annotations

import hashlib
from datetime import datetime
from io import BytesIO
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Response, UploadFile
from fastapi import File as FormFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import schemas
from api.collections import add_to_collection
from api.dependencies import (
    ANY_SCOPE,
    DocumentServiceDep,
    FileStoreDep,
    IndexBuildsDep,
    JobQueueDep,
    PageViewsDep,
    PoolsDep,
    QuotasDep,
    ScopedRoute,
    UploadRepositoryDep,
    UserIdDep,
    VectorStoreRepositoryDep,
    VisibleOwnerDep,
    WebhookStoreDep,
    require_scope,
)
from api.downloads import file_response
from api.multipart_forms import MAX_FIELD_BYTES, MAX_FIELDS, MAX_FILES
from api.pools import Pools
from api.problems import openapi_problems
from api.routes.chat import IdempotencyKeyHeader
from api.routes.index_versions import IndexVersionView, version_view
from api.upload_limits import UploadRoute
from api.upload_options import UploadOptions, read_options
from client.rq.idempotency import IdempotentRequest
from client.rq.ids import new_id
from client.rq.outbox import Callback
from client.rq_client import JobQueue
from client.sql.index_versions import IndexVersion
from documents.incoming import clean_name
from documents.media_types import MEDIA_TYPES
from documents.service import UNFINISHED, AcceptedUpload, DocumentService
from errors import DocumentError, InvalidRequest, UnsupportedFile
from observability import logs
from schemas import KeyScope, UploadStatus
from webhooks.store import WebhookStore

router = APIRouter(route_class=ScopedRoute, tags=["uploads"])
UPLOAD_SCOPE = [require_scope(KeyScope.UPLOAD)]

PAGE_LIMIT = 50
MAX_PAGE_LIMIT = 500
# The text stored under an Idempotency-Key lists ids: first the ids reserved for the files; once all files are stored,
# after the prefix, the ids of their uploads. The mark follows the id of an upload that existed before.
STORED_PREFIX = "taken:"
DUPLICATE_MARK = "*"
# A file, as OpenAPI describes it.
BINARY = {"type": "string", "format": "binary"}


class UploadAccepted(BaseModel):
    """An accepted file."""

    upload_id: str
    job_id: str | None = Field(
        None, description="The job that indexes the file; follow it with GET /job-status/{job_id}."
    )
    name: str
    status: UploadStatus
    duplicate: bool = Field(
        description="True if the same file was uploaded before: these fields then describe the earlier upload."
    )


class UploadsAccepted(BaseModel):
    """The accepted files. The fields of a single file are repeated beside `uploads`."""

    uploads: list[UploadAccepted]
    upload_id: str | None = None
    job_id: str | None = None
    name: str | None = None
    status: UploadStatus | None = None
    duplicate: bool | None = None


class UploadView(BaseModel):
    """An upload. Fields that are not known yet are left out."""

    upload_id: str
    job_id: str | None = None
    name: str
    media_type: str
    status: UploadStatus
    bytes: int
    sha256: str
    pages: int | None = Field(None, description="Pages of the document; a text without pages has few.")
    pages_done: int = Field(description="Pages read by the last run of indexing.")
    chunks: int | None = Field(None, description="Chunks stored when the upload last became ready.")
    reason: str | None = Field(None, description="Why indexing failed, for programs, such as `encrypted` or `no_text`.")
    error: str | None = Field(None, description="Why indexing failed, for people.")
    warnings: list[schemas.PageWarning] = Field([], description="Pages with text that could not be read, and why.")
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    indexed_at: datetime | None = Field(
        None, description="When the upload last became ready; the upload is searched since then."
    )
    searched: bool = Field(description="True if questions find the upload now, also while it is indexed again.")
    index: IndexVersionView | None = Field(None, description="The version of the index in which questions find it.")
    expires_at: datetime | None = Field(None, description="When the upload is deleted; left out for never.")


class UploadPage(BaseModel):
    """A page of uploads, newest first. `next` is the `cursor` of the next page; null on the last."""

    uploads: list[UploadView]
    next: str | None = None


_accepting = APIRouter(route_class=UploadRoute, tags=["uploads"])


@_accepting.post(
    "/uploads",
    dependencies=UPLOAD_SCOPE,
    status_code=202,
    form_limits={"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES},
    responses=openapi_problems(404, 413, 415, 422, 503),
    response_model_exclude_none=True,
)
async def upload(
    documents: DocumentServiceDep,
    webhooks: WebhookStoreDep,
    stores: VectorStoreRepositoryDep,
    user_id: UserIdDep,
    quotas: QuotasDep,
    queue: JobQueueDep,
    pools: PoolsDep,
    response: Response,
    options: Annotated[UploadOptions, Depends(read_options)],
    file: Annotated[list[UploadFile], FormFile(description="Documents of the kinds in docs/uploads.md.")],
    idempotency_key: IdempotencyKeyHeader = None,
) -> UploadsAccepted:
    """Accept one or several files and have workers index them. If one file has an unsupported type, all are refused."""
    files, choice, callback = file, options.on_duplicate, options.callback
    await pools.files.run(_check_types, files, documents)
    idempotency = None
    if idempotency_key is not None:
        fields = await pools.files.run(_request_fields, files, options)
        idempotency = IdempotentRequest.of(idempotency_key, fields, user_id=user_id)
        if earlier := await _find_earlier(idempotency, queue, documents):
            return _all_accepted(earlier, response)
    await documents.check_limits(user_id, files=len(files), size_bytes=sum(item.size or 0 for item in files))
    await quotas.count_uploads(user_id, len(files))
    upload_ids = await _reserve_ids(len(files), idempotency, queue)
    accepted: list[AcceptedUpload] = []
    try:
        for sent, upload_id in zip(files, upload_ids, strict=True):
            name = sent.filename or ""
            accepted.append(
                await documents.accept(sent.file, name=name, user_id=user_id, on_duplicate=choice, upload_id=upload_id)
            )
    except Exception:
        await quotas.give_back_uploads(user_id, len(files) - len(accepted))
        raise
    if options.collection is not None:
        upload_ids = [item.upload.upload_id for item in accepted]
        await add_to_collection(options.collection, upload_ids, stores=stores, pools=pools, user_id=user_id)
    if idempotency is not None:
        await queue.idempotency.replace(idempotency, _format_stored(accepted))
    for item in accepted:
        audit_upload("upload_repeated" if item.duplicate else "upload_added", item.upload)
    if callback.url:
        await _add_callback(accepted, callback, webhooks, pools)
    return _all_accepted(accepted, response)


router.include_router(_accepting)


def _all_accepted(accepted: list[AcceptedUpload], response: Response) -> UploadsAccepted:
    views = [_accepted(item) for item in accepted]
    if len(views) > 1:
        return UploadsAccepted(uploads=views)
    response.headers["Location"] = f"/uploads/{views[0].upload_id}"
    return UploadsAccepted(uploads=views, **views[0].model_dump())


def _request_fields(files: list[UploadFile], options: UploadOptions) -> dict[str, object]:
    """Return the fields by which two requests are the same: names and hashes of the files, and the options."""
    names_and_hashes = []
    for file in files:
        content = cast("BytesIO", file.file)
        names_and_hashes.append([file.filename, hashlib.file_digest(content, "sha256").hexdigest()])
        content.seek(0)
    return {
        "kind": "upload",
        "files": names_and_hashes,
        "on_duplicate": options.on_duplicate,
        "callback": options.callback.model_dump(),
        **({} if options.collection is None else {"collection": options.collection}),
    }


async def _reserve_ids(count: int, idempotency: IdempotentRequest | None, queue: JobQueue) -> list[str]:
    """Return ids for new uploads. A repeated request gets the ids of the first."""
    upload_ids = [new_id() for _ in range(count)]
    if idempotency is None:
        return upload_ids
    reserved = await queue.idempotency.reserve(idempotency, ",".join(upload_ids))
    return [upload_id for upload_id, _ in _parse_stored(reserved)]


async def _find_earlier(
    idempotency: IdempotentRequest, queue: JobQueue, documents: DocumentService
) -> list[AcceptedUpload] | None:
    """Return the uploads of an earlier request, in their present state.

    None without an earlier request, or if it was cut short. Raises UploadNotFound if an upload was deleted since.
    """
    reserved = await queue.idempotency.find(idempotency)
    if reserved is None or not reserved.startswith(STORED_PREFIX):
        return None
    return [
        AcceptedUpload(
            upload=(upload := await documents.get(upload_id, user_id=None)),
            duplicate=duplicate,
            queued=upload.status in UNFINISHED,
        )
        for upload_id, duplicate in _parse_stored(reserved)
    ]


def _format_stored(accepted: list[AcceptedUpload]) -> str:
    marked = (item.upload.upload_id + (DUPLICATE_MARK if item.duplicate else "") for item in accepted)
    return STORED_PREFIX + ",".join(marked)


def _parse_stored(reserved: str) -> list[tuple[str, bool]]:
    """Return the id of each upload of an earlier request, and True if the upload existed before that request."""
    marked = reserved.removeprefix(STORED_PREFIX).split(",")
    return [(text.removesuffix(DUPLICATE_MARK), text.endswith(DUPLICATE_MARK)) for text in marked]


async def _add_callback(
    accepted: list[AcceptedUpload], callback: Callback, webhooks: WebhookStore, pools: Pools
) -> None:
    """Store the callback for the job of each upload before the 202 promises it.

    A duplicate that was indexed long ago has no job whose end could be reported.
    """
    for item in accepted:
        upload = item.upload
        if upload.job_id is not None and (item.queued or upload.status is not UploadStatus.READY):
            await pools.webhooks.run(webhooks.add_callback, upload.job_id, owner=upload.user_id, callback=callback)


@router.get("/uploads", dependencies=ANY_SCOPE, responses=openapi_problems(422, 503), response_model_exclude_none=True)
async def uploads(
    repository: UploadRepositoryDep,
    pools: PoolsDep,
    builds: IndexBuildsDep,
    owner: VisibleOwnerDep,
    status: Annotated[UploadStatus | None, Query(description="Only uploads with this status.")] = None,
    name: Annotated[str | None, Query(max_length=255, description="Only uploads with this in their name.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_LIMIT)] = PAGE_LIMIT,
    cursor: Annotated[str | None, Query(max_length=100, description="The `next` of the page before.")] = None,
) -> UploadPage:
    """List uploads, newest first."""
    part_of_name = clean_name(name) if name else None
    page, following = await pools.sql.run(
        repository.page, owner, limit=limit, status=status, name=part_of_name, cursor=cursor
    )
    versions = await builds.versions()
    return UploadPage(uploads=[_view(item, versions) for item in page], next=following)


@router.get(
    "/uploads/{upload_id}",
    dependencies=ANY_SCOPE,
    responses=openapi_problems(404, 422, 503),
    response_model_exclude_none=True,
)
async def upload_state(
    upload_id: str, documents: DocumentServiceDep, builds: IndexBuildsDep, owner: VisibleOwnerDep
) -> UploadView:
    """Return the state of an upload."""
    return _view(await documents.get(upload_id, user_id=owner), await builds.versions())


@router.get(
    "/uploads/{upload_id}/file",
    dependencies=ANY_SCOPE,
    responses=openapi_problems(404, 422, 503)
    | {200: {"description": "The file", "content": {kind: {"schema": BINARY} for kind in MEDIA_TYPES}}},
    response_class=StreamingResponse,
)
async def upload_file(
    upload_id: str, documents: DocumentServiceDep, files: FileStoreDep, pools: PoolsDep, owner: VisibleOwnerDep
) -> StreamingResponse:
    """Download the uploaded file, byte for byte."""
    return await file_response(await documents.get(upload_id, user_id=owner), files, pools)


@router.delete(
    "/uploads/{upload_id}", dependencies=UPLOAD_SCOPE, status_code=202, responses=openapi_problems(404, 422, 503)
)
async def delete_upload(
    upload_id: str, documents: DocumentServiceDep, views: PageViewsDep, owner: VisibleOwnerDep
) -> UploadAccepted:
    """Delete an upload. No answer uses it from now on; a worker then removes its points, file and row."""
    removed = await documents.delete(upload_id, user_id=owner)
    audit_upload("upload_deleted", removed)
    await views.forget(removed)
    return _accepted(AcceptedUpload(upload=removed, duplicate=False, queued=True))


@router.post(
    "/uploads/{upload_id}/reindex",
    dependencies=UPLOAD_SCOPE,
    status_code=202,
    responses=openapi_problems(404, 422, 503),
)
async def reindex_upload(upload_id: str, documents: DocumentServiceDep, owner: VisibleOwnerDep) -> UploadAccepted:
    """Index an upload again. Answers use the upload meanwhile. An upload that is being indexed stays as it is."""
    queued = await documents.reindex(upload_id, user_id=owner)
    audit_upload("upload_reindexed", queued)
    return _accepted(AcceptedUpload(upload=queued, duplicate=False, queued=True))


def audit_upload(event: str, upload: schemas.Upload) -> None:
    """Write a change of an upload to the audit log. The log context adds the caller to every line of a request."""
    logs.audit(
        event,
        owner=upload.user_id,
        upload_id=upload.upload_id,
        job_id=upload.job_id,
        bytes=upload.bytes,
        sha256=upload.sha256,
    )


def _check_types(files: list[UploadFile], documents: DocumentService) -> None:
    """Refuse a file of an unsupported type. Among several files, the error gives the file's number."""
    for number, file in enumerate(files, start=1):
        prefix = f"number {number}: " if len(files) > 1 else ""
        try:
            documents.media_type(file.file, file.filename or "")
        except UnsupportedFile as error:
            raise UnsupportedFile(error.reason, f"{prefix}{error.detail}") from None
        except DocumentError as error:
            raise InvalidRequest([("file", f"{prefix}{error.detail}")]) from None


def _accepted(accepted: AcceptedUpload) -> UploadAccepted:
    upload = accepted.upload
    return UploadAccepted(
        upload_id=upload.upload_id,
        job_id=upload.job_id,
        name=upload.name,
        status=upload.status,
        duplicate=accepted.duplicate,
    )


def _view(upload: schemas.Upload, versions: dict[int, IndexVersion]) -> UploadView:
    searched = upload.indexed_at is not None and upload.status is not UploadStatus.DELETING
    version = versions.get(upload.index_version or 0) if searched else None
    fields = upload.model_dump(exclude={"user_id", "file_id", "index_version", "purpose"})
    return UploadView(**fields, searched=searched, index=None if version is None else version_view(version))
