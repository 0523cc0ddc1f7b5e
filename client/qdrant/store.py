"""The vector store: chunks in one collection of an engine, under one embedding model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice

from client.qdrant.base import Engine, FieldRange
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import INDEX_FIELD, UPLOAD_FIELD, USER_FIELD, EmbeddingModel, payload_of, point_of
from client.qdrant.queries import gather, plan, points_matching, points_of_upload
from client.qdrant.wide_filters import search
from errors import NothingIndexed, StoreUnavailable
from rag.ingest.chunking import chunk_id, indexed_text
from rag.ingest.indexing import OutageCallback, give_up
from rag.search.fusion import SearchResults
from schemas import Chunk, SearchFilter

# Chunks that are read at a time when all chunks of an upload are.
READ_BATCH = 256


class VectorStore:
    """Chunks that can be written, searched and counted. Safe for threads. Every method raises StoreUnavailable.

    `model` names the embedding model; `dense` is None where search is lexical only. `dimensions` is the length of the
    vectors that were stored last; None before.
    """

    def __init__(self, engine: Engine, *, model: str, dense: EmbeddingModel | None, bm25: Bm25Encoder) -> None:
        self.model = model
        self.engine = engine
        self.dimensions: int | None = None
        self._dense = dense
        self._bm25 = bm25

    def upsert(self, chunks: Sequence[Chunk], *, on_outage: OutageCallback = give_up) -> None:
        """Store chunks, replacing chunks with the same ids; on return they survive a crash. Raises ProviderError.

        While the store is away, `on_outage` is called with the error: it raises an error to give up, or returns when
        the write is to be tried again. The chunks are embedded once.
        """
        if not chunks:
            return
        texts = [indexed_text(chunk) for chunk in chunks]
        vectors = self._dense.embed_documents(texts) if self._dense else [None] * len(texts)
        points = [point_of(chunk, vector, self._bm25) for chunk, vector in zip(chunks, vectors, strict=True)]
        self.dimensions = next((len(vector) for vector in vectors if vector), self.dimensions)
        while True:
            try:
                self.engine.upsert(points, dimensions=self.dimensions)
            except StoreUnavailable as outage:
                on_outage(outage)
            else:
                return

    def missing(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks that are not stored, or are stored with other content."""
        try:
            stored = self.engine.payloads([chunk.id for chunk in chunks])
        except NothingIndexed:
            return chunks
        return [chunk for chunk in chunks if stored.get(chunk.id) != payload_of(chunk)]

    def embed(self, question: str) -> list[float] | None:
        """Return the vector of a question, None where search is lexical only. Raises ProviderError."""
        return self._dense.embed_query(question) if self._dense else None

    def search(
        self, question: str, vector: list[float] | None, filters: Sequence[SearchFilter], limit: int
    ) -> list[SearchResults]:
        """Run all searches of a question in one batch, each for up to `limit` chunks. Raises NothingIndexed.

        `vector` is the result of `embed` for the question. Returns the results of each filter.
        """
        plans = [plan(question, vector, search_filter, self._bm25, limit) for search_filter in filters]
        hits = iter(search(self.engine, list(chain.from_iterable(plans))))
        return [gather(queries, list(islice(hits, len(queries)))) for queries in plans]

    def neighbours(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks before and after each chunk in its upload, ordered by id. Raises NothingIndexed."""
        ids = {chunk_id(chunk.upload_id, chunk.index + step, self.model) for chunk in chunks for step in (-1, 1)}
        if not ids:
            return []
        uploads = {(chunk.user_id, chunk.upload_id) for chunk in chunks}
        stored = self.engine.chunks(sorted(ids))
        neighbours = [stored[point_id] for point_id in sorted(stored)]
        return [chunk for chunk in neighbours if chunk and (chunk.user_id, chunk.upload_id) in uploads]

    def chunks_of(self, upload_id: str, *, user_id: str, count: int) -> Iterator[Chunk]:
        """Yield the stored chunks of an upload of `count` chunks, in their order. Raises NothingIndexed."""
        for first in range(0, count, READ_BATCH):
            ids = [chunk_id(upload_id, number, self.model) for number in range(first, min(first + READ_BATCH, count))]
            stored = self.engine.chunks(ids)
            for point_id in ids:
                chunk = stored.get(point_id)
                if chunk is not None and (chunk.user_id, chunk.upload_id) == (user_id, upload_id):
                    yield chunk

    def delete(self, upload_id: str, *, user_id: str, from_index: int = 0) -> None:
        """Remove an upload's chunks, from chunk number `from_index` on. Does nothing when no chunk is stored."""
        # A point that another program wrote may have no number, which no range contains.
        place = FieldRange(INDEX_FIELD, first=from_index) if from_index else None
        with suppress(NothingIndexed):
            self.engine.delete(points_of_upload(user_id, upload_id, place))

    def delete_everywhere(self, upload_id: str, *, user_id: str) -> None:
        """Remove an upload's chunks of all embedding models. Does nothing when no chunk is stored."""
        with suppress(NothingIndexed):
            self.engine.delete_everywhere(points_of_upload(user_id, upload_id))

    def count(self, search_filter: SearchFilter) -> int:
        """Count the chunks that may be found; 0 while nothing is stored."""
        try:
            return self.engine.count(points_matching(search_filter))
        except NothingIndexed:
            return 0

    def count_by_upload(self) -> dict[tuple[str, str], int]:
        """Count the chunks of every upload of every user, by (user id, upload id)."""
        try:
            return self.engine.count_by(USER_FIELD, UPLOAD_FIELD)
        except NothingIndexed:
            return {}

    def close(self) -> None:
        """Release the collection."""
        self.engine.close()
