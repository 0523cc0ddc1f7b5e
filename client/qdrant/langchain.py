"""The index as other LangChain programs open it: docs/langchain.md. The service itself does not use this module."""

from __future__ import annotations

from langchain_qdrant import SparseEmbeddings, SparseVector

from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import DENSE_VECTOR, SPARSE_VECTOR, collection_name

__all__ = ["DENSE_VECTOR", "SPARSE_VECTOR", "Bm25Embeddings", "collection_name"]


class Bm25Embeddings(SparseEmbeddings):
    """The service's BM25 in langchain-qdrant's interface. Qdrant adds the inverse document frequency."""

    def __init__(self) -> None:
        self._bm25 = Bm25Encoder()

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Return the weights to store for each text."""
        vectors = map(self._bm25.document_vector, texts)
        return [SparseVector(indices=vector.indices, values=vector.values) for vector in vectors]

    def embed_query(self, text: str) -> SparseVector:
        """Return the weights of a question."""
        vector = self._bm25.query_vector(text)
        return SparseVector(indices=vector.indices, values=vector.values)
