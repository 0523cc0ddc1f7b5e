"""Chunks that an embedded store has read: questions find the same chunks again.

Reading a payload and making a chunk of it takes 25 us; a question finds about a hundred chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from client.qdrant.points import chunk_of
from schemas import Chunk

# About 5 MB.
MAX_CHUNKS = 2_048


class ChunkCache:
    """The chunks of one open shard by point id; None for points that are no chunks. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: dict[str, Chunk | None] = {}
        self._writes = 0

    def get(
        self, ids: Collection[str], read: Callable[[list[str]], Mapping[str, Mapping[str, Any]]]
    ) -> dict[str, Chunk | None]:
        """Return the chunks of the points that exist; `read` returns the payloads of those that are not cached."""
        with self._lock:
            writes = self._writes
            found = {id_: self._chunks[id_] for id_ in ids if id_ in self._chunks}
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in found]
        if not missing:
            return found
        new = {id_: chunk_of(id_, payload) for id_, payload in read(missing).items()}
        with self._lock:
            if writes == self._writes:  # nothing was written while the points were read
                self._add(new)
        return found | new

    def clear(self) -> None:
        """Forget all chunks. Call after each write to the shard."""
        with self._lock:
            self._chunks = {}
            self._writes += 1

    def _add(self, new: Mapping[str, Chunk | None]) -> None:
        """Keep chunks; when there are too many, those that were kept first go."""
        self._chunks |= new
        for id_ in list(self._chunks)[: max(0, len(self._chunks) - MAX_CHUNKS)]:
            del self._chunks[id_]
