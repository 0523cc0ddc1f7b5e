"""BM25 as sparse vectors, made in this process by Qdrant's own code, the same for the server and the embedded engine.

A document's vector holds each term's weight without its rarity; Qdrant multiplies that in at search time, from the
collection's own counts (the IDF modifier).
"""

from __future__ import annotations

from qdrant_edge import Bm25, Bm25Config, SparseVector

# Mean length in terms of our chunks of 900 characters, stop words left out: 81 on a report, 74 on a speech.
AVERAGE_TERMS = 80.0


class Lexicon:
    """Turns text into terms: lower case, English stop words out, word stems, hashed to 32 bits. Thread-safe."""

    def __init__(self) -> None:
        self._model = Bm25(Bm25Config(avg_len=AVERAGE_TERMS))

    def terms(self, text: str) -> frozenset[int]:
        """Return the hashes of the distinct terms of `text`."""
        return frozenset(self._model.embed_query(text).indices)

    def document_vector(self, text: str) -> SparseVector:
        """Return the weights to store for a text."""
        return self._model.embed_document(text)

    def query_vector(self, text: str) -> SparseVector:
        """Return the weights to search with."""
        return self._model.embed_query(text)
