"""GET /v1/models: the names under which clients ask."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request

from api.dependencies import ANY_SCOPE, SettingsDep
from api.v1 import ids
from api.v1.errors import ApiError, OpenAIRoute
from api.v1.lists import MAX_LISTED
from api.v1.store_lookups import require_stores
from settings import Settings

# Outside of the OpenAPI document: its errors are problem documents, and OpenAI describes these routes.
router = APIRouter(prefix="/v1", route_class=OpenAIRoute, dependencies=ANY_SCOPE, include_in_schema=False)

# The name that always exists: CHAT_MODEL, or quotes where no model is configured.
DEFAULT_MODEL: Final = "rag"
# The same, with the list of sources at the end of the text: for programs that show no citations.
WITH_SOURCES: Final = "rag-sources"


def model_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that a request may give as its `model`."""
    return tuple(dict.fromkeys([DEFAULT_MODEL, WITH_SOURCES, *settings.allowed_models]))


def store_of_model(name: str) -> tuple[str | None, str]:
    """Return the vector store that the name of a model asks, as `rag:vs_…` does, and the model. Raises ApiError."""
    prefix, _, store_id = name.partition(":")
    if prefix != DEFAULT_MODEL or not store_id.startswith(ids.VECTOR_STORE):
        return None, name
    return ids.to_ours(ids.VECTOR_STORE, store_id, param="model"), DEFAULT_MODEL


def chosen_model(name: str, settings: Settings) -> str | None:
    """Return the chat model behind a name; None for CHAT_MODEL. Raises ApiError for a name that does not exist."""
    if name in {DEFAULT_MODEL, WITH_SOURCES}:
        return None
    if name in settings.allowed_models:
        return name
    raise ApiError(
        f"this model does not exist: use one of {', '.join(model_names(settings))}",
        code="model_not_found",
        param="model",
        status=404,
    )


@router.get("/models")
async def models(request: Request, settings: SettingsDep) -> dict[str, Any]:
    """List the names; each vector store of the caller is one."""
    state = request.state
    stores, _ = await state.pools.sql.run(
        state.stores.listed, state.caller.user_id, limit=MAX_LISTED, after=None, before=None, ascending=False
    )
    of_stores = [f"{DEFAULT_MODEL}:{ids.to_theirs(ids.VECTOR_STORE, store.store_id)}" for store in stores]
    return {"object": "list", "data": [_model(name) for name in [*model_names(settings), *of_stores]]}


@router.get("/models/{name:path}")
async def model(name: str, request: Request, settings: SettingsDep) -> dict[str, Any]:
    """Return one name; names of models may hold a slash."""
    store_id, chosen = store_of_model(name)
    chosen_model(chosen, settings)
    if store_id is not None:
        await require_stores(request, [store_id], param="model")
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rag"}
