"""Vector stores, their files and batches, as OpenAI's types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from api.v1 import ids
from schemas import Source
from schemas.stores import FileBatch, StoreFile, StoreFileStatus, StoreMembers, StoreTotals, VectorStore

# How soon a client that polls should ask again.
POLL_HEADERS: Final = {"openai-poll-after-ms": "500"}
# Chunks are cut as every document's are, whatever strategy was asked for.
_CHUNKING: Final = {"type": "other"}
_INVALID: Final = {
    *("encrypted", "broken", "no_text", "empty", "unreadable_text", "unknown_encoding", "xfa_form", "too_large"),
    *("too_long", "not_a_pdf"),
}


def store_object(store: VectorStore, totals: StoreTotals) -> dict[str, Any]:
    """Return a store."""
    waits = totals.count(StoreFileStatus.IN_PROGRESS) > 0
    days = store.expires_days
    return {
        "id": ids.to_theirs(ids.VECTOR_STORE, store.store_id),
        "object": "vector_store",
        "created_at": _seconds(store.created_at),
        "name": store.name,
        "description": store.description,
        "usage_bytes": totals.used_bytes,
        "file_counts": _counts(totals),
        "status": "expired" if store.expired else "in_progress" if waits else "completed",
        "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
        "expires_at": None if store.expires_at is None else _seconds(store.expires_at),
        "last_active_at": _seconds(store.last_active_at),
        "metadata": store.details,
    }


def store_file_object(file: StoreFile) -> dict[str, Any]:
    """Return a file of a store."""
    return {
        "id": ids.to_theirs(ids.FILE, file.upload.upload_id),
        "object": "vector_store.file",
        "created_at": _seconds(file.created_at),
        "vector_store_id": ids.to_theirs(ids.VECTOR_STORE, file.store_id),
        "status": file.status.value,
        "usage_bytes": file.upload.bytes if file.status is StoreFileStatus.COMPLETED else 0,
        "last_error": _last_error(file),
        "attributes": file.attributes,
        "chunking_strategy": _CHUNKING,
    }


def batch_object(batch: FileBatch, totals: StoreTotals) -> dict[str, Any]:
    """Return a batch of files."""
    waits = totals.count(StoreFileStatus.IN_PROGRESS) > 0
    return {
        "id": ids.to_theirs(ids.FILE_BATCH, batch.batch_id),
        "object": "vector_store.files_batch",
        "created_at": _seconds(batch.created_at),
        "vector_store_id": ids.to_theirs(ids.VECTOR_STORE, batch.store_id),
        "status": "cancelled" if batch.cancelled else "in_progress" if waits else "completed",
        "file_counts": _counts(totals),
    }


def best_of(results: Sequence[Sequence[Source]]) -> list[Source]:
    """Return the passages of several searches, best first: each once, with its best score."""
    best: dict[tuple[str, int, int], Source] = {}
    for source in (source for found in results for source in found):
        place = (source.upload_id, source.page, source.start)
        if place not in best or source.score > best[place].score:
            best[place] = source
    return sorted(best.values(), key=lambda source: -source.score)


def search_page(question: list[str], found: Sequence[Source], members: StoreMembers) -> dict[str, Any]:
    """Return the passages of a search."""
    data = [
        {
            "file_id": ids.to_theirs(ids.FILE, source.upload_id),
            "filename": source.name,
            "score": source.score,
            "attributes": {"page": source.page, **members.of(source.upload_id)},
            "content": [{"type": "text", "text": source.quote}],
        }
        for source in found
    ]
    page = {"object": "vector_store.search_results.page", "search_query": question, "data": data}
    return page | {"has_more": False, "next_page": None}


def _counts(totals: StoreTotals) -> dict[str, int]:
    counts = {status.value: totals.count(status) for status in StoreFileStatus}
    return counts | {"total": sum(counts.values())}


def _last_error(file: StoreFile) -> dict[str, str] | None:
    if file.status is not StoreFileStatus.FAILED:
        return None
    reason = file.upload.reason or ""
    code = "unsupported_file" if reason == "unsupported" else "invalid_file" if reason in _INVALID else "server_error"
    return {"code": code, "message": file.upload.error or "the file could not be indexed"}


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
