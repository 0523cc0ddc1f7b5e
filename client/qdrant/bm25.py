"""BM25 as sparse vectors, computed in this process by Qdrant's code, the same for both engines.

A stored vector holds the weight of each term without the inverse document frequency. Qdrant multiplies by that
frequency at search time, from the counts of the collection (the IDF modifier).
"""

from __future__ import annotations

from array import array
from functools import lru_cache

from qdrant_edge import Bm25, Bm25Config, SparseVector

from rag.ingest.chunking import lexical_text

# Mean lengths in terms, without stop words. Counted on a speech and on a report of 160 pages: chunks with their heading
# line 64 and 77, pages 234 and 245, the first three pages 549 and 340.
AVERAGE_CHUNK_TERMS = 70.0
AVERAGE_PAGE_TERMS = 240.0
AVERAGE_OPENING_TERMS = 450.0
# The terms of this many texts of at most CACHED_CHARS characters are kept: sentences of chunks that questions find
# again, titles, stop words. 8,192 sentences take about 4 MB.
CACHED_TEXTS = 8_192
CACHED_CHARS = 1_500


class Bm25Encoder:
    """Turns text into hashed terms: lower case, without accents and English stop words, stemmed. Safe for threads."""

    def __init__(self) -> None:
        self._chunks = Bm25(Bm25Config(avg_len=AVERAGE_CHUNK_TERMS, ascii_folding=True))
        self._pages = Bm25(Bm25Config(avg_len=AVERAGE_PAGE_TERMS, ascii_folding=True))
        self._openings = Bm25(Bm25Config(avg_len=AVERAGE_OPENING_TERMS, ascii_folding=True))
        self._cached_terms = lru_cache(maxsize=CACHED_TEXTS)(self._terms)

    def terms(self, text: str) -> frozenset[int]:
        """Return the hashes of the distinct terms of `text`."""
        return frozenset(self._cached_terms(text) if len(text) <= CACHED_CHARS else self._terms(text))

    def document_vector(self, text: str) -> SparseVector:
        """Return the weights to store for a chunk's text."""
        return self._chunks.embed_document(lexical_text(text))

    def page_vector(self, text: str) -> SparseVector:
        """Return the weights to store for a whole page's text."""
        return self._pages.embed_document(lexical_text(text))

    def opening_vector(self, text: str) -> SparseVector:
        """Return the weights to store for the text of a document's first pages."""
        return self._openings.embed_document(lexical_text(text))

    def query_vector(self, text: str) -> SparseVector:
        """Return the weights of a question, to search with."""
        return self._chunks.embed_query(lexical_text(text))

    def _terms(self, text: str) -> array[int]:
        """Return the hashes of the distinct terms in an array: 4 bytes each, 70 in a set."""
        return array("I", self.query_vector(text).indices)
