"""A Qdrant server, over REST.

The points have langchain-qdrant's layout, and what is stored is read back through its QdrantVectorStore. Writing and
searching go to the client beneath it: it embeds the very text it stores, where chunks are found by more than that, and
it has no way to ask several questions in one request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from langchain_qdrant import QdrantVectorStore, RetrievalMode
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from client.qdrant.base import Searching
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import (
    COLLECTION_PREFIX,
    CONTENT_KEY,
    DENSE_VECTOR,
    INDEX_FIELD,
    METADATA_KEY,
    NAME_FIELD,
    PAGE_FIELD,
    SPARSE_VECTOR,
    SPARSE_VECTORS,
    UPLOAD_FIELD,
    USER_FIELD,
    DenseModel,
    collection_name,
    passage_of,
    payload_of,
)
from client.qdrant.queries import Hit, VectorQuery, gather, plan, sparse_vectors
from client.qdrant.tls import trusted
from errors import NothingIndexed, StoreUnavailable
from observability import commands
from rag.ingest.chunking import indexed_text
from rag.search.fusion import SearchResults
from schemas import Chunk, SearchFilter
from settings import Settings

if TYPE_CHECKING:
    from langchain_core.documents import Document

TIMEOUT_SECONDS = 10
MAX_FACETS = 1_000_000


class QdrantStore(Searching):
    """Chunks on a Qdrant server. Safe for threads and forks: each request is one of its own.

    `client` is a QdrantClient; in tests one in local mode.
    """

    def __init__(self, client: QdrantClient, *, model: str, dense: DenseModel | None, lexicon: Bm25Encoder) -> None:
        self.model = model
        self._client = client
        self._dense = dense
        self._lexicon = lexicon
        self._collection = collection_name(model)
        self._ready = False
        self._documents = QdrantVectorStore(
            client,
            self._collection,
            retrieval_mode=RetrievalMode.SPARSE,
            validate_embeddings=False,
            validate_collection_config=False,  # it would ask the server each time
        )

    def upsert(self, chunks: list[Chunk]) -> None:
        """Store chunks, replacing those with the same ids. On return they survive a crash of the server."""
        if not chunks:
            return
        texts = [indexed_text(chunk) for chunk in chunks]
        vectors = self._dense.embed_documents(texts) if self._dense else [None] * len(texts)
        with _store_errors():
            self._make_ready(len(vectors[0]) if vectors[0] else None)
            points = [self._point(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]
            self._client.upsert(self._collection, points, wait=True)

    def missing(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return those of the chunks that are not stored exactly so."""
        try:
            with _store_errors():
                found = self._documents.get_by_ids([chunk.id for chunk in chunks])
        except NothingIndexed:
            return chunks
        stored = {str(document.metadata["_id"]): _payload(document) for document in found}
        return [chunk for chunk in chunks if stored.get(chunk.id) != payload_of(chunk)]

    def find(self, question: str, vector: list[float] | None, chosen: SearchFilter, limit: int) -> SearchResults:
        """Find up to `limit` of the chosen chunks in each way, in one request. Raises NothingIndexed."""
        probes = plan(question, vector, self._lexicon, limit)
        with _store_errors():
            if not probes:
                self._client.get_collection(self._collection)
                return SearchResults()
            requests = [_request(probe, _filter(chosen)) for probe in probes]
            answers = self._client.query_batch_points(self._collection, requests)
        return gather(probes, [[_hit(point) for point in answer.points] for answer in answers])

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks before and after each of these, in no order."""
        if not chunks:
            return []
        only = models.Filter(should=[models.Filter(must=_beside(chunk)) for chunk in chunks])
        with _store_errors():
            records, _ = self._client.scroll(self._collection, scroll_filter=only, limit=2 * len(chunks))
        return [passage_of(record.id, record.payload or {}, 0.0).chunk for record in records]

    def delete(self, upload_id: str, *, user_id: str, from_index: int = 0) -> None:
        """Remove an upload's chunks, those numbered `from_index` and above. Nothing stored is no error."""
        chosen = SearchFilter(user_id=user_id, upload_ids=(upload_id,))
        above = models.FieldCondition(key=INDEX_FIELD, range=models.Range(gte=from_index))
        selector = models.FilterSelector(filter=models.Filter(must=[*_conditions(chosen), above]))
        try:
            with _store_errors():
                self._client.delete(self._collection, points_selector=selector, wait=True)
        except NothingIndexed:
            return

    def delete_everywhere(self, upload_id: str, *, user_id: str) -> None:
        """Remove an upload's chunks, also those of other embedding models."""
        selector = models.FilterSelector(filter=_filter(SearchFilter(user_id=user_id, upload_ids=(upload_id,))))
        with _store_errors():
            for collection in self._client.get_collections().collections:
                if collection.name.startswith(COLLECTION_PREFIX):
                    self._client.delete(collection.name, points_selector=selector, wait=True)

    def count(self, chosen: SearchFilter) -> int:
        """Count the chosen chunks; 0 when nothing was ever stored."""
        try:
            with _store_errors():
                return self._client.count(self._collection, count_filter=_filter(chosen), exact=True).count
        except NothingIndexed:
            return 0

    def uploads(self) -> dict[tuple[str, str], int]:
        """Count the chunks of every upload of every user, as (user, upload)."""
        counts: dict[tuple[str, str], int] = {}
        try:
            with _store_errors():
                for user in self._facet(USER_FIELD, None):
                    mine = _filter(SearchFilter(user_id=str(user.value)))
                    for upload in self._facet(UPLOAD_FIELD, mine):
                        counts[str(user.value), str(upload.value)] = upload.count
        except NothingIndexed:
            return {}
        return counts

    def _facet(self, field: str, chosen: models.Filter | None) -> list[models.FacetValueHit]:
        return self._client.facet(self._collection, field, facet_filter=chosen, limit=MAX_FACETS, exact=True).hits

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    def _make_ready(self, dimensions: int | None) -> None:
        """Create the collection and its indexes if they are not there; several workers may do so at once."""
        if self._ready:
            return
        if not self._client.collection_exists(self._collection):
            self._create_collection(dimensions)
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        for field, schema in (
            (USER_FIELD, tenant),
            (UPLOAD_FIELD, models.PayloadSchemaType.KEYWORD),
            (NAME_FIELD, models.PayloadSchemaType.KEYWORD),
            (INDEX_FIELD, models.PayloadSchemaType.INTEGER),
            (PAGE_FIELD, models.PayloadSchemaType.INTEGER),
        ):
            self._client.create_payload_index(self._collection, field, field_schema=schema, wait=True)
        self._ready = True

    def _create_collection(self, dimensions: int | None) -> None:
        dense = {}
        if dimensions is not None:
            dense = {DENSE_VECTOR: models.VectorParams(size=dimensions, distance=models.Distance.COSINE)}
        sparse = {name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in SPARSE_VECTORS}
        try:
            self._client.create_collection(self._collection, vectors_config=dense, sparse_vectors_config=sparse)
        except UnexpectedResponse as error:
            if error.status_code != httpx.codes.CONFLICT:  # another worker was first
                raise

    def _point(self, chunk: Chunk, dense: list[float] | None) -> models.PointStruct:
        vectors: dict[str, models.Vector] = {
            name: models.SparseVector(indices=vector.indices, values=vector.values)
            for name, vector in sparse_vectors(chunk, self._lexicon).items()
        }
        if dense is not None:
            vectors[DENSE_VECTOR] = dense
        return models.PointStruct(id=chunk.id, vector=vectors, payload=payload_of(chunk))


