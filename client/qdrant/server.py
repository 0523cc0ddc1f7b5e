"""A Qdrant server, over REST.

The points have langchain-qdrant's layout, and stored chunks are read back through its QdrantVectorStore. Writing and
searching use the client beneath. QdrantVectorStore embeds exactly the text that it stores, but chunks are also found by
other text, such as their headings. And QdrantVectorStore cannot send several searches in one request.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse
from qdrant_edge import SparseVector

from client.qdrant.base import (
    MAX_FACETS,
    FieldMatch,
    FieldRange,
    Frozen,
    Hit,
    Point,
    PointFilter,
    VectorQuery,
    embedding_size_changed,
    nothing_indexed,
)
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.outage import is_outage
from client.qdrant.points import (
    COLLECTION_PREFIX,
    CONTENT_KEY,
    DENSE_VECTOR,
    METADATA_KEY,
    PAYLOAD_INDEXES,
    SPARSE_VECTORS,
    EmbeddingModel,
    chunk_of,
    collection_name,
)
from client.qdrant.store import VectorStore
from errors import NothingIndexed, StoreError, StoreRefused, StoreUnavailable
from schemas import Chunk

if TYPE_CHECKING:
    from langchain_core.documents import Document

log = logging.getLogger("rq.worker")

# The name of the owner's id in the metadata of a collection.
DEPLOYMENT = "deployment"
_INDEX_SCHEMAS: dict[str, models.PayloadSchemaType | models.KeywordIndexParams] = {
    "tenant": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    "keyword": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
}


@dataclass(frozen=True, slots=True)
class Replication:
    """How many copies of each shard a new collection has, and how many must have stored a write before it counts."""

    copies: int = 1
    written: int = 1


NOT_REPLICATED = Replication()


def server_store(
    client: QdrantClient,
    *,
    model: str,
    dense: EmbeddingModel | None,
    bm25: Bm25Encoder,
    replication: Replication = NOT_REPLICATED,
) -> VectorStore:
    """Make a store on a Qdrant server; in tests, on a client in local mode."""
    return VectorStore(ServerEngine(client, collection_name(model), replication), model=model, dense=dense, bm25=bm25)


class ServerCollections:
    """As Collections, on a Qdrant server."""

    def __init__(self, client: QdrantClient, replication: Replication = NOT_REPLICATED) -> None:
        self._client = client
        self._replication = replication

    def engine(self, name: str) -> ServerEngine:
        """As Collections.engine."""
        return ServerEngine(self._client, name, self._replication)

    def names(self) -> list[str]:
        """As Collections.names."""
        with _store_errors():
            found = self._client.get_collections().collections
        return sorted(collection.name for collection in found if collection.name.startswith(COLLECTION_PREFIX))

    def frozen(self, folder: Path) -> AbstractContextManager[Frozen]:  # noqa: ARG002
        """As Collections.frozen: a server reads and writes at the same time."""
        return nullcontext(Frozen(self))

    def remove(self, name: str) -> None:
        """As Collections.remove."""
        with suppress(NothingIndexed), _store_errors():
            self._client.delete_collection(name)

    def clear(self) -> None:
        """As Collections.clear. The owner of a collection is kept in the collection."""
        for name in self.names():
            self.remove(name)

    def close(self) -> None:
        """As Collections.close."""
        self._client.close()


class ServerEngine:
    """A collection on a Qdrant server. Safe for threads and forks: requests share no state."""

    def __init__(self, client: QdrantClient, collection: str, replication: Replication = NOT_REPLICATED) -> None:
        self._client = client
        self._collection = collection
        self._replication = replication
        self._ready = False
        self._owner: str | None = None  # the id of this deployment
        self._documents = QdrantVectorStore(
            client,
            collection,
            retrieval_mode=RetrievalMode.SPARSE,
            validate_embeddings=False,
            validate_collection_config=False,  # the validation would ask the server each time
        )

    def upsert(self, points: Sequence[Point], *, dimensions: int | None) -> None:
        """As Engine.upsert."""
        records = [_point(point) for point in points]
        try:
            with _store_errors():
                self._make_ready(dimensions)
                self._client.upsert(self._collection, records, wait=True)
        except NothingIndexed:  # the collection was lost after this process had seen it
            self._ready = False
            with _store_errors():
                self._make_ready(dimensions)
                self._client.upsert(self._collection, records, wait=True)

    def payloads(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """As Engine.payloads."""
        with _store_errors():
            documents = self._documents.get_by_ids(list(ids))
        return {str(document.metadata["_id"]): _payload(document) for document in documents}

    def chunks(self, ids: Sequence[str]) -> dict[str, Chunk | None]:
        """As Engine.chunks."""
        return {id_: chunk_of(id_, payload) for id_, payload in self.payloads(ids).items()}

    def scroll(self, where: PointFilter, *, after: str | None, limit: int) -> tuple[list[Point], str | None]:
        """As Engine.scroll."""
        with _store_errors():
            records, following = self._client.scroll(
                self._collection,
                scroll_filter=_filter(where),
                offset=after,
                limit=limit,
                with_payload=True,
                with_vectors=True,
            )
        points = [Point(str(each.id), _stored_vectors(each.vector), dict(each.payload or {})) for each in records]
        return points, None if following is None else str(following)

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """As Engine.search, in one request."""
        with _store_errors():
            if not queries:
                self._client.get_collection(self._collection)
                return []
            responses = self._client.query_batch_points(self._collection, [_request(query) for query in queries])
        points = [point for response in responses for point in response.points]
        payloads = {str(point.id): point.payload for point in points if point.payload is not None}
        chunks = {id_: chunk_of(id_, payload) for id_, payload in payloads.items()}
        return [
            [_hit(point, query, chunks) for point in response.points]
            for query, response in zip(queries, responses, strict=True)
        ]

    def delete(self, where: PointFilter) -> None:
        """As Engine.delete."""
        with _store_errors():
            self._delete(self._collection, where)

    def delete_everywhere(self, where: PointFilter) -> None:
        """As Engine.delete_everywhere."""
        with _store_errors():
            for collection in self._client.get_collections().collections:
                if collection.name.startswith(COLLECTION_PREFIX):
                    self._delete(collection.name, where)

    def count(self, where: PointFilter) -> int:
        """As Engine.count."""
        with _store_errors():
            return self._client.count(self._collection, count_filter=_filter(where), exact=True).count

    def count_by(self, outer: str, inner: str) -> dict[tuple[str, str], int]:
        """As Engine.count_by."""
        counts: dict[tuple[str, str], int] = {}
        with _store_errors():
            for value in self._facet(outer, PointFilter()):
                only = PointFilter((FieldMatch(outer, [value]),))
                counts |= {(value, other): count for other, count in self._facet(inner, only).items()}
        return counts

    def check(self) -> None:
        """As Engine.check; but Qdrant itself knows whether its files are damaged, and does not start on them."""
        self.count(PointFilter())

    def set_aside(self) -> str:
        """Refuse: the files of a Qdrant server are its own."""
        raise StoreRefused("a Qdrant server does not put a collection aside: restore the collection from a snapshot")

    def deployment(self) -> str | None:
        """As Engine.deployment: it is in the metadata of the collection, which Qdrant keeps from 1.16 on."""
        with suppress(NothingIndexed), _store_errors():
            found = (self._client.get_collection(self._collection).config.metadata or {}).get(DEPLOYMENT)
            return None if found is None else str(found)
        return None

    def claim(self, deployment_id: str) -> None:
        """As Engine.claim."""
        self._owner = deployment_id
        with suppress(NothingIndexed), _store_errors():
            if self.deployment() is None:
                self._client.update_collection(self._collection, metadata={DEPLOYMENT: deployment_id})

    def close(self) -> None:
        """As Engine.close."""
        self._client.close()

    def _delete(self, collection: str, where: PointFilter) -> None:
        selector = models.FilterSelector(filter=_filter(where))
        self._client.delete(collection, points_selector=selector, wait=True)

    def _facet(self, field: str, where: PointFilter) -> dict[str, int]:
        facets = self._client.facet(self._collection, field, facet_filter=_filter(where), limit=MAX_FACETS, exact=True)
        return {str(hit.value): hit.count for hit in facets.hits}

    def _make_ready(self, dimensions: int | None) -> None:
        """Create the collection and its indexes where they are missing. Several workers may do so at once."""
        if self._ready:
            return
        if self._client.collection_exists(self._collection):
            self._compare_replication()
        else:
            self._create_collection(dimensions)
        owner = self.deployment()
        if self._owner is not None and owner not in {None, self._owner}:
            raise StoreRefused(
                "the Qdrant server belongs to another deployment than the database of uploads: check QDRANT_URL, "
                "DATABASE_URL and FILE_STORE_URL"
            )
        for field, kind in PAYLOAD_INDEXES:
            self._client.create_payload_index(self._collection, field, field_schema=_INDEX_SCHEMAS[kind], wait=True)
        self._ready = True

    def _compare_replication(self) -> None:
        """Log where the collection was created with another replication than the settings now name."""
        params = self._client.get_collection(self._collection).config.params
        found = Replication(params.replication_factor or 1, params.write_consistency_factor or 1)
        if found != self._replication:
            log.warning(
                "the collection %s keeps the replication with which it was created, %d copies and a write consistency "
                "of %d: QDRANT_REPLICATION=%d and QDRANT_WRITE_CONSISTENCY=%d are for new collections; see "
                "docs/deployment.md",
                self._collection,
                found.copies,
                found.written,
                self._replication.copies,
                self._replication.written,
            )

    def _create_collection(self, dimensions: int | None) -> None:
        dense = {}
        if dimensions is not None:
            dense = {DENSE_VECTOR: models.VectorParams(size=dimensions, distance=models.Distance.COSINE)}
        sparse = {name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in SPARSE_VECTORS}
        try:
            self._client.create_collection(
                self._collection,
                vectors_config=dense,
                sparse_vectors_config=sparse,
                metadata=None if self._owner is None else {DEPLOYMENT: self._owner},
                replication_factor=self._replication.copies,
                write_consistency_factor=self._replication.written,
            )
        except UnexpectedResponse as error:
            if error.status_code != httpx.codes.CONFLICT:  # another worker was first
                raise


def _point(point: Point) -> models.PointStruct:
    vectors: dict[str, models.Vector] = {name: _vector(vector) for name, vector in point.vectors.items()}
    return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)


def _vector(vector: list[float] | SparseVector) -> list[float] | models.SparseVector:
    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices, values=vector.values)
    return vector


def _stored_vectors(stored: Any) -> dict[str, list[float] | SparseVector]:
    """Return vectors as they are stored, by name."""
    if not isinstance(stored, dict):
        return {}
    return {
        name: SparseVector(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else vector
        for name, vector in stored.items()
    }


def _request(query: VectorQuery) -> models.QueryRequest:
    idf = None if query.corpus is None else models.IdfCorpusParams(corpus=_filter(query.corpus))
    return models.QueryRequest(
        query=models.NearestQuery(nearest=_vector(query.vector)),
        using=query.using,
        filter=_filter(query.where),
        params=None if idf is None else models.SearchParams(idf=idf),
        limit=query.limit,
        with_payload=not query.with_vector,
        with_vector=[query.using] if query.with_vector else False,
    )


def _hit(point: models.ScoredPoint, query: VectorQuery, chunks: Mapping[str, Chunk | None]) -> Hit:
    if not query.with_vector:
        return Hit(str(point.id), point.score, chunks.get(str(point.id)))
    vector = point.vector.get(query.using) if isinstance(point.vector, dict) else None
    weights = dict(zip(vector.indices, vector.values, strict=True)) if isinstance(vector, models.SparseVector) else {}
    return Hit(str(point.id), point.score, weights=weights)


def _filter(where: PointFilter) -> models.Filter:
    return models.Filter(
        must=[_condition(condition) for condition in where.must],
        must_not=[_condition(condition) for condition in where.must_not],
    )


def _condition(condition: FieldMatch | FieldRange) -> models.FieldCondition:
    if isinstance(condition, FieldRange):
        return models.FieldCondition(key=condition.field, range=models.Range(gte=condition.first, lte=condition.last))
    if len(condition.values) == 1:  # MatchAny of one value costs more: see the embedded engine
        return models.FieldCondition(key=condition.field, match=models.MatchValue(value=condition.values[0]))
    return models.FieldCondition(key=condition.field, match=models.MatchAny(any=condition.values))


def _payload(document: Document) -> dict[str, Any]:
    """Rebuild the payload from which LangChain made a document."""
    metadata = {name: value for name, value in document.metadata.items() if not name.startswith("_")}
    return {CONTENT_KEY: document.page_content, METADATA_KEY: metadata}


@contextmanager
def _store_errors() -> Iterator[None]:
    """Translate the client's errors to NothingIndexed, StoreRefused and StoreUnavailable."""
    try:
        yield
    except UnexpectedResponse as error:
        if changed := embedding_size_changed(error.content.decode(errors="replace")):
            raise changed from None
        raise _refusal(error.status_code or 0, error.reason_phrase) from None
    except ResponseHandlingException as error:
        raise StoreUnavailable(
            f"the Qdrant server does not answer ({type(error.source).__name__}): "
            "check QDRANT_URL, and that the server runs"
        ) from None
    except ApiException as error:
        raise StoreUnavailable(f"the Qdrant server failed: {type(error).__name__}") from None
    except ValueError as error:
        if "not found" in str(error):  # how the client's local mode reports a missing collection
            raise nothing_indexed() from None
        raise


def _refusal(status: int, reason: str) -> StoreError:
    """Return the error for a response that is no success."""
    if status == httpx.codes.NOT_FOUND:
        return nothing_indexed()
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return StoreRefused("the Qdrant server rejected QDRANT_API_KEY: check the key")
    kind = StoreUnavailable if is_outage(status) else StoreRefused
    return kind(f"the Qdrant server answered {status} {reason}")
