"""Search over what the list of uploads says may be found, and nothing else.

The list is asked before the search, for uploads to leave out, and after it, for whether each one found still is in
the list. So what is deleted is gone from answers with the commit of its row, on every worker, whichever store holds
its points and however long their removal takes; and points without a row are never found.
"""

from __future__ import annotations

from client.sql.uploads import UploadRepository
from rag.search.fusion import SearchResults
from rag.search.retriever import Store
from schemas import Chunk, SearchFilter


class AccessFilter:
    """A store in which only uploads are found that are ready and not being deleted."""

    def __init__(self, store: Store, uploads: UploadRepository) -> None:
        self._store = store
        self._uploads = uploads

    def embed(self, question: str) -> list[float] | None:
        """As Store.embed."""
        return self._store.embed(question)

    def search(
        self, question: str, vector: list[float] | None, search_filter: SearchFilter, limit: int
    ) -> SearchResults:
        """As Store.search."""
        hidden = self._uploads.hidden(search_filter.user_id)
        found = self._store.search(question, vector, search_filter.model_copy(update={"hidden": hidden}), limit)
        return found.only(self._uploads.searchable(search_filter.user_id, found.uploads))

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """As Store.neighbours: those of chunks that were found are of the same uploads."""
        return self._store.neighbours(chunks)
