"""How a chunk is stored in Qdrant, the same in both engines: langchain-qdrant's payload layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from schemas import Chunk, Passage

DENSE_VECTOR = "dense"
SPARSE_VECTOR = "bm25"
# Only on the first chunk of a page: the words of the whole page; of a document: those of its first pages.
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
# The number tells the layout of the points, so that an older one is left alone and not misread.
COLLECTION_PREFIX = "documents-2-"
# File that marks an embedded collection as made to the end.
COMPLETE = "complete"


class DenseModel(Protocol):
    """LangChain's Embeddings, the part that is used."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...
    def embed_query(self, text: str) -> list[float]: ...


def collection_name(model: str) -> str:
    """Name the collection of an embedding model: vectors of two models cannot be compared, so each has its own."""
    return COLLECTION_PREFIX + re.sub(r"[^A-Za-z0-9_.-]+", "_", model)


def metadata_of(chunk: Chunk) -> dict[str, Any]:
    """Return what is stored beside the text of a chunk."""
    return chunk.model_dump(exclude={"id", "text"})


def payload_of(chunk: Chunk) -> dict[str, Any]:
    """Return what is stored of a chunk, but its id and vectors."""
    return {CONTENT_KEY: chunk.text, METADATA_KEY: metadata_of(chunk)}


def passage_of(point_id: object, payload: Mapping[str, Any], score: float) -> Passage:
    """Rebuild a passage from a stored point."""
    metadata = {key: value for key, value in payload[METADATA_KEY].items() if not key.startswith("_")}
    return Passage(chunk=Chunk(id=str(point_id), text=payload[CONTENT_KEY], **metadata), score=score)