def _request(probe: VectorQuery, only: models.Filter) -> models.QueryRequest:
    if isinstance(probe.vector, tuple):
        indices, values = probe.vector
        vector: models.SparseVector | list[float] = models.SparseVector(indices=indices, values=values)
    else:
        vector = probe.vector
    return models.QueryRequest(
        query=models.NearestQuery(nearest=vector),
        using=probe.using,
        filter=only,
        limit=probe.limit,
        with_payload=not probe.with_vector,
        with_vector=[probe.using] if probe.with_vector else False,
    )


def _hit(point: models.ScoredPoint) -> Hit:
    vector = point.vector.get(SPARSE_VECTOR) if isinstance(point.vector, dict) else None
    weights = dict(zip(vector.indices, vector.values, strict=True)) if isinstance(vector, models.SparseVector) else {}
    return Hit(str(point.id), point.score, point.payload or {}, weights)


def _beside(chunk: Chunk) -> list[models.Condition]:
    places = models.MatchAny(any=[chunk.index - 1, chunk.index + 1])
    chosen = SearchFilter(user_id=chunk.user_id, upload_ids=(chunk.upload_id,))
    return [*_conditions(chosen), models.FieldCondition(key=INDEX_FIELD, match=places)]


def _conditions(chosen: SearchFilter) -> list[models.Condition]:
    conditions: list[models.Condition] = []
    if chosen.user_id is not None:
        conditions.append(models.FieldCondition(key=USER_FIELD, match=models.MatchValue(value=chosen.user_id)))
    if chosen.upload_ids is not None:
        any_of = models.MatchAny(any=list(chosen.upload_ids))
        conditions.append(models.FieldCondition(key=UPLOAD_FIELD, match=any_of))
    if chosen.names is not None:
        conditions.append(models.FieldCondition(key=NAME_FIELD, match=models.MatchAny(any=list(chosen.names))))
    if chosen.first_page is not None or chosen.last_page is not None:
        pages = models.Range(gte=chosen.first_page, lte=chosen.last_page)
        conditions.append(models.FieldCondition(key=PAGE_FIELD, range=pages))
    return conditions


