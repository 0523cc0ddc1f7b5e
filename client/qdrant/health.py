"""A look at the vector store from outside, for the API, which must not open it."""

from __future__ import annotations

from typing import Literal

import httpx

from client.qdrant.points import COMPLETE, collection_name
from client.qdrant.tls import trusted
from settings import LEXICAL_MODEL, Settings

TIMEOUT_SECONDS = 1.0

Condition = Literal["ready", "empty", "unavailable"]


async def vector_store_condition(settings: Settings) -> Condition:
    """Tell whether chunks can be found: `empty` means that nothing was indexed with the current embedding model."""
    name = collection_name(settings.dense_model or LEXICAL_MODEL)
    if settings.qdrant_url is None:
        return "ready" if (settings.qdrant_dir / name / COMPLETE).exists() else "empty"
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    headers = {"api-key": key} if key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=trusted(settings)) as http:
            answer = await http.get(f"{settings.qdrant_url}/collections/{name}/exists", headers=headers)
            answer.raise_for_status()
            return "ready" if answer.json()["result"]["exists"] else "empty"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return "unavailable"
