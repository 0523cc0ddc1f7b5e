"""The index as one process uses it: the version that is searched, and any other that is being built."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from client.llm.embeddings import make_embedder
from client.qdrant.base import Collections
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.points import EmbeddingModel, collection_name
from client.qdrant.store import VectorStore
from client.sql.index_versions import IndexVersion, IndexVersionRepository, VersionState
from client.sql.uploads import UploadRepository
from documents.access_filter import AccessFilter
from documents.index_versions import ensure_searched, wanted_model
from errors import IndexSwitched, NothingIndexed, ProviderError, SettingsError, StoreUnavailable
from observability import commands
from observability.wording import counted
from rag.ingest.chunking import CHUNKING_VERSION
from rag.search.relevance import TermExtractor
from rag.search.retriever import QueryEmbedder, Reranker, RetrievalResult, Retriever
from schemas import Query, SearchFilter
from settings import LOCAL_MODEL, Settings

log = logging.getLogger("rq.worker")

# A question is searched again when the index is switched meanwhile, which seldom happens even once.
MAX_SWITCHES = 5
# An old model that could not be asked is left alone for this long.
REST_SECONDS = 60.0
# Tokens of all passages where no model reads them: the best rows and sentences are quoted from whole pages.
QUOTED_TOKENS = 20_000
MakeQueryEmbedder = Callable[[Settings], QueryEmbedder | None]


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A version of the index with its store and its retriever."""

    version: IndexVersion
    store: VectorStore
    retriever: Retriever


class SearchIndex:
    """Opens the versions of the index. Safe for threads. As a retriever it searches the version of the moment.

    `fixed`: the store stands alone, without a list of uploads, as for an evaluation.
    """

    def __init__(
        self,
        settings: Settings,
        collections: Collections,
        versions: IndexVersionRepository,
        uploads: UploadRepository,
        bm25: Bm25Encoder,
        *,
        make_query_embedder: MakeQueryEmbedder,
        reranker: Reranker | None,
        fixed: bool = False,
    ) -> None:
        self.collections = collections
        self.versions = versions
        self.terms: TermExtractor = bm25.terms
        self.settings = settings
        self._uploads = uploads
        self._bm25 = bm25
        self._make_query_embedder = make_query_embedder
        self._reranker = reranker
        self._lock = threading.Lock()
        self._opened: dict[tuple[int, str], OpenVersion] = {}
        self._fixed = _fixed_version(settings) if fixed else None
        self._last: OpenVersion | None = None
        self._deployment_id: str | None = None

    def searched(self) -> OpenVersion:
        """Return the version that is searched now. Raises UploadsUnavailable, and StoreUnavailable before the first."""
        version = self._fixed or ensure_searched(self.settings, self.versions, self._uploads, self.collections)
        self._last = opened = self.open(version)
        return opened

    def open(self, version: IndexVersion) -> OpenVersion:
        """Return a version with its store. Nothing connects."""
        with self._lock:
            key = (version.version_id, version.collection)
            if key not in self._opened:
                self._opened[key] = self._open(version)
            return self._opened[key]

    def own(self, deployment_id: str | None) -> None:
        """Have every collection that is opened or created from now on belong to this deployment."""
        self._deployment_id = deployment_id
        with self._lock:
            for opened in self._opened.values():
                self._claim(opened.store)

    async def retrieve(
        self, query: Query, search_filter: SearchFilter | None = None, *, follow_up: str | None = None
    ) -> RetrievalResult:
        """As Retriever.retrieve, in the version that is searched now."""
        last = self._last
        current = last if last is not None else await asyncio.to_thread(self.searched)
        for _ in range(MAX_SWITCHES):
            try:
                return await current.retriever.retrieve(query, search_filter, follow_up=follow_up)
            except (IndexSwitched, NothingIndexed) as error:
                now = await asyncio.to_thread(self.searched)
                if now is current and isinstance(error, NothingIndexed):
                    raise await asyncio.to_thread(self._why_nothing, error, query) from None
                current = now
        raise IndexSwitched

    def close(self) -> None:
        """Release the collections."""
        self.collections.close()

    def _open(self, version: IndexVersion) -> OpenVersion:
        settings = self.settings.model_copy(update={"embedding_model": version.model})
        wanted = version.model == wanted_model(self.settings)
        dense: EmbeddingModel | None
        embedder: QueryEmbedder | None
        try:
            dense, embedder = make_embedder(settings), self._make_query_embedder(settings)
        except SettingsError:
            if wanted:
                raise
            dense, embedder = None, None  # the packages of the old model are gone
        if not wanted:
            dense, embedder = dense and _OldModel(dense), embedder and _OldQueryModel(embedder, version.model)
        store = VectorStore(
            self.collections.engine(version.collection), model=version.model, dense=dense, bm25=self._bm25
        )
        self._claim(store)
        retriever = Retriever(
            store if self._fixed else AccessFilter(store, self._uploads, index_version=version.version_id),
            self.terms,
            embedder=embedder,
            reranker=self._reranker,
            context_tokens=QUOTED_TOKENS if settings.offline else settings.context_tokens,
            calibrated_cosine=version.model == LOCAL_MODEL,
            embedding_model=version.model,
            dimensions=version.dimensions,
        )
        return OpenVersion(version, store, retriever)

    def _claim(self, store: VectorStore) -> None:
        if self._deployment_id is not None:
            with suppress(StoreUnavailable):  # the engine has noted the id, and checks it when it stores points
                store.engine.claim(self._deployment_id)

    def _why_nothing(self, error: NothingIndexed, query: Query) -> NothingIndexed:
        """Return the error for a collection that does not exist, by what the list of uploads says."""
        if self._fixed:
            return error
        waiting = self._uploads.search_scope(query.visible_owner).not_searched
        if waiting:
            return NothingIndexed(
                f"no document is searched yet: {counted(waiting, 'document')} of yours wait to be indexed; ask again "
                "once GET /uploads shows them as ready"
            )
        if not self._uploads.searchable_version(query.visible_owner).startswith("0/"):
            return NothingIndexed(
                "the vector store has lost the documents that were indexed: run "
                f"`{commands.script('main.py')} audit`, which has them indexed again"
            )
        return error


class _OldModel:
    """The embedding model of a version that is about to be replaced: without it, only words are indexed."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model

    def embed_documents(self, texts: list[str]) -> Sequence[list[float] | None]:
        """Return a vector for each text; None for each if the model cannot be asked."""
        try:
            return self._model.embed_documents(texts)
        except ProviderError:
            return [None] * len(texts)

    def embed_query(self, text: str) -> list[float] | None:
        """Return the vector of a question; None if the model cannot be asked."""
        return self.embed_documents([text])[0]


class _OldQueryModel:
    """As _OldModel, for questions."""

    def __init__(self, model: QueryEmbedder, name: str) -> None:
        self._model = model
        self._name = name
        self._rests_until = 0.0

    async def embed_query(self, text: str) -> list[float] | None:
        """Return the vector of a question; None if the model cannot be asked."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            return await self._model.embed_query(text)
        except ProviderError as error:
            self._rests_until = time.monotonic() + REST_SECONDS
            log.warning("only words are searched, since %s cannot be asked: %s", self._name, error.detail)
            return None


def _fixed_version(settings: Settings) -> IndexVersion:
    model, now = wanted_model(settings), datetime.now(UTC)
    name = collection_name(model, CHUNKING_VERSION)
    return IndexVersion(1, model, CHUNKING_VERSION, name, VersionState.SEARCHED, created_at=now, changed_at=now)
