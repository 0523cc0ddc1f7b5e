"""Index documents and folders of documents: `index.py PATH...`

The files are handled as uploads are, and appear in the same list. This process indexes them, unless the worker of a
running server owns the embedded store: then that worker indexes them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from cli.indexing_report import IndexingReport
from client.files import data_dir
from documents.discovery import Discovery, find_documents
from errors import AppError, DocumentError, StoreInUse
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


class NotIndexed(Enum):
    """Why a file was left out: a copy of one that this run has indexed, or, with --only-new, indexed before."""

    COPY = "copy"
    UNCHANGED = "unchanged"


class JobFailure(AppError):
    """A worker could not index a file. `reason` is that of the upload."""

    reason: str | None = None


# Indexes a file, unless it is to be left out.
IndexFile = Callable[[Path, ProgressCallback], Indexed | NotIndexed]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns 0 when every file was indexed, 1 when a file failed, 2 for a wrong setting."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        logs.configure(settings, level="WARNING", audit_to_stderr=False)
        data_dir.prepare(settings)
        with Indexer(settings, options.user, only_new=options.only_new) as indexer:
            converts = settings.document_converter_url is not None
            discovery = find_documents(options.paths, exclude=settings.data_dir, converts=converts)
            return _run(options, discovery, indexer)
    except AppError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, discovery: Discovery, indexer: Indexer) -> int:
    """Index the documents that were found, print what became of them, and return the exit status."""
    report = IndexingReport(discovery.files)
    stopped = False
    try:
        with _stopping_between_pages() as check:
            _index_all(discovery.files, indexer.index, report, check)
    except KeyboardInterrupt:
        stopped = True
    finally:
        report.close()
    print("; ".join(filter(None, [report.summary(), discovery.skipped_summary])))
    if stopped:
        print(_how_to_go_on(report, discovery.files, options), file=sys.stderr)
        return 130
    return 1 if report.has_failed else 0


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
    parser.add_argument(
        "--only-new", action="store_true", help="leave out files that are indexed already and have not changed"
    )
    return parser


def _path(text: str) -> Path:
    if not text:  # probably an unset shell variable; pathlib would take it for the current folder
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


@contextmanager
def _stopping_between_pages() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt after a Ctrl-C. A second Ctrl-C raises it wherever the program is.

    An interrupt within a write to the database would leave the database locked.
    """
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _index_all(files: Sequence[Path], index_file: IndexFile, report: IndexingReport, check: Callable[[], None]) -> None:
    """Index the files one by one. `check` is called before each file and page, and may raise."""

    def on_progress(progress: Progress) -> None:
        check()
        report.progress(progress)

    for number, file in enumerate(files, start=1):
        check()
        report.begin(number)
        try:
            match index_file(file, on_progress):
                case Indexed() as indexed:
                    report.stored(indexed)
                case NotIndexed.COPY:
                    report.copied()
                case NotIndexed.UNCHANGED:
                    report.unchanged()
        except AppError as error:
            report.failed(error)


def _how_to_go_on(report: IndexingReport, files: Sequence[Path], options: argparse.Namespace) -> str:
    """Return what is said after Ctrl-C."""
    user = [] if options.user == "local" else ["--user", options.user]
    command = shlex.join(["--only-new", *user, *map(str, options.paths)])
    return (
        f"stopped after {report.ended} of {counted(len(files), 'file')}; what is indexed stays. "
        f"To index the others: {commands.script('index.py')} {command}"
    )


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

    def __init__(self, settings: Settings, user_id: str, *, only_new: bool = False) -> None:
        self._settings = settings
        self._user_id = user_id
        self._only_new = only_new
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
        self._documents = DocumentService(
            self._uploads,
            open_file_store(self._settings),
            self._queue,
            converts=self._settings.document_converter_url is not None,
        )
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
        from cli.running_worker import open_queue_with_worker
        from queues.wiring import establish_deployment, open_services

        settings, waiting_announced = self._settings, False
        while True:
            with suppress(StoreInUse):
                self._services = open_services(settings, owner=settings.qdrant_url is None)
                establish_deployment(self._services, None)
                self._build(self._services)
                return
            self._queue = self._loop.run_until_complete(open_queue_with_worker(settings, "rag_documents"))
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

    def index(self, file: Path, report: ProgressCallback) -> Indexed | NotIndexed:
        """Add a file to the list of uploads and index it, unless it is to be left out.

        Raises DocumentError and other AppErrors.
        """
        if self._only_new and self._is_ready(file):
            return NotIndexed.UNCHANGED
        accepted = self._accept(file)
        upload = accepted.upload
        if upload.upload_id in self._indexed and not accepted.queued:
            return NotIndexed.COPY
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
        try:
            return self._loop.run_until_complete(_wait_for_job(self._queue, upload.job_id, report))
        except JobFailure as failure:
            row = self._uploads.get(upload.upload_id)
            failure.reason = row.reason if row is not None else None
            raise

    def _is_ready(self, file: Path) -> bool:
        """Return True if the user has an upload with this content that is ready."""
        with _opened(file) as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        return self._uploads.has_content(self._user_id, sha256)

    def _accept(self, file: Path) -> AcceptedUpload:
        """Add a file to the list of uploads. Raises DocumentError and other AppErrors."""
        with _opened(file) as opened:
            return self._loop.run_until_complete(
                self._documents.accept(
                    opened, name=file.name, user_id=self._user_id, upload_id=_upload_id(file, self._user_id)
                )
            )


@contextmanager
def _opened(file: Path) -> Iterator[BufferedReader]:
    """Open a file. Raises DocumentError."""
    with file_errors():
        if file.exists() and not file.is_file():  # opening a pipe would wait for a writer
            raise DocumentError("unsupported", "it is neither a file nor a folder")
        with file.open("rb") as opened:
            yield opened


def _upload_id(file: Path, user_id: str) -> str:
    """Return the id of the upload of a file, derived from its path and user: indexing the file again replaces it."""
    name = str(file) if user_id == "local" else f"{file}\n{user_id}"
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes of a path that are not UTF-8 are lone surrogates in it
        # No path contains NUL: the suffix sets this path apart from a path that contains the escaped spelling.
        name = name.encode(errors="backslashreplace").decode() + "\0"
    return str(uuid.uuid5(_NAMESPACE, name))


async def _wait_for_job(queue: JobQueue, job_id: str, report: ProgressCallback) -> Indexed:
    """Report the progress of an indexing job until it ends, and return its result. Raises AppError."""
    from cli.running_worker import has_worker

    submitted_at = time.monotonic()
    job = await queue.fetch(job_id)
    while not job.status.terminal:
        overdue = job.status is JobStatus.QUEUED and time.monotonic() - submitted_at > PICKUP_SECONDS
        if overdue and not await has_worker(queue, "rag_documents"):
            raise AppError(f"no worker takes documents: run `{commands.script('main.py')} worker`")
        await asyncio.sleep(POLL_SECONDS)
        job = await queue.fetch(job_id)
        report(job.progress or Progress(stage="waiting"))
    if job.failure is not None:
        raise JobFailure(job.failure.detail)
    indexed = Indexed.model_validate(job.result)
    report(Progress(stage="indexing", done=indexed.pages, total=indexed.pages))
    return indexed


if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
