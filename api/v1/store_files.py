"""The files of a vector store, and batches of files that are added together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from api.callbacks import MetadataKey, few_pairs
from api.dependencies import ANY_SCOPE, require_scope
from api.routes.uploads import UPLOAD_SCOPE
from api.v1 import ids
from api.v1.bodies import read_body
from api.v1.errors import ApiError, OpenAIRoute
from api.v1.file_objects import load_upload
from api.v1.lists import Limit, Order, page_of
from api.v1.lookups import look_up
from api.v1.repeats import reserve_id
from api.v1.sending import JsonResponse
from api.v1.store_lookups import load_store, require_unexpired
from api.v1.store_objects import POLL_HEADERS, batch_object, store_file_object
from client.sql.database import DuplicateRow
from client.sql.stores import MAX_FILES, TooManyFiles
from schemas import KeyScope, Source, check_text
from schemas.attribute_filters import AttributeValue
from schemas.stores import FileBatch, StoreFile, StoreFileStatus, VectorStore

MAX_BATCH: Final = 2_000
MAX_ATTRIBUTES: Final = 16
# The pages of a file whose text is shown, and those that one job reads.
MAX_PAGES, PAGES_OF_LOOKUP = 200, 20
_Text = Annotated[str, StringConstraints(max_length=512), AfterValidator(check_text)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Attributes = Annotated[
    dict[MetadataKey, bool | int | _Number | _Text],
    Field(max_length=MAX_ATTRIBUTES),
    BeforeValidator(lambda value: {} if value is None else value),
    few_pairs(MAX_ATTRIBUTES),
]
Files = dict[str, Mapping[str, AttributeValue]]

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(prefix="/v1/vector_stores/{vector_store_id}", route_class=OpenAIRoute, include_in_schema=False)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class AddedFiles(_Body):
    """Files by their ids."""

    file_ids: Annotated[list[str], Field(max_length=MAX_BATCH)] | None = None

    async def load(self, request: Request) -> Files:
        """Return the ids of the uploads, with their attributes. Raises ApiError."""
        return await _load_all(request, [(file_id, {}) for file_id in self.file_ids or ()], "file_ids")


class _AddFile(_Body):
    file_id: str
    attributes: _Attributes = Field(default_factory=dict)


class _ChangeFile(_Body):
    attributes: _Attributes


class _CreateBatch(AddedFiles):
    files: Annotated[list[_AddFile], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    attributes: _Attributes = Field(default_factory=dict)

    async def load(self, request: Request) -> Files:
        """As AddedFiles.load. Files have attributes each, or share those of the batch."""
        if (self.files is None) == (not self.file_ids):
            raise ApiError("file_ids: send file_ids or files", code="invalid_request_error", param="file_ids")
        if self.files is not None:
            return await _load_all(request, [(file.file_id, file.attributes) for file in self.files], "files")
        return await _load_all(request, [(file_id, self.attributes) for file_id in self.file_ids or ()], "file_ids")


async def _load_all(request: Request, named: list[tuple[str, Mapping[str, AttributeValue]]], param: str) -> Files:
    """Check that every file is the caller's. One statement reads all."""
    state = request.state
    files = {ids.to_ours(ids.FILE, file_id, param=param): attributes for file_id, attributes in named}
    present = await state.pools.sql.run(state.uploads.names, state.caller.visible_owner, files.keys())
    if len(present) < len(files):
        raise ids.not_found(ids.FILE, param=param)
    return files


async def add_files(request: Request, store: VectorStore, files: Files) -> None:
    """Put uploads into a store. Raises ApiError."""
    if files:
        with _limited():
            await request.state.pools.sql.run(request.state.stores.add_files, store.store_id, files)


@contextmanager
def _limited() -> Iterator[None]:
    """Turn the error of a store that would have too many files into an ApiError."""
    try:
        yield
    except TooManyFiles:
        message = f"a vector store has at most {MAX_FILES:,} files: make another"
        raise ApiError(message, code="vector_store_file_limit_reached") from None


@router.post("/files", dependencies=UPLOAD_SCOPE)
async def add(vector_store_id: str, request: Request) -> Response:
    """Put a file into a store."""
    store = await load_store(request, vector_store_id)
    require_unexpired(store)
    body, _ = await read_body(request, _AddFile)
    upload = await load_upload(request, body.file_id)
    await add_files(request, store, {upload.upload_id: body.attributes})
    return JsonResponse(store_file_object(await _load_file(request, store, body.file_id)))


@dataclass(frozen=True, slots=True)
class _Page:
    """Which files a list shows. `after`, `before`: the ids of files."""

    after: str | None
    before: str | None
    status: StoreFileStatus | None
    ascending: bool
    limit: int


def _page(
    after: str | None = None,
    before: str | None = None,
    filter: StoreFileStatus | None = None,  # noqa: A002  OpenAI's name
    order: Order = "desc",
    limit: Limit = 20,
) -> _Page:
    return _Page(after, before, filter, order == "asc", limit)


_PageDep = Annotated[_Page, Depends(_page)]


@router.get("/files", dependencies=ANY_SCOPE)
async def listed(vector_store_id: str, request: Request, page: _PageDep) -> Response:
    """List the files of a store, those added last first."""
    return await _list(request, await load_store(request, vector_store_id), page)


@router.get("/files/{file_id}", dependencies=ANY_SCOPE)
async def retrieve(vector_store_id: str, file_id: str, request: Request) -> Response:
    """Return a file of a store as it is now."""
    store = await load_store(request, vector_store_id)
    return JsonResponse(store_file_object(await _load_file(request, store, file_id)), headers=POLL_HEADERS)


