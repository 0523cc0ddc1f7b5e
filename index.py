"""Index documents and folders of documents: `index.py PATH...`

The files are handled as uploads are, and appear in the same list. This process indexes them, unless the worker of a
running server owns the embedded store: then that worker indexes them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from client.files import data_dir
from documents.discovery import Discovery, find_documents
from errors import AppError, DocumentError, QueueUnavailable, StoreInUse
from observability import commands, logs
from observability.wording import counted
from rag.ingest.extraction import file_errors
from rag.ingest.indexing import ProgressCallback
from schemas import Indexed, JobStatus, Progress, UploadTask
from settings import Settings, load_settings, use_utf8

if TYPE_CHECKING:
    from client.rq_client import JobQueue
    from documents.service import AcceptedUpload
    from queues.wiring import Services

POLL_SECONDS = 0.1
STORE_POLL_SECONDS = 0.5
# A queued file fails when no worker has started on it for this long and no worker is listening.
PICKUP_SECONDS = 60.0
_NAMESPACE = uuid.UUID("0c7a3a52-3f0f-5a9c-8a53-1d1c58a3b7f4")

# Indexes a file. Returns None for a copy of a file that this run has already indexed.
IndexFile = Callable[[Path, ProgressCallback], Indexed | None]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns 0 when every file was indexed, 1 when a file failed, 2 for a wrong setting."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        logs.configure(settings, level="WARNING", audit_to_stderr=False)
        data_dir.prepare(settings)
        with Indexer(settings, options.user) as indexer:
            return _index_all(find_documents(options.paths, exclude=settings.data_dir), indexer.index)
    except AppError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="index.py", description="Index documents, so that questions can be asked of them."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=_path,
        metavar="PATH",
        help="a document, or a folder: every document in it is indexed (docs/uploads.md lists the kinds)",
    )
    parser.add_argument(
        "--user", default="local", type=commands.parse_user_id, help="the owner of the documents (default: local)"
    )
    return parser


def _path(text: str) -> Path:
    if not text:  # probably an unset shell variable; pathlib would take it for the current folder
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


@dataclass(slots=True)
class _Outcome:
    """The outcome for all files: the indexed files, the number of copies, and each failed path with the reason."""

    indexed: list[Indexed] = field(default_factory=list)
    copies: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


def _index_all(discovery: Discovery, index_file: IndexFile) -> int:
    """Index the files one by one with a progress bar, print the summary, and return the exit status."""
    outcome = _Outcome()
    for number, file in enumerate(discovery.files, start=1):
        label = f"[{number}/{len(discovery.files)}] {file.name}"
        bar: tqdm[NoReturn] = tqdm(desc=label, unit=" pages", file=sys.stderr)
        with bar:
            try:
                indexed = index_file(file, _bar_updater(bar))
                if indexed is None:
                    outcome.copies += 1
                else:
                    outcome.indexed.append(indexed)
            except DocumentError as error:
                outcome.failed.append((file, f"{error.reason}: {error.detail}"))
            except AppError as error:
                outcome.failed.append((file, error.detail))
    for path, reason in outcome.failed:
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print("; ".join(filter(None, [_summary(outcome), discovery.skipped_summary])))
    return 1 if outcome.failed or not discovery.files else 0


def _summary(outcome: _Outcome) -> str:
    """Return one line: the number of files, pages and chunks stored, the number of copies, and the failed files."""
    if not outcome.indexed and not outcome.failed:
        return "no document found"
    pages = sum(indexed.pages for indexed in outcome.indexed)
    chunks = sum(indexed.chunks for indexed in outcome.indexed)
    files = counted(len(outcome.indexed), "file")
    parts = [f"{files}, {counted(pages, 'page')}, {counted(chunks, 'chunk')} stored"]
    if outcome.copies:
        parts.append(f"{counted(outcome.copies, 'copy', 'copies')} left out")
    if outcome.failed:
        reasons = "; ".join(f"{path.name} ({reason})" for path, reason in outcome.failed)
        parts.append(f"{len(outcome.failed)} failed: {reasons}")
    return "; ".join(parts)


def _bar_updater(bar: tqdm[NoReturn]) -> ProgressCallback:
    """Return a callback that shows the progress of a file in its bar."""

    def update(progress: Progress) -> None:
        if progress.total is not None and progress.done is not None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            bar.refresh()

    return update


class Indexer:
    """Indexes files in this process, or through the queue of the worker that owns the embedded store."""

    def __init__(self, settings: Settings, user_id: str) -> None:
        self._settings = settings
        self._user_id = user_id
        self._loop = asyncio.new_event_loop()
        self._queue: JobQueue | None = None
        self._services: Services | None = None
        # The ids of the uploads that this run has indexed.
        self._indexed: set[str] = set()

    def __enter__(self) -> Indexer:
        from client.files.store import open_file_store
        from client.sql.database import Database
        from client.sql.uploads import UploadRepository
        from documents.service import DocumentService

        self._open()
        self._uploads = UploadRepository(Database(self._settings))
        self._documents = DocumentService(self._uploads, open_file_store(self._settings), self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        if self._services is not None:
            self._services.close()
        if self._queue is not None:
            self._loop.run_until_complete(self._queue.close())
        self._uploads.close()
        self._loop.close()

    def _open(self) -> None:
        """Open the store, or the queue of the worker that owns the store; wait while another process owns it."""
        from queues.wiring import establish_deployment, open_services

        settings, waiting_announced = self._settings, False
        while True:
            with suppress(StoreInUse):
                self._services = open_services(settings, owner=settings.qdrant_url is None)
                establish_deployment(self._services, None)
                self._build(self._services)
                return
            self._queue = self._loop.run_until_complete(_open_queue_with_worker(settings))
            if self._queue is not None:
                print("a running server owns the embedded store: its worker indexes the files", file=sys.stderr)
                return
            if not waiting_announced:
                print(
                    f"waiting for the embedded store in {settings.qdrant_dir}: another index.py uses it, or a worker "
                    "of a Valkey that VALKEY_URL does not name here",
                    file=sys.stderr,
                )
            waiting_announced = True
            time.sleep(STORE_POLL_SECONDS)

    def _build(self, services: Services) -> None:
        """Build the index for another EMBEDDING_MODEL before the files are added, where no worker can do it."""
        from queues.jobs import building

        version = building.begin_build(services)
        if version is None:
            return
        print(building.describe_build(services, version), file=sys.stderr)
        if self._settings.qdrant_url is not None:
            return
        bar: tqdm[NoReturn] = tqdm(desc="building the index", unit=" documents", file=sys.stderr)
        with bar:
            failure = building.build_here(services, _bar_updater(bar))
        if failure is not None:
            print(f"the new index is not used, and the files are added to the old one: {failure}", file=sys.stderr)

    def index(self, file: Path, report: ProgressCallback) -> Indexed | None:
        """Add a file to the list of uploads and index it; return None for a copy of a file indexed in this run.

        Raises DocumentError and other AppErrors.
        """
        accepted = self._accept(file)
        upload = accepted.upload
        if upload.upload_id in self._indexed and not accepted.queued:
            return None
        self._indexed.add(upload.upload_id)
        if not accepted.queued:
            # The same content came from another path or over HTTP.
            reindexing = self._documents.reindex(upload.upload_id, user_id=self._user_id)
            upload = self._loop.run_until_complete(reindexing)
        if self._services is not None:
            from queues.jobs.indexing import index_upload

            task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
            return index_upload(task, self._services, report, job_id=None)
        if self._queue is None or upload.job_id is None:
            raise AppError("the file was not queued")
        return self._loop.run_until_complete(_wait_for_job(self._queue, upload.job_id, report))

    def _accept(self, file: Path) -> AcceptedUpload:
        """Add a file to the list of uploads. Raises DocumentError and other AppErrors."""
        with file_errors():
            if file.exists() and not file.is_file():  # opening a pipe would wait for a writer
                raise DocumentError("unsupported", "it is neither a file nor a folder")
            with file.open("rb") as opened:
                return self._loop.run_until_complete(
                    self._documents.accept(
                        opened, name=file.name, user_id=self._user_id, upload_id=_upload_id(file, self._user_id)
                    )
                )


def _upload_id(file: Path, user_id: str) -> str:
    """Return the id of the upload of a file, derived from its path and user: indexing the file again replaces it."""
    name = str(file) if user_id == "local" else f"{file}\n{user_id}"
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a path that are not UTF-8 are lone surrogates in it
        # No path contains NUL: the suffix sets this path apart from a path that contains the escaped spelling.
        name = name.encode(errors="backslashreplace").decode() + "\0"
    return str(uuid.uuid5(_NAMESPACE, name))


async def _open_queue_with_worker(settings: Settings) -> JobQueue | None:
    """Open the queue of the embedded Valkey; None when no worker takes documents from it."""
    from client.rq_client import JobQueue
    from client.valkey.embedded import running_url

    url = running_url(settings)
    if url is None:
        return None
    queue = JobQueue.from_settings(settings, url)
    with suppress(QueueUnavailable):
        if await _has_document_worker(queue):
            return queue
    await queue.close()
    return None


async def _has_document_worker(queue: JobQueue) -> bool:
    return any(state.workers for state in await queue.states() if state.name == "rag_documents")


async def _wait_for_job(queue: JobQueue, job_id: str, report: ProgressCallback) -> Indexed:
    """Report the progress of an indexing job until it ends, and return its result. Raises AppError."""
    submitted_at = time.monotonic()
    job = await queue.fetch(job_id)
    while not job.status.terminal:
        overdue = job.status is JobStatus.QUEUED and time.monotonic() - submitted_at > PICKUP_SECONDS
        if overdue and not await _has_document_worker(queue):
            raise AppError(f"no worker takes documents: run `{commands.script('main.py')} worker`")
        await asyncio.sleep(POLL_SECONDS)
        job = await queue.fetch(job_id)
        if job.progress is not None:
            report(job.progress)
    if job.failure is not None:
        raise AppError(job.failure.detail)
    indexed = Indexed.model_validate(job.result)
    report(Progress(stage="indexing", done=indexed.pages, total=indexed.pages))
    return indexed


if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
