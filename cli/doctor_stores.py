"""Checks of SQL, the file store, the vector store and the model provider, for `main.py doctor`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial

from redis import Redis
from redis.exceptions import RedisError

from cli.findings import Finding, Findings, State, checked, fail, ok, warn
from client.files.store import open_file_store
from client.llm.chat import make_chat
from client.llm.embeddings import make_embedder
from client.qdrant.base import embedding_size_changed
from client.qdrant.health import vector_store_condition, warning_about
from client.sql.database import REVISION, Database
from client.valkey.deployment import read_deployment
from documents.deployment import FILES, MARKER, QDRANT, VALKEY, foreign
from errors import AppError, FileMissing, StoreDamaged
from observability.wording import counted
from queues.jobs.consistency import incomplete_uploads
from queues.wiring import Services, close_loop, open_services
from settings import LOCAL_MODEL, Settings

# A provider that is slower than this is reported.
MODEL_SECONDS = 30


def check_stores(settings: Settings, url: str | None, *, models: bool) -> Iterator[Finding]:
    """Yield the findings about SQL, files, vectors and models. `url`: that of Valkey; None where none runs."""
    sql = list(checked("SQL", lambda: _check_sql(settings)))
    yield from sql
    yield from checked("files", lambda: _check_files(settings))
    dimensions = None
    if all(finding.state is State.OK for finding in sql):
        with closing(open_services(settings)) as services:
            yield from checked("vectors", lambda: _check_vectors(settings, services))
            yield from checked("deployment", lambda: _check_deployment(services, url))
            dimensions = _dimensions(settings, services)
    else:  # opening the services would migrate the database
        yield warn("vectors", "were not checked: the list of uploads, which names the index, has to be in order first")
    if models:
        yield from _check_models(settings, dimensions)


def _dimensions(settings: Settings, services: Services) -> int | None:
    """Return the length of the vectors in the index of the present model; None while unknown."""
    with suppress(AppError):
        version = services.index.searched().version
        return version.dimensions if version.model == settings.dense_model else None
    return None


def _check_sql(settings: Settings) -> Findings:
    """Yield the findings about the database, which is not migrated. Raises UploadsUnavailable, SettingsError."""
    with closing(Database(settings)) as database:
        version, revision = database.versions()
        name = f"{'SQLite' if settings.database_url is None else 'PostgreSQL'} {version}".strip()
        if revision is None:
            yield warn("SQL", f"{name} has no tables yet: the first start of the service makes them")
        elif revision > REVISION:
            yield fail("SQL", f"{name} was written by a newer version of this program: install that version")
        elif revision < REVISION:
            yield warn("SQL", f"{name} has the tables of an earlier version: the next start migrates them")
        else:
            yield ok("SQL", f"{name} answers, with the tables of this version")


def _check_files(settings: Settings) -> Findings:
    """Yield whether a file can be written, read and deleted. Raises FilesUnavailable."""
    files, name, content = open_file_store(settings), f"doctor-{uuid.uuid4()}", b"written by `main.py doctor`"
    place = settings.file_store_url or str(settings.files_dir)
    try:
        files.put(name, [content])
        same = b"".join(files.read(name)) == content
    finally:
        files.delete(name)
    if same:
        yield ok("files", f"can be written, read and deleted in {place}")
    else:
        yield fail("files", f"{place} returns other bytes than were written: check FILE_STORE_URL and the disk")


def _check_vectors(settings: Settings, services: Services) -> Findings:
    """Yield the findings about the vector store, from a search and a count. Raises StoreError, UploadsUnavailable."""
    version = services.index.searched().version
    condition = asyncio.run(vector_store_condition(settings, version.collection))
    if condition == "empty":
        yield warn("vectors", warning_about(condition, settings) or condition)
        return
    if condition != "ready":
        yield fail("vectors", warning_about(condition, settings) or condition)
        return
    with suppress(StoreDamaged):  # the condition says so
        stored = services.store.count_by_upload()
        place = settings.qdrant_url or f"the embedded Qdrant in {settings.qdrant_dir}"
        chunks, uploads = counted(sum(stored.values()), "chunk"), counted(len(stored), "upload")
        yield ok("vectors", f"{place} holds {chunks} of {uploads} in {version.collection}")
    lacking = incomplete_uploads(services)
    if lacking:
        yield fail("vectors", f"{counted(len(lacking), 'upload')} lack chunks: `main.py audit` indexes them again")


def _check_deployment(services: Services, url: str | None) -> Findings:
    """Yield whether SQL, Valkey, files and vectors belong together. Raises what the stores raise."""
    own_id = services.deployment.read()
    found: dict[str, str | None] = {QDRANT: services.store.engine.deployment()}
    with suppress(FileMissing):
        found[FILES] = b"".join(services.files.read(MARKER)).decode(errors="replace")
    if url is not None:
        with suppress(RedisError), Redis.from_url(url, socket_timeout=MODEL_SECONDS) as valkey:
            found[VALKEY] = read_deployment(valkey)
    others = [place for place, found_id in found.items() if found_id not in {None, own_id}]
    for place in others:
        yield fail("deployment", foreign(place).detail)
    if not others:
        yield ok("deployment", f"the database and {', '.join(found)} belong together ({own_id or 'no id yet'})")


def _check_models(settings: Settings, dimensions: int | None) -> Iterator[Finding]:
    """Yield the findings about the chat model, the embedding model and the reranker, each asked once."""
    seconds = min(settings.first_token_timeout_seconds, MODEL_SECONDS)
    settings = settings.model_copy(update={"first_token_timeout_seconds": seconds})
    if settings.offline:
        yield ok("chat model", "none is configured: answers quote the documents")
    for name in dict.fromkeys([*settings.allowed_models, *filter(None, [settings.verify_model])]):
        yield from checked("chat model", partial(_ask, settings, name))
    yield from checked("embeddings", lambda: _check_embeddings(settings, dimensions))
    if settings.rerank_url is not None:
        yield from checked("reranker", lambda: _check_reranker(settings))


def _ask(settings: Settings, name: str) -> Findings:
    chat = make_chat(settings)
    if chat is not None:
        chat.complete("Answer in one word.", "Say OK.", model=name)
        yield ok("chat model", f"{name} answers")


def _check_embeddings(settings: Settings, expected: int | None) -> Findings:
    embedder = make_embedder(settings)
    if embedder is None:
        yield ok("embeddings", "none: search is lexical only")
        return
    found = len(embedder.embed_query("Is the embedding model there?"))
    changed = embedding_size_changed(f"expected dim: {expected}, got {found}")
    if expected not in {None, found} and changed:
        yield fail("embeddings", changed.detail)
        return
    place = "in this process" if settings.dense_model == LOCAL_MODEL else "of the provider"
    yield ok("embeddings", f"{settings.dense_model} {place} answers with {counted(found, 'dimension')}")


def _check_reranker(settings: Settings) -> Findings:
    from client.llm.rerank import make_reranker  # imports aiohttp

    reranker = make_reranker(settings)

    async def rerank() -> None:
        try:
            await reranker.rerank("lamp", ["The lamp turns.", "It rains."]) if reranker else None
        finally:
            await close_loop()

    asyncio.run(rerank())
    yield ok("reranker", f"{settings.rerank_model} answers")
