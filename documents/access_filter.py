"""Search restricted to uploads that the table of uploads allows.

The table is read twice: before the search, for the uploads to leave out, and after the search, for the uploads in the
results. So a deleted upload is gone from the answers of every worker once its row is committed, even while its points
are still being removed. Points without a row are never found.
"""

from __future__ import annotations

from client.sql.uploads import UploadRepository
from rag.search.fusion import SearchResults
from rag.search.retriever import Store
from schemas import Chunk, SearchFilter


class AccessFilter:
    """A store that finds only uploads that are indexed and not being deleted."""

    def __init__(self, store: Store, uploads: UploadRepository) -> None:
        self._store = store
        self._uploads = uploads

    def search(
        self, question: str, vector: list[float] | None, search_filter: SearchFilter, limit: int
    ) -> SearchResults:
        """As Store.search."""
        hidden = self._uploads.hidden_ids(search_filter.user_id)
        results = self._store.search(question, vector, search_filter.model_copy(update={"hidden": hidden}), limit)
        return results.of_uploads(self._uploads.searchable(search_filter.user_id, results.uploads))

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """As Store.neighbours, unfiltered: neighbours belong to the uploads of the chunks, which `search` allowed."""
        return self._store.neighbours(chunks)
