"""GET /v1/models: the names under which clients ask."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from api.dependencies import ANY_SCOPE, SettingsDep
from api.v1.errors import ApiError, OpenAIRoute
from settings import Settings

# Outside of the OpenAPI document: its errors are problem documents, and OpenAI describes these routes.
router = APIRouter(prefix="/v1", route_class=OpenAIRoute, dependencies=ANY_SCOPE, include_in_schema=False)

# The name that always exists: CHAT_MODEL, or quotes where no model is configured.
DEFAULT_MODEL: Final = "rag"


def model_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that a request may give as its `model`."""
    return tuple(dict.fromkeys([DEFAULT_MODEL, *settings.allowed_models]))


def chosen_model(name: str, settings: Settings) -> str | None:
    """Return the chat model behind a name; None for CHAT_MODEL. Raises ApiError for a name that does not exist."""
    if name == DEFAULT_MODEL:
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
async def models(settings: SettingsDep) -> dict[str, Any]:
    """List the names."""
    return {"object": "list", "data": [_model(name) for name in model_names(settings)]}


@router.get("/models/{name:path}")
async def model(name: str, settings: SettingsDep) -> dict[str, Any]:
    """Return one name; names of models may hold a slash."""
    chosen_model(name, settings)
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rag"}
