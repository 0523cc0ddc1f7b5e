"""Qdrant's engine inside this process, on a folder.

The engine's optimize() is not called. At 100,000 chunks optimize() takes 187 s of CPU to bring a search of all chunks
from 28 to 13 ms of CPU, and does not speed up a search of ten uploads (5 ms); up to 10,000 chunks it speeds up neither
(4 ms).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from client.qdrant.base import MAX_FACETS, FieldMatch, FieldRange, Frozen, Hit, Point, PointFilter, VectorQuery
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.damage import damage_noted, store_damaged
from client.qdrant.points import (
    COLLECTION_PREFIX,
    DENSE_VECTOR,
    PAYLOAD_INDEXES,
    SPARSE_VECTORS,
    EmbeddingModel,
    collection_name,
)
from client.qdrant.shard import ShardFolder, SharedShard
from client.qdrant.store import VectorStore
from errors import NothingIndexed
from schemas import Chunk

# How long a process waits for others to release the folder.
WAIT_SECONDS = 60.0
# How many points a check reads at a time.
PAGE_POINTS = 500
# The file with the id of the deployment that owns a folder.
OWNER = "deployment"
_INDEX_SCHEMAS: dict[str, qdrant.PayloadSchemaType | qdrant.KeywordIndexParams] = {
    "tenant": qdrant.KeywordIndexParams(is_tenant=True),
    "keyword": qdrant.PayloadSchemaType.Keyword,
    "integer": qdrant.PayloadSchemaType.Integer,
}


def embedded_store(
    folder: Path,
    *,
    model: str,
    dense: EmbeddingModel | None,
    bm25: Bm25Encoder,
    owner: bool = False,
    wait_seconds: float = WAIT_SECONDS,
) -> VectorStore:
    """Make a store on an embedded Qdrant in `folder`; an `owner` claims the folder at once, or raises StoreInUse."""
    collections = EmbeddedCollections(folder, owner=owner, wait_seconds=wait_seconds)
    return VectorStore(collections.engine(collection_name(model)), model=model, dense=dense, bm25=bm25)


class EmbeddedCollections:
    """As Collections, in a folder; an `owner` claims the folder at once, or raises StoreInUse."""

    def __init__(self, folder: Path, *, owner: bool = False, wait_seconds: float = WAIT_SECONDS) -> None:
        self._shards = ShardFolder(folder, owner=owner, wait_seconds=wait_seconds)

    def engine(self, name: str) -> EmbeddedEngine:
        """As Collections.engine."""
        return EmbeddedEngine(self._shards, name)

    def names(self) -> list[str]:
        """As Collections.names."""
        return self._shards.names(COLLECTION_PREFIX)

    @contextmanager
    def frozen(self, folder: Path) -> Iterator[Frozen]:
        """As Collections.frozen: each page of another reader would take the folder from its owner, and its cache."""
        for name in self.names():
            with suppress(NothingIndexed), self._shards.open(name):  # a version that was replaced may go just now
                pass  # damage is named by its place, not by that of the copy
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        try:
            folder.mkdir(mode=0o700)
            with ExitStack() as held:
                held.enter_context(self._shards.copied(COLLECTION_PREFIX, folder))
                copies = EmbeddedCollections(folder, owner=True, wait_seconds=0)
                try:
                    yield Frozen(copies, is_still=True, release=held.close)
                finally:
                    copies.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, name: str) -> None:
        """As Collections.remove."""
        self._shards.remove(name)

    def clear(self) -> None:
        """As Collections.clear."""
        for name in self.names():
            self.remove(name)
        (self._shards.path / OWNER).unlink(missing_ok=True)

    def close(self) -> None:
        """As Collections.close."""
        self._shards.close()


class EmbeddedEngine:
    """A collection in an embedded Qdrant. Safe for threads; a fork must make its own."""

    def __init__(self, shards: ShardFolder, collection: str) -> None:
        self._shards = shards
        self._collection = collection
        self.shard = SharedShard(shards, collection)

    def upsert(self, points: Sequence[Point], *, dimensions: int | None) -> None:
        """As Engine.upsert."""
        records = [qdrant.Point(point.id, dict(point.vectors), point.payload) for point in points]
        with self.shard.open(create=partial(_create, dimensions=dimensions)) as shard:
            shard.update(qdrant.UpdateOperation.upsert_points(records))
            self._shards.chunks(self._collection).clear()

    def payloads(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """As Engine.payloads."""
        with self.shard.open() as shard:
            return _payloads(shard, ids)

    def chunks(self, ids: Sequence[str]) -> dict[str, Chunk | None]:
        """As Engine.chunks."""
        with self.shard.open() as shard:
            return self._chunks(shard, ids)

    def scroll(self, where: PointFilter, *, after: str | None, limit: int) -> tuple[list[Point], str | None]:
        """As Engine.scroll."""
        request = qdrant.ScrollRequest(
            offset=after, limit=limit, filter=_filter(where), with_payload=True, with_vector=True
        )
        with self.shard.open() as shard:
            records, following = shard.scroll(request)
        points = [Point(str(each.id), _vectors(each.vector), dict(each.payload or {})) for each in records]
        return points, None if following is None else str(following)

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """As Engine.search."""
        with self.shard.open() as shard:
            batches = shard.query_batch(qdrant.QueryBatchRequest([_request(query) for query in queries]))
            found = [[(str(point.id), point) for point in points] for points in batches]
            chunks = self._chunks(
                shard,
                {id_ for query, hits in zip(queries, found, strict=True) if not query.with_vector for id_, _ in hits},
            )
        return [
            [Hit(id_, point.score, weights=_weights(point, query.using)) for id_, point in hits]
            if query.with_vector
            else [Hit(id_, point.score, chunks.get(id_)) for id_, point in hits]
            for query, hits in zip(queries, found, strict=True)
        ]

    def delete(self, where: PointFilter) -> None:
        """As Engine.delete."""
        self._delete(self._collection, where)

    def delete_everywhere(self, where: PointFilter) -> None:
        """As Engine.delete_everywhere."""
        for name in self._shards.names(COLLECTION_PREFIX):
            with suppress(NothingIndexed):
                self._delete(name, where)

    def count(self, where: PointFilter) -> int:
        """As Engine.count."""
        with self.shard.open() as shard:
            return shard.count(qdrant.CountRequest(exact=True, filter=_filter(where)))

    def count_by(self, outer: str, inner: str) -> dict[tuple[str, str], int]:
        """As Engine.count_by."""
        counts: dict[tuple[str, str], int] = {}
        with self.shard.open() as shard:
            for value in _facet(shard, outer, PointFilter()):
                only = PointFilter((FieldMatch(outer, [value]),))
                counts |= {(value, other): count for other, count in _facet(shard, inner, only).items()}
        return counts

    def check(self) -> None:
        """As Engine.check."""
        folder = self._shards.path / self._collection
        if damage_noted(folder):
            raise store_damaged(folder)
        page: Any = None
        with self.shard.open() as shard:
            while True:
                request = qdrant.ScrollRequest(offset=page, limit=PAGE_POINTS, with_payload=True, with_vector=True)
                _, page = shard.scroll(request)
                if page is None:
                    return

    def set_aside(self) -> str:
        """As Engine.set_aside: the folder is renamed."""
        return str(self._shards.set_aside(self._collection))

    def deployment(self) -> str | None:
        """As Engine.deployment. All collections of the folder have one owner."""
        try:
            return (self._shards.path / OWNER).read_text() or None
        except OSError:
            return None

    def claim(self, deployment_id: str) -> None:
        """As Engine.claim; but an upsert does not look who owns the folder, which it locks."""
        if self.deployment() is None:
            (self._shards.path / OWNER).write_text(deployment_id)

    def close(self) -> None:
        """As Engine.close."""
        self._shards.close()

    def _chunks(self, shard: qdrant.EdgeShard, ids: Collection[str]) -> dict[str, Chunk | None]:
        return self._shards.chunks(self._collection).get(ids, partial(_payloads, shard))

    def _delete(self, collection: str, where: PointFilter) -> None:
        with self._shards.open(collection, briefly=collection != self._collection) as shard:
            shard.update(qdrant.UpdateOperation.delete_points_by_filter(_filter(where)))
            self._shards.chunks(collection).clear()


def _create(path: Path, *, dimensions: int | None) -> qdrant.EdgeShard:
    sparse = {name: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf) for name in SPARSE_VECTORS}
    dense = {}
    if dimensions is not None:
        dense = {DENSE_VECTOR: qdrant.EdgeVectorParams(size=dimensions, distance=qdrant.Distance.Cosine)}
    # The engine's search threads spin while they wait: with several, 25 questions/s made 12,000 switches of threads a
    # second and 2 ms of an answer's CPU. Questions are searched by several threads of ours.
    config = qdrant.EdgeConfig(vectors=dense or None, sparse_vectors=sparse, max_search_threads=1)
    shard = qdrant.EdgeShard.create(str(path), config)
    for field, kind in PAYLOAD_INDEXES:
        shard.update(qdrant.UpdateOperation.create_field_index(field, _INDEX_SCHEMAS[kind]))
    return shard


def _facet(shard: qdrant.EdgeShard, field: str, where: PointFilter) -> dict[str, int]:
    request = qdrant.FacetRequest(field, limit=MAX_FACETS, exact=True, filter=_filter(where))
    return {str(hit.value): hit.count for hit in shard.facet(request).hits}


def _payloads(shard: qdrant.EdgeShard, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    records = shard.retrieve(list(ids), with_payload=True, with_vector=False)
    return {str(record.id): record.payload or {} for record in records}


def _request(query: VectorQuery) -> qdrant.QueryRequest:
    idf = None if query.corpus is None else qdrant.IdfParams(corpus=_filter(query.corpus))
    return qdrant.QueryRequest(
        limit=query.limit,
        query=qdrant.Query.Nearest(query.vector, using=query.using),
        filter=_filter(query.where),
        params=None if idf is None else qdrant.SearchParams(idf=idf),
        with_payload=False,  # the chunks come from the cache
        with_vector=[query.using] if query.with_vector else False,
    )


def _weights(point: qdrant.ScoredPoint, using: str) -> dict[int, float]:
    vector = point.vector.get(using) if isinstance(point.vector, dict) else None
    return dict(zip(vector.indices, vector.values, strict=True)) if isinstance(vector, qdrant.SparseVector) else {}


def _vectors(stored: Any) -> dict[str, list[float] | qdrant.SparseVector]:
    return dict(stored) if isinstance(stored, dict) else {}


def _filter(where: PointFilter) -> qdrant.Filter:
    return qdrant.Filter(
        must=[_condition(condition) for condition in where.must],
        must_not=[_condition(condition) for condition in where.must_not],
    )


def _condition(condition: FieldMatch | FieldRange) -> qdrant.FieldCondition:
    if isinstance(condition, FieldRange):
        return qdrant.FieldCondition(condition.field, range=qdrant.RangeFloat(gte=condition.first, lte=condition.last))
    if len(condition.values) == 1:  # MatchAny of one value adds 1 to 2 ms of CPU to a question among 5,000 chunks
        return qdrant.FieldCondition(condition.field, match=qdrant.MatchValue(condition.values[0]))
    return qdrant.FieldCondition(condition.field, match=qdrant.MatchAny(condition.values))
