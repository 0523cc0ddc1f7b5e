"""The state of the vector store as seen from outside, for the API, which must not open it, and during an outage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import httpx

from client.qdrant.base import nothing_indexed
from client.qdrant.connection import api_key, tls_verification
from client.qdrant.damage import damage_noted, is_usable, store_damaged, store_forbidden
from client.qdrant.outage import is_outage
from client.qdrant.points import COMPLETE, SPARSE_VECTOR, collection_name
from settings import LEXICAL_MODEL, Settings

TIMEOUT_SECONDS = 1.0
# A search of every shard of a collection. A cluster that has lost a shard still answers requests about itself.
_SEARCH = {"query": {"indices": [0], "values": [1.0]}, "using": SPARSE_VECTOR, "limit": 1, "with_payload": False}

Condition = Literal["ready", "empty", "unavailable", "refused", "damaged"]


def warning_about(condition: Condition, settings: Settings, *, since: str = "") -> str | None:
    """Return what to do about a condition; None while chunks can be found. `since` says since when it lasts."""
    if condition == "empty":
        return nothing_indexed().detail
    if settings.qdrant_url is None:
        return _warning_about_folder(condition, settings.qdrant_dir, since)
    if condition == "unavailable":
        return (
            f"the Qdrant server does not answer{since}: questions and uploads wait for it; check QDRANT_URL, and that "
            "the server runs"
        )
    if condition == "refused":
        return "the Qdrant server refuses to search: check QDRANT_API_KEY and QDRANT_URL"
    return None


def _warning_about_folder(condition: Condition, folder: Path, since: str) -> str | None:
    if condition == "damaged":
        return store_damaged(folder).detail
    if condition == "refused":
        return store_forbidden(folder).detail
    if condition == "unavailable":
        return f"the embedded vector store in {folder} is busy or has no room{since}: the worker's log says which"
    return None


def _embedded_condition(folder: Path, name: str) -> Condition:
    """Return the condition of a collection in a folder, which is not opened."""
    if not is_usable(folder) or not is_usable(folder / name):
        return "refused"
    if damage_noted(folder / name):
        return "damaged"
    return "ready" if (folder / name / COMPLETE).exists() else "empty"


async def vector_store_condition(settings: Settings, collection: str | None = None) -> Condition:
    """Return whether chunks can be found in a collection, on a server by a search.

    `collection`: None for the one of the current embedding model. `empty`: nothing was indexed into it. `unavailable`:
    the server does not answer within TIMEOUT_SECONDS, or cannot search now. `refused`: it refuses the key or the
    search, or the folder of the embedded store may not be read. `damaged`: a process has found the files of the
    embedded store damaged.
    """
    name = collection or collection_name(settings.dense_model or LEXICAL_MODEL)
    if settings.qdrant_url is None:
        return _embedded_condition(settings.qdrant_dir, name)
    condition: Condition = "unavailable"
    for url in settings.qdrant_urls:
        condition = await _searched(f"{url}/collections/{name}/points/query", settings)
        if condition != "unavailable":
            break
    return condition


async def _searched(url: str, settings: Settings) -> Condition:
    """Return the condition of a collection according to one node."""
    key = api_key(settings)
    headers = {"api-key": key} if key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=tls_verification(settings)) as http:
            response = await http.post(url, headers=headers, json=_SEARCH)
    except httpx.HTTPError:
        return "unavailable"
    if response.status_code == httpx.codes.NOT_FOUND:
        return "empty"
    if response.is_success:
        return "ready"
    return "unavailable" if is_outage(response.status_code) else "refused"
