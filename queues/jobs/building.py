"""Building a version of the index: each document is read from the file store again, chunked and embedded.

Questions are answered from the version that is searched meanwhile. What is built is written to SQL document by
document, so that a build goes on where it was killed. The switch is one transaction, and the old version is removed
after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from redis import Redis
from redis.exceptions import RedisError

from client.llm.deadline import current_deadline
from client.rq.build_index import submit_step
from client.rq.build_task import BuildStep
from client.rq.ids import new_id
from client.sql.index_versions import BuildProgress, IndexVersion, NextUpload, VersionState
from documents.index_versions import needs_provider, request_build
from errors import (
    AppError,
    JobStopped,
    JobTimedOut,
    ProviderError,
    StoreError,
    StoreUnavailable,
    UploadGone,
    UploadsUnavailable,
)
from observability.wording import counted
from queues.jobs.indexing import keep_recognized, local_document
from queues.wiring import Services
from rag.ingest.chunking import CHUNK_TOKENS
from rag.ingest.indexing import ProgressCallback, index_document
from schemas import Indexed, Progress, UploadStatus
from settings import LEXICAL_MODEL

log = logging.getLogger("rq.worker")

# A step goes on with further documents for this long, then the jobs that wait have their turn.
STEP_SECONDS = 1.0
CHECK_SECONDS = 0.5
# An estimate: text, payload and the words' vectors of a chunk. Its own vector takes 4 bytes a number.
TEXT_BYTES = 4_000
# The length of the vectors of a model that is not known yet.
DIMENSIONS = 1_536
_TIMEOUT = "its indexing ran too long (INGESTION_TIMEOUT_SECONDS)"
_INTERNAL = "its indexing failed with an internal error; the worker's log says why"


class _Superseded(UploadGone):
    """The version is no longer being built."""


def begin_build(services: Services, *, again: bool = False) -> IndexVersion | None:
    """Begin to build the version that the settings ask for; return it, or None if none is to be built.

    The build waits for its first step. A version without a document is searched at once.
    """
    searched = services.index.searched().version
    version = request_build(services.index.settings, services.index.versions, searched, again=again)
    if version is None or services.index.versions.switch(version):
        return None
    return version


def resume_build(services: Services, valkey: Redis) -> None:
    """Have the index built that the settings ask for, if it is not there: for the start of a worker.

    Raises RedisError, StoreError and UploadsUnavailable.
    """
    version = begin_build(services)
    if version is not None:
        log.warning("%s", describe_build(services, version))
    start_steps(services, valkey)


def describe_build(services: Services, version: IndexVersion) -> str:
    """Return a sentence about the build of a version: its size, its cost, and what is searched meanwhile."""
    progress, (_, chunks) = services.index.versions.progress(version), services.index.versions.size()
    searched = services.index.searched().version
    return (
        f"an index for EMBEDDING_MODEL={version.model} is built in the background: {progress.done} of "
        f"{counted(progress.total, 'document')} are in it; {describe_cost(version.model, chunks, version.dimensions)}. "
        f"Questions are answered from the index of EMBEDDING_MODEL={searched.model} until then"
    )


def describe_cost(model: str, chunks: int, dimensions: int | None = None) -> str:
    """Return what an index of so many chunks takes: tokens to embed, and room in the vector store."""
    size = TEXT_BYTES if model == LEXICAL_MODEL else TEXT_BYTES + 4 * (dimensions or DIMENSIONS)
    tokens = "" if model == LEXICAL_MODEL else f", about {chunks * CHUNK_TOKENS:,} tokens to embed"
    return f"about {counted(chunks, 'chunk')}{tokens} and {max(1, chunks * size // 1_000_000)} MB of disk"


def start_steps(services: Services, valkey: Redis) -> None:
    """Have a job go on with what is to be built or removed, in place of any earlier job. Raises RedisError."""
    versions = services.index.versions
    version = versions.under_way()
    if version is None or version.state is VersionState.FAILED:
        version = next(iter(versions.retired()), None)
    if version is not None:
        job_id = new_id()
        if versions.set_job(version, job_id):
            submit_step(valkey, job_id, services.index.settings)


def build_here(services: Services, report: ProgressCallback) -> str | None:
    """Build in this process until nothing is left to do; return why the build failed, None if it did not."""
    while run_step(services, report).more:
        pass
    version = services.index.versions.under_way()
    return None if version is None else version.error or "some uploads are just being indexed again"


def run_step(
    services: Services,
    report: ProgressCallback,
    *,
    job_id: str | None = None,
    seconds: float = STEP_SECONDS,
) -> BuildStep:
    """Add documents to the version that is being built; search it if it is complete, and remove old versions.

    `job_id`: the job of this step; a step whose version has another job does nothing. Raises StoreUnavailable.
    """
    versions = services.index.versions
    version = versions.under_way()
    if version is None or version.state is VersionState.FAILED:
        remove_retired(services)
        return BuildStep()
    if job_id is not None and version.job_id != job_id:
        return BuildStep()
    ends, built = time.monotonic() + seconds, 0
    while (upload := versions.next_upload(version)) is not None:
        progress = versions.progress(version)
        report(Progress(stage="building the index", done=progress.done, total=progress.total))
        if not _add(upload, version, services):
            return BuildStep(built=built)
        built += 1
        if time.monotonic() >= ends:
            return BuildStep(built=built, more=True)
    return BuildStep(built=built, more=_complete(version, services))


def submit_next(services: Services, valkey: Redis, *, job_id: str) -> None:
    """Put the next step on the queue, unless another job builds the version now."""
    version = services.index.versions.under_way()
    following = new_id()
    if version is not None and services.index.versions.set_job(version, following, after=job_id):
        with suppress(RedisError):  # the row names the job: the API submits it once Valkey is back
            submit_step(valkey, following, services.index.settings)


def remove_retired(services: Services) -> None:
    """Remove the collections of the versions that are neither searched nor built.

    A version for EMBEDDING_MODEL stays while only its provider is not configured: embedding it again would cost money.
    """
    versions, settings = services.index.versions, services.index.settings
    for version in versions.retired():
        kept = needs_provider(version) and settings.offline and settings.embedding_model == version.model
        if not kept and versions.begin_removal(version):
            services.index.collections.remove(version.collection)
            versions.forget(version)
            log.info("the old index of EMBEDDING_MODEL=%s is removed", version.model)


def _complete(version: IndexVersion, services: Services) -> bool:
    """Search a version whose documents are all there. Returns True if documents were found to be lacking."""
    versions = services.index.versions
    if _unmark_lost(version, services):
        return True
    dimensions = services.index.open(version).store.dimensions
    if dimensions is not None:
        versions.set_dimensions(version.version_id, dimensions)
    if versions.switch(version):
        log.info("the index of EMBEDDING_MODEL=%s is complete, and is searched from now on", version.model)
        services.index.searched()
        remove_retired(services)
        return False
    progress = versions.progress(version)
    if progress.errors and versions.fail(version, _sentence(progress)):
        log.error("the new index is not used: %s", _sentence(progress))
    return False


def _sentence(progress: BuildProgress) -> str:
    first = "; ".join(f"upload {upload_id}: {error}" for upload_id, (_name, error) in progress.errors.items())
    return (
        f"{progress.done} of {counted(progress.total, 'document')} are in the new index. Not in it: {first}. Questions "
        "are answered from the old index until each is deleted, replaced or readable"
    )


def _unmark_lost(version: IndexVersion, services: Services) -> bool:
    """Have documents added again whose points the store has lost since. True if there are any."""
    versions, stored = services.index.versions, services.index.open(version).store.count_by_upload()
    lost = [
        upload_id
        for (user_id, upload_id), chunks in versions.built_counts(version).items()
        if stored.get((user_id, upload_id), 0) != chunks
    ]
    for upload_id in lost:
        versions.unmark_built(upload_id)
    return bool(lost)


def _add(upload: NextUpload, version: IndexVersion, services: Services) -> bool:
    """Add a document to a version. False if the version is not built on: its row says why.

    Raises StoreUnavailable, JobStopped.
    """
    versions, read_at = services.index.versions, datetime.now(UTC)
    try:
        indexed = _index(upload, version, services, read_at)
    except _Superseded:
        return False
    except UploadGone:
        return _dropped(upload, version, services)
    except (StoreUnavailable, JobStopped):
        raise
    except (ProviderError, StoreError) as error:
        detail = f"upload {upload.upload_id} could not be added: {error.detail}"
        if versions.fail(version, detail):
            log.error("the new index is not built: %s", detail)  # noqa: TRY400  the sentence says all
        return False
    except Exception as error:
        versions.note_error(upload, _error_of(error))
        if isinstance(error, JobTimedOut):
            raise
        if not isinstance(error, AppError):
            log.exception("upload %s could not be added to the new index", upload.upload_id)
        return True
    return versions.mark_built(version, upload, indexed, read_at=read_at) or _dropped(upload, version, services)


def _error_of(error: Exception) -> str:
    if isinstance(error, JobTimedOut) or "Timeout" in type(error).__name__:  # RQ's exception
        return _TIMEOUT
    return error.detail if isinstance(error, AppError) else _INTERNAL


def _dropped(upload: NextUpload, version: IndexVersion, services: Services) -> bool:
    """Remove what was built of a document that has changed; of a deleted one, nothing may stay."""
    row = services.uploads.get(upload.upload_id)
    if row is None or row.status is UploadStatus.DELETING:
        services.index.open(version).store.delete(upload.upload_id, user_id=upload.user_id)
    return True


def _index(upload: NextUpload, version: IndexVersion, services: Services, read_at: datetime) -> Indexed:
    store, keep = services.index.open(version).store, keep_recognized(upload, services, read_at)
    try:
        with local_document(upload, services.files) as document:
            check = _checker(upload, version, services)
            return index_document(
                document,
                store,
                lambda _progress: None,
                limits=services.limits,
                check=check,
                keep=keep,
                converter=services.converter,
            )
    except BaseException:
        with suppress(UploadsUnavailable):
            services.recognized.drop(upload.upload_id, read_at=read_at)
        raise


def _checker(upload: NextUpload, version: IndexVersion, services: Services) -> Callable[[], None]:
    """Return a function that stops the work on a document that has changed, or on a version given up."""
    checked_at = time.monotonic()

    def check() -> None:
        nonlocal checked_at
        if time.monotonic() - checked_at < CHECK_SECONDS:
            return
        checked_at = time.monotonic()
        current_deadline().check()
        row = services.uploads.get(upload.upload_id)
        if row is None or row.status is UploadStatus.DELETING or row.file_id != upload.file_id:
            raise UploadGone("the upload has changed")
        now = services.index.versions.under_way()
        if now is None or now.version_id != version.version_id:
            raise _Superseded("another version is to be built")

    return check
