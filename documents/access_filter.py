"""Search restricted to uploads that the table of uploads allows.

The table is read twice: before the search, for the uploads to leave out, and after the search, for the uploads in the
results. So a deleted upload is gone from the answers of every worker once its row is committed, even while its points
are still being removed. Points without a row are never found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from client.sql.scopes import SearchScope
from client.sql.uploads import UploadRepository
from errors import IndexSwitched
from rag.search.fusion import SearchResults
from rag.search.searches import Store
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
        self, question: str, vector: list[float] | None, filters: Sequence[SearchFilter], limit: int
    ) -> list[SearchResults]:
        """As Store.search, with filters of one user. Counts the documents that are not searched yet.

        None is counted for a filter that names uploads: such a question is refused until all of them are searched.
        """
        if not filters:
            return []
        [user_id] = {search_filter.user_id for search_filter in filters}
        scope = self._uploads.search_scope(user_id)
        if scope.index_version != self._index_version:
            raise IndexSwitched
        resolved = [self._of_stores(search_filter, scope) for search_filter in filters]
        filters = [search_filter for search_filter, _not_searched in resolved]
        found = self._store.search(question, vector, filters, limit)
        uploads = self._uploads.searchable(user_id, set().union(*(results.uploads for results in found)))
        return [
            replace(results.of_uploads(uploads), not_searched=not_searched)
            for (_filter, not_searched), results in zip(resolved, found, strict=True)
        ]

    def _of_stores(self, search_filter: SearchFilter, scope: SearchScope) -> tuple[SearchFilter, int]:
        """Return a filter with the documents of its vector stores, and how many documents it does not search yet."""
        search_filter = search_filter.model_copy(update={"hidden": scope.hidden})
        if search_filter.store_ids is None:
            return search_filter, 0 if search_filter.upload_ids is not None else scope.not_searched
        members = self._uploads.members(search_filter.user_id, search_filter.store_ids, search_filter.filters)
        upload_ids = (*(search_filter.upload_ids or ()), *members.attributes)
        unresolved = {"store_ids": None, "filters": None}
        return search_filter.model_copy(update={"upload_ids": upload_ids, **unresolved}), members.not_searched

    def neighbours(self, chunks: list[Chunk]) -> list[Chunk]:
        """As Store.neighbours, unfiltered: neighbours belong to the uploads of the chunks, which `search` allowed."""
        return self._store.neighbours(chunks)
