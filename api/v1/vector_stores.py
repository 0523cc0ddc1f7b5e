"""Vector stores: named sets of files. /v1/vector_stores makes, lists, changes, searches and deletes them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from api.callbacks import MetadataKey, MetadataValue, few_pairs
from api.dependencies import ANY_SCOPE, require_scope
from api.routes.uploads import UPLOAD_SCOPE
from api.v1 import ids
from api.v1.bodies import check_question, read_body
from api.v1.errors import ApiError, OpenAIRoute
from api.v1.file_search import SearchOptions
from api.v1.lists import Limit, Order, page_of
from api.v1.lookups import look_up_each
from api.v1.repeats import reserve_id
from api.v1.sending import JsonResponse
from api.v1.store_files import AddedFiles, add_files
from api.v1.store_lookups import load_store, require_stores
from api.v1.store_objects import best_of, search_page, store_object
from client.sql.database import DuplicateRow
from schemas import KeyScope, check_text
from schemas.stores import StoreTotals, VectorStore

MAX_STORES: Final = 1_000
MAX_PAIRS: Final = 16
DEFAULT_RESULTS: Final = 10
MAX_QUERIES: Final = 10
_Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_PAIRS), few_pairs(MAX_PAIRS)]
_Name = Annotated[str, StringConstraints(max_length=255), AfterValidator(check_text)]
_Description = Annotated[str, StringConstraints(max_length=512), AfterValidator(check_text)]

# Outside of the OpenAPI document, as api/v1/models.py says.
router = APIRouter(prefix="/v1", route_class=OpenAIRoute, include_in_schema=False)


class _ExpiresAfter(BaseModel):
    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class _StoreFields(BaseModel):
    """What a store can be given. Unknown fields are ignored, as OpenAI's clients add fields with each version."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: _Name | None = None
    description: _Description | None = None
    metadata: Annotated[_Metadata, BeforeValidator(lambda value: value or {})] | None = None
    expires_after: _ExpiresAfter | None = None

    def values(self) -> dict[str, Any]:
        """Return the fields that were sent, as those of a store."""
        sent = self.model_fields_set
        values: dict[str, Any] = {name: getattr(self, name) for name in ("name", "description") if name in sent}
        if "name" in values:
            values["name"] = self.name or ""
        if "metadata" in sent:
            values["details"] = self.metadata or {}
        if "expires_after" in sent:
            values["expires_days"] = None if self.expires_after is None else self.expires_after.days
        return values


class _CreateStore(_StoreFields, AddedFiles):
    pass


class _Search(SearchOptions):
    model_config = ConfigDict(extra="ignore")

    query: str | Annotated[list[str], Field(min_length=1, max_length=MAX_QUERIES)]


@router.post("/vector_stores", dependencies=UPLOAD_SCOPE)
async def create(request: Request) -> Response:
    """Make a store, with the files that are named."""
    body, given = await read_body(request, _CreateStore)
    state = request.state
    user_id = state.caller.user_id
    files = await body.load(request)
    if await state.pools.sql.run(state.stores.count, user_id) >= MAX_STORES:
        message = f"you already have {MAX_STORES} vector stores, the most a user may have: delete one first"
        raise ApiError(message, code="vector_store_limit_reached")
    now = datetime.now(UTC)
    store_id = await reserve_id(request, {"kind": "vector store", **given}, only_by_key=True)
    store = VectorStore(store_id=store_id, user_id=user_id, created_at=now, last_active_at=now, **body.values())
    with suppress(DuplicateRow):  # a repeated request
        await state.pools.sql.run(state.stores.add, store)
    await add_files(request, store, files)
    return await _shown(request, store)


@router.get("/vector_stores", dependencies=ANY_SCOPE)
async def listed(
    request: Request, after: str | None = None, before: str | None = None, order: Order = "desc", limit: Limit = 20
) -> Response:
    """List stores, the newest first."""
    state = request.state
    places = {
        param: None if one is None else (await load_store(request, one, param=param)).store_id
        for param, one in (("after", after), ("before", before))
    }
    stores, more = await state.pools.sql.run(
        state.stores.listed,
        state.caller.visible_owner,
        limit=limit,
        ascending=order == "asc",
        **places,
    )
    totals = await state.pools.sql.run(state.stores.totals, [store.store_id for store in stores])
    return JsonResponse(page_of([store_object(store, totals[store.store_id]) for store in stores], more=more))


@router.get("/vector_stores/{vector_store_id}", dependencies=ANY_SCOPE)
async def retrieve(vector_store_id: str, request: Request) -> Response:
    """Return a store as it is now."""
    return await _shown(request, await load_store(request, vector_store_id))


@router.post("/vector_stores/{vector_store_id}", dependencies=UPLOAD_SCOPE)
async def change(vector_store_id: str, request: Request) -> Response:
    """Change the name, the metadata or the expiry of a store."""
    store = await load_store(request, vector_store_id)
    body, _ = await read_body(request, _StoreFields)
    state = request.state
    changed = await state.pools.sql.run(state.stores.change, store.store_id, **body.values())
    if changed is None:
        raise ids.not_found(ids.VECTOR_STORE, param="vector_store_id")
    return await _shown(request, changed)


@router.delete("/vector_stores/{vector_store_id}", dependencies=UPLOAD_SCOPE)
async def delete(vector_store_id: str, request: Request) -> Response:
    """Delete a store. Its files stay."""
    store = await load_store(request, vector_store_id)
    await request.state.pools.sql.run(request.state.stores.remove, store.store_id)
    return JsonResponse({"id": vector_store_id, "object": "vector_store.deleted", "deleted": True})


@router.post("/vector_stores/{vector_store_id}/search", dependencies=[require_scope(KeyScope.QUERY)])
async def search(vector_store_id: str, request: Request) -> Response:
    """Return the passages of a store that fit a question best. Each of several queries is searched for itself."""
    store = await load_store(request, vector_store_id)
    body, _ = await read_body(request, _Search)
    body.check("")
    await require_stores(request, [store.store_id], param="vector_store_id")
    queries = [body.query] if isinstance(body.query, str) else body.query
    state = request.state
    questions = dict.fromkeys(check_question(query, param="query") for query in queries)
    options = {"k": DEFAULT_RESULTS} | body.query_options()
    results = await look_up_each(request, [*questions], only="passages", store_ids=(store.store_id,), **options)
    found = best_of(results)[: options["k"]]
    members = await state.pools.sql.run(state.uploads.members, state.caller.visible_owner, [store.store_id])
    return JsonResponse(search_page(queries, found, members))


async def _shown(request: Request, store: VectorStore) -> Response:
    state = request.state
    totals: dict[str, StoreTotals] = await state.pools.sql.run(state.stores.totals, [store.store_id])
    return JsonResponse(store_object(store, totals[store.store_id]))
