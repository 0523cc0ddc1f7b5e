"""Finding the vector stores that a request names."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from api.v1 import ids
from api.v1.errors import ApiError
from schemas.stores import VectorStore


async def load_store(request: Request, store_id: str, *, param: str = "vector_store_id") -> VectorStore:
    """Return the store of an id. Raises ApiError for an id that names no store of the caller."""
    return await _load(request, ids.to_ours(ids.VECTOR_STORE, store_id, param=param), param)


async def require_stores(request: Request, store_ids: Sequence[str], *, param: str) -> None:
    """Check that a question may search stores, and note that they are used. Takes our ids. Raises ApiError."""
    stores = [await _load(request, store_id, param) for store_id in store_ids]
    for store in stores:
        require_unexpired(store, param=param)
    if stores:
        await request.state.pools.sql.run(request.state.stores.touch, stores)


def require_unexpired(store: VectorStore, *, param: str = "vector_store_id") -> None:
    """Raise ApiError for a store that has expired."""
    if store.expired:
        message = f"{param}: the vector store has expired: make another with its files, or change its expires_after"
        raise ApiError(message, code="vector_store_expired", param=param)


async def _load(request: Request, store_id: str, param: str) -> VectorStore:
    state = request.state
    store: VectorStore | None = await state.pools.sql.run(
        state.stores.get, store_id, user_id=state.caller.visible_owner
    )
    if store is None:
        raise ids.not_found(ids.VECTOR_STORE, param=param)
    return store
