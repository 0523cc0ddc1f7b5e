"""The outside services that jobs use, built from the settings once per process."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from client.files.store import FileStore, open_file_store
from client.llm.chat import make_chat
from client.llm.embeddings import make_embedder
from client.llm.threaded import ThreadedChat
from client.qdrant.bm25 import Bm25Encoder
from client.qdrant.health import vector_store_condition
from client.qdrant.store import VectorStore
from client.sql.database import Database
from client.sql.deployment import DeploymentRepository
from client.sql.uploads import UploadRepository
from documents.access_filter import AccessFilter
from documents.deployment import establish, require_own_queue
from errors import UploadsUnavailable
from rag.answer.pipeline import ChatModel
from rag.answer.verification import Judge
from rag.ingest.extraction import ExtractionLimits, close_readers
from rag.search.retriever import QueryEmbedder, Reranker, Retriever
from settings import LEXICAL_MODEL, LOCAL_MODEL, Settings, get_settings

EMBEDDED_THREADS = 4
SERVER_THREADS = 32


@dataclass(frozen=True, slots=True)
class Services:
    """The services that jobs use.

    `chat`, which answers, and `rewriter`, which rewrites follow-up questions, are None when offline; `judge`, which
    verifies citations, also without VERIFY_MODEL. `embedding_model` is None for lexical search alone.
    """

    store: VectorStore
    chat: ChatModel | None
    judge: Judge | None
    rewriter: ChatModel | None
    bm25: Bm25Encoder
    retriever: Retriever
    embedding_model: str | None
    deployment: DeploymentRepository
    uploads: UploadRepository
    files: FileStore
    limits: ExtractionLimits

    def close(self) -> None:
        """Close the store and the connections, and end the processes that read files."""
        self.store.close()
        self.uploads.close()
        close_readers()


def open_services(settings: Settings, *, owner: bool = False, folder: Path | None = None) -> Services:
    """Build the services. Each connects on its first use; with `owner` the embedded store is claimed at once.

    With `folder` the store is an embedded one in that folder, whatever the settings say.
    Raises StoreInUse when another process has claimed the embedded store.
    """
    bm25 = Bm25Encoder()
    store = _open_store(settings, bm25, owner=owner, folder=folder)
    database = Database(settings)
    uploads = UploadRepository(database)
    chat, query_embedder = _make_models(settings)
    retriever = Retriever(
        AccessFilter(store, uploads) if folder is None else store,
        bm25.terms,
        embedder=query_embedder,
        reranker=_make_reranker(settings),
        context_tokens=settings.context_tokens,
        calibrated_cosine=settings.dense_model == LOCAL_MODEL,
    )
    return Services(
        store=store,
        chat=chat,
        judge=_make_judge(settings, chat),
        rewriter=_make_rewriter(settings),
        bm25=bm25,
        retriever=retriever,
        embedding_model=settings.dense_model,
        deployment=DeploymentRepository(database),
        uploads=uploads,
        files=open_file_store(settings),
        limits=ExtractionLimits(
            max_pages=settings.max_pages,
            max_text_bytes=settings.max_text_mb * 1024 * 1024,
            memory_bytes=settings.extract_memory_mb * 1024 * 1024,
            cpu_seconds=settings.extract_seconds,
        ),
    )


def _make_models(settings: Settings) -> tuple[ChatModel | None, QueryEmbedder | None]:
    """Make the model that answers, and the embedder of questions. None for each that the settings leave out."""
    if settings.offline and settings.dense_model is None:
        return None, None
    from client.llm.completions import make_completions  # imports aiohttp: an offline worker would pay 0.1 s and 14 MB
    from client.llm.query_embeddings import make_query_embedder
    from client.llm.retries import ProviderCalls

    calls = ProviderCalls(settings)
    return make_completions(settings, calls), make_query_embedder(settings, calls)


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


def _open_store(settings: Settings, bm25: Bm25Encoder, *, owner: bool, folder: Path | None) -> VectorStore:
    dense = make_embedder(settings)
    model = settings.dense_model or LEXICAL_MODEL
    if folder is not None or settings.qdrant_url is None:
        from client.qdrant.embedded import embedded_store

        return embedded_store(folder or settings.qdrant_dir, model=model, dense=dense, bm25=bm25, owner=owner)
    # Imported only when needed: a stock worker would pay 0.9 s for each job.
    from client.qdrant.connection import connect
    from client.qdrant.server import server_store

    return server_store(connect(settings), model=model, dense=dense, bm25=bm25)


def establish_deployment(services: Services, valkey: Redis | None) -> None:
    """Check that SQL, Valkey and the vector store belong together; see documents.deployment."""
    global _checked
    establish(services.deployment, services.uploads, valkey, services.store)
    _checked = services


def check_deployment(valkey: Redis | None) -> None:
    """Check once that the services of this process and Valkey belong together, if they can be asked now.

    Raises SettingsError.
    """
    global _checked
    services = get_services()
    if valkey is None or _checked is services:
        return
    with suppress(RedisError, UploadsUnavailable):
        require_own_queue(services.deployment, services.uploads, valkey)
        _checked = services


def preload(settings: Settings, *, langchain: bool = True) -> None:
    """Import the modules that jobs with these settings need, so that no job pays for the import.

    Without `langchain` the first indexing and the first follow-up question import it, which takes 0.8 s of CPU once and
    39 MB from then on. Where each job runs in a fork, each would pay.
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
_checked: Services | None = None


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
