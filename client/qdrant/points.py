"""How a chunk is stored in Qdrant, the same in both engines: langchain-qdrant's payload layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from client.qdrant.base import Point
from rag.ingest.chunking import CHUNKING_VERSION, indexed_text, title_from_name
from schemas import Chunk

if TYPE_CHECKING:
    from qdrant_edge import SparseVector

    from client.qdrant.bm25 import Bm25Encoder

DENSE_VECTOR = "dense"
SPARSE_VECTOR = "bm25"
# Only on the first chunk of a page: the words of the whole page. Only on the first chunk of a document: the words of
# its first pages.
PAGE_VECTOR = "bm25-page"
OPENING_VECTOR = "bm25-opening"
SPARSE_VECTORS = (SPARSE_VECTOR, PAGE_VECTOR, OPENING_VECTOR)
CONTENT_KEY = "page_content"
METADATA_KEY = "metadata"
USER_FIELD = f"{METADATA_KEY}.user_id"
UPLOAD_FIELD = f"{METADATA_KEY}.upload_id"
INDEX_FIELD = f"{METADATA_KEY}.index"
PAGE_FIELD = f"{METADATA_KEY}.page"
NAME_FIELD = f"{METADATA_KEY}.name"
# The payload indexes of a collection. Qdrant keeps the points of a tenant together.
PAYLOAD_INDEXES: tuple[tuple[str, Literal["tenant", "keyword", "integer"]], ...] = (
    (USER_FIELD, "tenant"),
    (UPLOAD_FIELD, "keyword"),
    (NAME_FIELD, "keyword"),
    (INDEX_FIELD, "integer"),
    (PAGE_FIELD, "integer"),
)
_STORED_FIELDS = Chunk.model_fields.keys() - {"id", "text"}
# The number is the version of this layout. Points of an older layout stay in collections of their own, unread.
COLLECTION_PREFIX = "documents-2-"
# The file that marks an embedded collection as completely created.
COMPLETE = "complete"


class EmbeddingModel(Protocol):
    """The methods of LangChain's Embeddings that are used here. None stands for a vector that cannot be had."""

    def embed_documents(self, texts: list[str]) -> Sequence[list[float] | None]: ...
    def embed_query(self, text: str) -> list[float] | None: ...


def collection_name(model: str, chunking: int = CHUNKING_VERSION) -> str:
    """Name the collection of an embedding model and a version of chunking.

    Vectors of two models cannot be compared, and chunks of two versions overlap, so each has a collection.
    """
    suffix = f"~c{chunking}" if chunking > 1 else ""
    return COLLECTION_PREFIX + re.sub(r"[^A-Za-z0-9_.-]+", "_", model) + suffix


def point_of(chunk: Chunk, dense: list[float] | None, bm25: Bm25Encoder) -> Point:
    """Return the point to store for a chunk; `dense` is the vector of its text, if there is an embedding model."""
    vectors: dict[str, list[float] | SparseVector] = {SPARSE_VECTOR: bm25.document_vector(indexed_text(chunk))}
    if chunk.page_text:
        vectors[PAGE_VECTOR] = bm25.page_vector(chunk.page_text)
    if chunk.opening:
        vectors[OPENING_VECTOR] = bm25.opening_vector(f"{title_from_name(chunk.name)}\n{chunk.opening}")
    if dense is not None:
        vectors[DENSE_VECTOR] = dense
    return Point(chunk.id, vectors, payload_of(chunk))


def payload_of(chunk: Chunk) -> dict[str, Any]:
    """Return the payload to store for a chunk, as the store gives it back: everything but its id and its vectors."""
    return {CONTENT_KEY: chunk.text, METADATA_KEY: chunk.model_dump(mode="json", exclude={"id", "text"})}


def chunk_of(point_id: str, payload: Mapping[str, Any]) -> Chunk | None:
    """Rebuild a chunk from a stored point.

    None for a point that another program has written: anybody may write to the collection through langchain-qdrant.
    """
    try:
        metadata = payload[METADATA_KEY]
        if not metadata.keys() <= _STORED_FIELDS:  # LangChain adds names that begin with an underscore
            metadata = {key: value for key, value in metadata.items() if not key.startswith("_")}
        return Chunk(id=point_id, text=payload[CONTENT_KEY], **metadata)
    except (ValueError, TypeError, LookupError, AttributeError):  # also pydantic's ValidationError
        return None