def _filter(chosen: SearchFilter) -> models.Filter:
    hidden = models.FieldCondition(key=UPLOAD_FIELD, match=models.MatchAny(any=list(chosen.hidden)))
    return models.Filter(must=_conditions(chosen), must_not=[hidden] if chosen.hidden else None)


def _payload(document: Document) -> dict[str, Any]:
    """Return what a LangChain document was stored as."""
    metadata = {name: value for name, value in document.metadata.items() if not name.startswith("_")}
    return {CONTENT_KEY: document.page_content, METADATA_KEY: metadata}


@contextmanager
def _store_errors() -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == httpx.codes.NOT_FOUND:
            raise _nothing_indexed() from None
        if error.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise StoreUnavailable("the Qdrant server rejected QDRANT_API_KEY: check the key") from None
        raise StoreUnavailable(f"the Qdrant server answered {error.status_code} {error.reason_phrase}") from None
    except ResponseHandlingException as error:
        raise StoreUnavailable(
            f"the Qdrant server does not answer ({type(error.source).__name__}): check QDRANT_URL and that it runs"
        ) from None
    except ApiException as error:
        raise StoreUnavailable(f"the Qdrant server failed: {type(error).__name__}") from None
    except ValueError as error:
        if "not found" in str(error):  # local mode's way to say that there is no collection
            raise _nothing_indexed() from None
        raise


def _nothing_indexed() -> NothingIndexed:
    return NothingIndexed(f"nothing is indexed yet: run `{commands.script('index.py')} PATH`")


def connect(settings: Settings) -> QdrantClient:
    """Make a client of the server that QDRANT_URL names. Does not connect yet."""
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return QdrantClient(
        url=settings.qdrant_url,
        api_key=key,
        timeout=TIMEOUT_SECONDS,
        check_compatibility=False,
        prefer_grpc=False,
        verify=trusted(settings),
    )
