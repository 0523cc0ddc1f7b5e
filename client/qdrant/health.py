"""The state of the vector store as seen from outside, for the API, which must not open the store."""

from __future__ import annotations

from typing import Literal

import httpx

from client.qdrant.connection import api_key, tls_verification
from client.qdrant.points import COMPLETE, collection_name
from settings import LEXICAL_MODEL, Settings

TIMEOUT_SECONDS = 1.0

Condition = Literal["ready", "empty", "unavailable"]


async def vector_store_condition(settings: Settings) -> Condition:
    """Return whether chunks can be found. `empty`: nothing was indexed with the current embedding model."""
    name = collection_name(settings.dense_model or LEXICAL_MODEL)
    if settings.qdrant_url is None:
        return "ready" if (settings.qdrant_dir / name / COMPLETE).exists() else "empty"
    key = api_key(settings)
    headers = {"api-key": key} if key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=tls_verification(settings)) as http:
            response = await http.get(f"{settings.qdrant_url}/collections/{name}/exists", headers=headers)
            response.raise_for_status()
            return "ready" if response.json()["result"]["exists"] else "empty"
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return "unavailable"
