"""A Qdrant server, through langchain-qdrant over REST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings
from langchain_qdrant import SparseVector as LangChainSparseVector
from qdrant_client import models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from client.bm25 import Lexicon
from client.payload import (
    CANDIDATES,
    DENSE_VECTOR,
    INDEX_FIELD,
    SPARSE_VECTOR,
    UPLOAD_FIELD,
    USER_FIELD,
    DenseModel,
    collection_name,
    metadata_of,
    passage_of,
    payload_of,
)
from errors import NothingIndexed, StoreUnavailable
from schemas import Chunk, Passage, SearchFilter

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from qdrant_client import QdrantClient
    from qdrant_edge import SparseVector

TIMEOUT_SECONDS = 10
MAX_FACETS = 1_000_000


class QdrantStore:
    """Chunks on a Qdrant server. Safe for threads and forks: each request is one of its own.

    `client` is a QdrantClient; in tests one in local mode.
    """

    def __init__(self, client: QdrantClient, *, model: str, dense: DenseModel | None, lexicon: Lexicon) -> None:
        self.model = model
        self._client = client
        self._dense: Embeddings | None = dense  # type: ignore[assignment]
        self._collection = collection_name(model)
        self._ready = False
        self._store = QdrantVectorStore(
            client,
            self._collection,
            embedding=self._dense,
            sparse_embedding=_Bm25Embeddings(lexicon),
            retrieval_mode=RetrievalMode.HYBRID if dense else RetrievalMode.SPARSE,
            vector_name=DENSE_VECTOR,
            sparse_vector_name=SPARSE_VECTOR,
            validate_collection_config=False,  # it would ask the server, and embed a dummy text, each time
        )

    def upsert(self, chunks: list[Chunk]) -> None:
        """Store chunks, replacing those with the same ids. On return they survive a crash of the server."""
        if not chunks:
            return
        with _store_errors():
            self._make_ready()
            self._store.add_texts(
                [chunk.text for chunk in chunks],
                [metadata_of(chunk) for chunk in chunks],
                ids=[chunk.id for chunk in chunks],
                batch_size=len(chunks),
                wait=True,
            )

    def missing(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return those of the chunks that are not stored exactly so."""
        try:
            with _store_errors():
                found = self._client.retrieve(self._collection, [chunk.id for chunk in chunks], with_payload=True)
        except NothingIndexed:
            return chunks
        stored = {str(record.id): record.payload for record in found}
        return [chunk for chunk in chunks if stored.get(chunk.id) != payload_of(chunk)]

    def search(self, question: str, chosen: SearchFilter, k: int) -> list[Passage]:
        """Find the `k` chunks nearest to the question among the chosen, best first. Raises NothingIndexed."""
        with _store_errors():
            # langchain-qdrant gives the fusion only as many candidates as results are asked for.
            limit = max(CANDIDATES, k) if self._dense else k
            fusion = models.FusionQuery(fusion=models.Fusion.DBSF)
            found = self._store.similarity_search_with_score(
                question, limit, filter=_filter(chosen), hybrid_fusion=fusion
            )
        return [
            passage_of(
                document.metadata["_id"], {"page_content": document.page_content, "metadata": document.metadata}, score
            )
            for document, score in found[:k]
        ]

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

    def _make_ready(self) -> None:
        """Create the collection and its indexes if they are not there; several workers may do so at once."""
        if self._ready:
            return
        if not self._client.collection_exists(self._collection):
            self._create_collection()
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        for field, schema in (
            (USER_FIELD, tenant),
            (UPLOAD_FIELD, models.PayloadSchemaType.KEYWORD),
            (INDEX_FIELD, models.PayloadSchemaType.INTEGER),
        ):
            self._client.create_payload_index(self._collection, field, field_schema=schema, wait=True)
        self._ready = True

    def _create_collection(self) -> None:
        dense = {}
        if self._dense:
            size = len(self._dense.embed_query("the size of a vector"))
            dense = {DENSE_VECTOR: models.VectorParams(size=size, distance=models.Distance.COSINE)}
        sparse = {SPARSE_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        try:
            self._client.create_collection(self._collection, vectors_config=dense, sparse_vectors_config=sparse)
        except UnexpectedResponse as error:
            if error.status_code != httpx.codes.CONFLICT:  # another worker was first
                raise


class _Bm25Embeddings(SparseEmbeddings):
    """The lexicon in the shape langchain-qdrant asks for."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def embed_documents(self, texts: list[str]) -> list[LangChainSparseVector]:
        return [_sparse(self._lexicon.document_vector(text)) for text in texts]

    def embed_query(self, text: str) -> LangChainSparseVector:
        return _sparse(self._lexicon.query_vector(text))


def _sparse(vector: SparseVector) -> LangChainSparseVector:
    return LangChainSparseVector(indices=vector.indices, values=vector.values)


def _conditions(chosen: SearchFilter) -> list[models.Condition]:
    conditions: list[models.Condition] = [
        models.FieldCondition(key=USER_FIELD, match=models.MatchValue(value=chosen.user_id))
    ]
    if chosen.upload_ids is not None:
        any_of = models.MatchAny(any=list(chosen.upload_ids))
        conditions.append(models.FieldCondition(key=UPLOAD_FIELD, match=any_of))
    return conditions


def _filter(chosen: SearchFilter) -> models.Filter:
    hidden = models.FieldCondition(key=UPLOAD_FIELD, match=models.MatchAny(any=list(chosen.hidden)))
    return models.Filter(must=_conditions(chosen), must_not=[hidden] if chosen.hidden else None)


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
    return NothingIndexed("nothing is indexed yet: run `python index.py PATH` with a PDF or a folder")
