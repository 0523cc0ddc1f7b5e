"""The outside services that jobs use, built from the settings once per process."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from client.docling.converter import DoclingConverter, make_converter
from client.files.store import FileStore, open_file_store
from client.llm.chat import make_chat
from client.llm.embeddings import make_embedder
from client.llm.local_embeddings import check_installed
from client.llm.threaded import ThreadedChat
from client.qdrant.base import Collections
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.health import vector_store_condition
from client.qdrant.store import VectorStore
from client.sql.conversations import ConversationRepository
from client.sql.database import Database
from client.sql.deployment import DeploymentRepository
from client.sql.index_versions import IndexVersionRepository
from client.sql.recognized_pages import RecognizedPageRepository
from client.sql.uploads import UploadRepository
from documents.deployment import establish, require_own_queue
from errors import UploadsUnavailable
from queues.search_index import MakeQueryEmbedder, SearchIndex
from rag.answer.pipeline import ChatModel
from rag.answer.verification import Judge
from rag.ingest.extraction import ExtractionLimits, close_readers
from rag.search.retriever import QueryEmbedder, Reranker
from settings import LOCAL_MODEL, Settings, get_settings

EMBEDDED_THREADS = 4
SERVER_THREADS = 32
# A Valkey that was found to belong to the deployment is not asked again for this long.
CHECKED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """The services that jobs use.

    `chat`, which answers, and `rewriter`, which rewrites follow-up questions, are None when offline; `judge`, which
    verifies citations, also without VERIFY_MODEL.
    """

    index: SearchIndex
    chat: ChatModel | None
    judge: Judge | None
    rewriter: ChatModel | None
    bm25: Bm25Encoder
    deployment: DeploymentRepository
    uploads: UploadRepository
    recognized: RecognizedPageRepository
    conversations: ConversationRepository
    files: FileStore
    limits: ExtractionLimits
    converter: DoclingConverter | None

    @property
    def store(self) -> VectorStore:
        """The store of the version of the index that is searched now."""
        return self.index.searched().store

    @property
    def retriever(self) -> SearchIndex:
        """The retriever of whichever version of the index is searched."""
        return self.index

    def close(self) -> None:
        """Close the store and the connections, and end the processes that read files."""
        self.index.close()
        self.uploads.close()
        close_readers()


def open_services(settings: Settings, *, owner: bool = False, folder: Path | None = None) -> Services:
    """Build the services. Each connects on its first use; with `owner` the embedded store is claimed at once.

    With `folder` the store is an embedded one in that folder, whatever the settings say.
    Raises StoreInUse when another process has claimed the embedded store.
    """
    make_embedder(settings)  # raises SettingsError when a package of the local model is missing
    bm25 = Bm25Encoder()
    database = Database(settings)
    uploads = UploadRepository(database)
    chat, make_query_embedder = _make_models(settings)
    index = SearchIndex(
        settings,
        _open_collections(settings, owner=owner, folder=folder),
        IndexVersionRepository(database),
        uploads,
        bm25,
        make_query_embedder=make_query_embedder,
        reranker=_make_reranker(settings),
        fixed=folder is not None,
    )
    return Services(
        index=index,
        chat=chat,
        judge=_make_judge(settings, chat),
        rewriter=_make_rewriter(settings),
        bm25=bm25,
        deployment=DeploymentRepository(database),
        uploads=uploads,
        recognized=RecognizedPageRepository(database),
        conversations=ConversationRepository(database),
        files=open_file_store(settings),
        limits=ExtractionLimits(
            max_pages=settings.max_pages,
            max_text_bytes=settings.max_text_mb * 1024 * 1024,
            memory_bytes=settings.extract_memory_mb * 1024 * 1024,
            cpu_seconds=settings.extract_seconds,
            ocr_languages=settings.ocr_languages,
        ),
        converter=make_converter(settings),
    )


def _make_models(settings: Settings) -> tuple[ChatModel | None, MakeQueryEmbedder]:
    """Make the model that answers, None when offline, and the function that makes the embedder of a model."""
    if settings.offline:
        return None, _make_offline_embedder
    from client.llm.completions import make_completions  # imports aiohttp: an offline worker would pay 0.1 s and 14 MB
    from client.llm.query_embeddings import make_query_embedder
    from client.llm.retries import ProviderCalls

    calls = ProviderCalls(settings)
    return make_completions(settings, calls), lambda own: make_query_embedder(own, calls)


def _make_offline_embedder(settings: Settings) -> QueryEmbedder | None:
    if settings.dense_model is None:
        return None
    from client.llm.query_embeddings import make_query_embedder  # imports aiohttp

    return make_query_embedder(settings)


def _make_rewriter(settings: Settings) -> ChatModel | None:
    chat = make_chat(settings)
    return None if chat is None else ThreadedChat(chat)


def _make_judge(settings: Settings, chat: ChatModel | None) -> Judge | None:
    if chat is None or settings.verify_model is None:
        return None
    from client.llm.judge import make_judge

    return make_judge(settings, chat)


def _make_reranker(settings: Settings) -> Reranker | None:
    if settings.rerank_url is None:
        return None
    from client.llm.rerank import make_reranker  # imports aiohttp

    return make_reranker(settings)


def _open_collections(settings: Settings, *, owner: bool, folder: Path | None) -> Collections:
    if folder is not None or settings.qdrant_url is None:
        from client.qdrant.embedded import EmbeddedCollections

        return EmbeddedCollections(folder or settings.qdrant_dir, owner=owner)
    # Imported only when needed: a stock worker would pay 0.9 s for each job.
    from client.qdrant.connection import connect
    from client.qdrant.server import Replication, ServerCollections

    replication = Replication(settings.qdrant_replication, settings.qdrant_write_consistency)
    return ServerCollections(connect(settings), replication)


def establish_deployment(services: Services, valkey: Redis | None) -> None:
    """Check that SQL, Valkey and both stores belong together; see documents.deployment."""
    global _checked
    establish(services.deployment, services.uploads, valkey, services.store, services.files)
    services.index.own(services.deployment.read())
    _checked = (services, time.monotonic())


def check_deployment(valkey: Redis | None) -> None:
    """Check that the services of this process and Valkey belong together, if they can be asked now.

    Not for every job: another Valkey may have taken the port over, which is seldom. Raises SettingsError.
    """
    global _checked
    services = get_services()
    checked, checked_at = _checked
    if valkey is None or (checked is services and time.monotonic() - checked_at < CHECKED_SECONDS):
        return
    with suppress(RedisError, UploadsUnavailable):
        require_own_queue(services.deployment, services.uploads, valkey)
        _checked = (services, time.monotonic())


def preload(settings: Settings, *, langchain: bool = True) -> None:
    """Import the modules that jobs with these settings need, so that no job pays for the import.

    Without `langchain` the first indexing and the first follow-up question import it, which takes 0.8 s of CPU once and
    39 MB from then on. Where each job runs in a fork, each would pay. Raises SettingsError when a package is missing.
    """
    names = [
        "queues.worker",
        "lxml.etree",
        "markdown_it",
        "client.qdrant.embedded" if settings.qdrant_url is None else "client.qdrant.server",
    ]
    if not settings.offline:
        names += ["client.llm.completions", "client.llm.query_embeddings"]
        names += ["langchain_openai"] if langchain else []
    if settings.dense_model == LOCAL_MODEL:
        check_installed()
        names += ["onnxruntime", "tokenizers"]
    for name in names:
        import_module(name)


def compute_threads(settings: Settings) -> int:
    """Return how many threads search, rank and check answers in one process.

    With a Qdrant server they mostly wait for the server; with the embedded engine they compute.
    """
    return EMBEDDED_THREADS if settings.qdrant_url is None else SERVER_THREADS


def store_answers(settings: Settings) -> bool:
    """Return True unless the vector store is away. For a thread without an event loop."""
    return asyncio.run(vector_store_condition(settings)) != "unavailable"


async def close_loop() -> None:
    """Close what the running event loop holds open: its connections to the model provider."""
    if http := sys.modules.get("client.llm.http"):  # an offline worker has not imported it
        await http.close_session()


_lock = threading.Lock()
_current: Services | None = None
_checked: tuple[Services | None, float] = (None, 0.0)


def get_services() -> Services:
    """Return the services of this process, built from its settings on the first call."""
    global _current
    with _lock:
        if _current is None:
            _current = open_services(get_settings())
        return _current


def set_services(services: Services | None) -> None:
    """Have the jobs of this process use these services; after None the next job builds services from the settings."""
    global _current
    with _lock:
        _current = services
