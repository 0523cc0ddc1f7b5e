"""Search over what the list of uploads says may be found, and nothing else.

The list is asked before the search, for uploads to leave out, and after it, for whether each one found still is in
the list. So what is deleted is gone from answers with the commit of its row, on every worker, whichever store holds
its points and however long their removal takes; and points without a row are never found.
"""

from __future__ import annotations

from client.uploads import UploadList
from rag.answer import Searcher
from schemas import Passage, SearchFilter


class VisibleOnly:
    """A searcher that finds only uploads that are ready and not being deleted."""

    def __init__(self, searcher: Searcher, uploads: UploadList) -> None:
        self._searcher = searcher
        self._uploads = uploads

    def search(self, question: str, chosen: SearchFilter, k: int) -> list[Passage]:
        """As Searcher.search."""
        hidden = self._uploads.hidden(chosen.user_id)
        passages = self._searcher.search(question, chosen.model_copy(update={"hidden": hidden}), k)
        found = {passage.chunk.upload_id for passage in passages}
        searchable = self._uploads.searchable(chosen.user_id, found)
        return [passage for passage in passages if passage.chunk.upload_id in searchable]
