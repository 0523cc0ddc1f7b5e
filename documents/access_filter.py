"""Search restricted to uploads that the table of uploads allows.

The table is read twice: before the search, for the uploads to leave out, and after the search, for the uploads in the
results. So a deleted upload is gone from the answers of every worker once its row is committed, even while its points
are still being removed. Points without a row are never found.
"""

from __future__ import annotations

from dataclasses import replace

from client.sql.uploads import UploadRepository
from errors import IndexSwitched
from rag.search.fusion import SearchResults
from rag.search.retriever import Store
from schemas import Chunk, SearchFilter


class AccessFilter:
    """A store that finds only uploads that are indexed and not being deleted.

    `index_version`: the version of the index that the store holds, None where there are no versions. A search raises
    IndexSwitched when another version is to be searched.
    """

    def __init__(self, store: Store, uploads: UploadRepository, *, index_version: int | None) -> None:
        self._store = store
        self._uploads = uploads
        self._index_version = index_version

    def search(
        self, question: str, vector: list[float] | None, search_filter: SearchFilter, limit: int
    ) -> SearchResults:
        """As Store.search. Counts the documents that are not searched yet, unless the filter names uploads."""
        scope = self._uploads.search_scope(search_filter.user_id)
        if scope.index_version != self._index_version:
            raise IndexSwitched
        search_filter = search_filter.model_copy(update={"hidden": scope.hidden})
        results = self._store.search(question, vector, search_filter, limit)
        allowed = results.of_uploads(self._uploads.searchable(search_filter.user_id, results.uploads))
        named = search_filter.upload_ids is not None  # such a question is refused until all of them are searched
        return replace(allowed, not_searched=0 if named else scope.not_searched)

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """As Store.neighbours, unfiltered: neighbours belong to the uploads of the chunks, which `search` allowed."""
        return self._store.neighbours(chunks)