@router.get("/files/{file_id}/content", dependencies=[require_scope(KeyScope.QUERY)])
async def content(vector_store_id: str, file_id: str, request: Request) -> Response:
    """Return the text of a file's first MAX_PAGES pages, as it was cut into chunks."""
    store = await load_store(request, vector_store_id)
    file = await _load_file(request, store, file_id)
    if file.status is not StoreFileStatus.COMPLETED:
        raise ApiError("file_id: the file is not ready", code="file_not_ready", param="file_id")
    pages = file.upload.pages or 0
    found: list[Source] = []
    for first in range(1, min(pages, MAX_PAGES) + 1, PAGES_OF_LOOKUP):
        last = first + PAGES_OF_LOOKUP - 1
        place = {"upload_ids": (file.upload.upload_id,), "first_page": first, "last_page": last}
        found += await look_up(request, "text", only="text", cache=False, **place)
    data = [{"type": "text", "text": source.quote} for source in found]
    page = {"object": "vector_store.file_content.page", "data": data, "has_more": pages > MAX_PAGES, "next_page": None}
    return JsonResponse(page)


@router.post("/files/{file_id}", dependencies=UPLOAD_SCOPE)
async def change(vector_store_id: str, file_id: str, request: Request) -> Response:
    """Give a file of a store other attributes."""
    store = await load_store(request, vector_store_id)
    file = await _load_file(request, store, file_id)
    body, _ = await read_body(request, _ChangeFile)
    stores = request.state.stores
    await request.state.pools.sql.run(stores.change_file, store.store_id, file.upload.upload_id, body.attributes)
    return JsonResponse(store_file_object(file.model_copy(update={"attributes": body.attributes})))


@router.delete("/files/{file_id}", dependencies=UPLOAD_SCOPE)
async def remove(vector_store_id: str, file_id: str, request: Request) -> Response:
    """Take a file out of a store. The file stays."""
    store = await load_store(request, vector_store_id)
    file = await _load_file(request, store, file_id)
    stores = request.state.stores
    await request.state.pools.sql.run(stores.remove_file, store.store_id, file.upload.upload_id)
    return JsonResponse({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


@router.post("/file_batches", dependencies=UPLOAD_SCOPE)
async def create_batch(vector_store_id: str, request: Request) -> Response:
    """Put several files into a store."""
    store = await load_store(request, vector_store_id)
    require_unexpired(store)
    body, given = await read_body(request, _CreateBatch)
    files = await body.load(request)
    batch_id = await reserve_id(request, {"kind": "file batch", "store": store.store_id, **given})
    batch = FileBatch(batch_id=batch_id, store_id=store.store_id, upload_ids=tuple(files), created_at=datetime.now(UTC))
    with _limited(), suppress(DuplicateRow):  # a repeated request
        await request.state.pools.sql.run(request.state.stores.add_batch, batch, files)
    return await _shown(request, batch)


@router.get("/file_batches/{batch_id}", dependencies=ANY_SCOPE)
async def retrieve_batch(vector_store_id: str, batch_id: str, request: Request) -> Response:
    """Return a batch as it is now."""
    store = await load_store(request, vector_store_id)
    return await _shown(request, await _load_batch(request, store, batch_id))


@router.post("/file_batches/{batch_id}/cancel", dependencies=UPLOAD_SCOPE)
async def cancel_batch(vector_store_id: str, batch_id: str, request: Request) -> Response:
    """Cancel a batch: the store leaves out its files that are not ready. The files themselves are indexed."""
    store = await load_store(request, vector_store_id)
    batch = await _load_batch(request, store, batch_id)
    await request.state.pools.sql.run(request.state.stores.cancel_batch, batch)
    return await _shown(request, batch.model_copy(update={"cancelled": True}))


@router.get("/file_batches/{batch_id}/files", dependencies=ANY_SCOPE)
async def batch_files(vector_store_id: str, batch_id: str, request: Request, page: _PageDep) -> Response:
    """List the files of a batch, those added last first."""
    store = await load_store(request, vector_store_id)
    return await _list(request, store, page, batch=await _load_batch(request, store, batch_id))


async def _list(request: Request, store: VectorStore, page: _Page, *, batch: FileBatch | None = None) -> Response:
    """Return a page of the files of a store, or of a batch."""
    found = {
        param: None if one is None else await _load_file(request, store, one, param=param)
        for param, one in (("after", page.after), ("before", page.before))
    }
    choice = {"limit": page.limit, "ascending": page.ascending, "status": page.status, "batch": batch}
    state = request.state
    files, more = await state.pools.sql.run(state.stores.files, store.store_id, **found, **choice)
    return JsonResponse(page_of([store_file_object(file) for file in files], more=more))


async def _load_file(request: Request, store: VectorStore, file_id: str, *, param: str = "file_id") -> StoreFile:
    """Return a file of a store, reconciled with its job. Raises ApiError."""
    upload = await load_upload(request, file_id, param=param)
    state = request.state
    file: StoreFile | None = await state.pools.sql.run(state.stores.file, store.store_id, upload.upload_id)
    if file is None:
        raise ids.not_found(ids.FILE, param=param)
    return file


async def _load_batch(request: Request, store: VectorStore, batch_id: str) -> FileBatch:
    state = request.state
    ours = ids.to_ours(ids.FILE_BATCH, batch_id, param="batch_id")
    batch: FileBatch | None = await state.pools.sql.run(state.stores.batch, store.store_id, ours)
    if batch is None:
        raise ids.not_found(ids.FILE_BATCH, param="batch_id")
    return batch


async def _shown(request: Request, batch: FileBatch) -> Response:
    state = request.state
    totals = await state.pools.sql.run(state.stores.batch_totals, batch)
    return JsonResponse(batch_object(batch, totals), headers=POLL_HEADERS)
