"""Documents of tools and resources: listing, uploading, and the text of their pages."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import datetime
from io import BytesIO
from typing import Final

from pydantic import BaseModel, Field

from api.citation_links import title_of
from api.mcp.asking import look_up, question_of
from api.mcp.calls import Call
from api.mcp.results import PageView, file_url, page_uri
from client.rq.ids import new_id
from documents.incoming import clean_name
from errors import InvalidRequest, PayloadTooLarge, UploadNotFound
from observability import logs
from schemas import Upload, UploadStatus

# The largest file that `upload` takes. Larger ones go to POST /uploads, which does not hold them in memory.
MAX_FILE_BYTES: Final = 1024 * 1024
URI_TEMPLATE: Final = "rag://uploads/{upload_id}/pages/{page}"
_URI = re.compile(r"rag://uploads/([0-9a-f-]{36})/pages/([1-9][0-9]{0,6})", re.ASCII)


class DocumentView(BaseModel):
    """A document."""

    upload_id: str
    name: str
    status: UploadStatus
    uri: str = Field(description="Its first page, as a resource.")
    pages: int | None = None
    bytes: int
    created_at: datetime
    error: str | None = Field(None, description="Why it cannot be searched.")


class DocumentsView(BaseModel):
    """Some documents, newest first."""

    documents: list[DocumentView]
    next: str | None = Field(None, description="The cursor of the next documents; null after the last.")


class UploadedView(BaseModel):
    """An accepted document. It can be searched once its status is `ready`."""

    upload_id: str
    name: str
    status: UploadStatus
    duplicate: bool = Field(description="True if the same file was uploaded before.")


async def list_documents(
    call: Call, *, name: str | None = None, status: UploadStatus | None = None, limit: int, cursor: str | None = None
) -> DocumentsView:
    """List the documents of the caller. Raises InvalidRequest for a wrong cursor."""
    found, following = await call.state.pools.sql.run(
        call.state.uploads.page,
        call.caller.visible_owner,
        limit=limit,
        status=status,
        name=clean_name(name) if name else None,
        cursor=cursor,
    )
    return DocumentsView(documents=[_view(upload) for upload in found], next=following)


def _view(upload: Upload) -> DocumentView:
    return DocumentView(
        **upload.model_dump(include={"upload_id", "name", "status", "pages", "bytes", "created_at", "error"}),
        uri=page_uri(upload.upload_id, 1),
    )


async def store(call: Call, name: str, *, text: str | None, base64: str | None) -> UploadedView:
    """Accept a small file. Raises AppError."""
    if (text is None) == (base64 is None):
        raise InvalidRequest([("text", "send either text or base64")])
    content = text.encode() if text is not None else _decode(base64 or "")
    if len(content) > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"the file is larger than {MAX_FILE_BYTES} bytes: send it to POST /uploads")
    if text is not None and "." not in name:
        name = f"{name}.txt"
    user_id, quotas = call.caller.user_id, call.state.quotas
    await call.documents.check_limits(user_id, files=1, size_bytes=len(content))
    await quotas.count_uploads(user_id, 1)
    try:
        accepted = await call.documents.accept(BytesIO(content), name=name, user_id=user_id, upload_id=new_id())
    except Exception:
        await quotas.give_back_uploads(user_id, 1)
        raise
    upload = accepted.upload
    event = "upload_repeated" if accepted.duplicate else "upload_added"
    logs.audit(event, owner=upload.user_id, upload_id=upload.upload_id, bytes=upload.bytes, sha256=upload.sha256)
    fields = upload.model_dump(include={"upload_id", "name", "status"})
    return UploadedView(**fields, duplicate=accepted.duplicate)


def _decode(base64: str) -> bytes:
    try:
        return b64decode(base64, validate=True)
    except (Base64Error, ValueError):
        raise InvalidRequest([("base64", "is not valid base64")]) from None


async def read_page(call: Call, uri: str) -> PageView:
    """Return the text of a page by its address. Raises UploadNotFound, and AppError for a page that cannot be read."""
    parsed = _URI.fullmatch(uri)
    if parsed is None:
        raise UploadNotFound(f"there is no such page: its address must be {URI_TEMPLATE}")
    upload_id, number = parsed[1], int(parsed[2])
    upload = await call.documents.get(upload_id, user_id=call.caller.visible_owner)
    if upload.pages is not None and number > upload.pages:
        raise UploadNotFound("the document has no such page")
    query = question_of(
        call, upload.name.strip() or "page", [upload_id], only="text", first_page=number, last_page=number, cache=False
    )
    answer = await look_up(call, query)
    source = next(iter(answer.sources), None)
    title = f"{upload.name}, page {number}" if source is None else title_of(source)
    return PageView(
        id=uri,
        title=title,
        text="" if source is None else source.quote,
        url=file_url(call, upload_id, number),
        metadata={"upload_id": upload_id, "document": upload.name, "page": number},
    )
