"""The state of the vector store as seen from outside, for the API, which must not open it, and during an outage."""

from __future__ import annotations

from typing import Literal

import httpx

from client.qdrant.connection import api_key, is_outage, tls_verification
from client.qdrant.points import COMPLETE, SPARSE_VECTOR, collection_name
from settings import LEXICAL_MODEL, Settings

TIMEOUT_SECONDS = 1.0
# A search of every shard of a collection. A cluster that has lost a shard still answers requests about itself.
_SEARCH = {"query": {"indices": [0], "values": [1.0]}, "using": SPARSE_VECTOR, "limit": 1, "with_payload": False}

Condition = Literal["ready", "empty", "unavailable", "refused"]


async def vector_store_condition(settings: Settings) -> Condition:
    """Return whether chunks can be found, on a server by a search.

    `empty`: nothing was indexed with the current embedding model. `unavailable`: the server does not answer within
    TIMEOUT_SECONDS, or cannot search now. `refused`: it refuses the key or the search.
    """
    name = collection_name(settings.dense_model or LEXICAL_MODEL)
    if settings.qdrant_url is None:
        return "ready" if (settings.qdrant_dir / name / COMPLETE).exists() else "empty"
    key = api_key(settings)
    headers = {"api-key": key} if key else {}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=tls_verification(settings)) as http:
            url = f"{settings.qdrant_url}/collections/{name}/points/query"
            response = await http.post(url, headers=headers, json=_SEARCH)
    except httpx.HTTPError:
        return "unavailable"
    if response.status_code == httpx.codes.NOT_FOUND:
        return "empty"
    if response.is_success:
        return "ready"
    return "unavailable" if is_outage(response.status_code) else "refused"
