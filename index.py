"""Index documents and folders of documents: `python index.py PATH...`

The files go the way of uploads, so they stand in the same list; only that this process does the work, if it can.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from client.files import data_dir
from errors import AppError, DocumentError, QueueUnavailable, StoreInUse
from observability import commands, logs
from schemas import Indexed, JobStatus, Progress, UploadTask, parse_user_id
from settings import Settings, load_settings

if TYPE_CHECKING:
    from client.rq_client import JobQueue
    from queues.wiring import Services

POLL_SECONDS = 0.1
WAIT_SECONDS = 0.5
# A handed-over file is given up when no worker has taken it for this long.
PICKUP_SECONDS = 60.0
_NAMESPACE = uuid.UUID("0c7a3a52-3f0f-5a9c-8a53-1d1c58a3b7f4")

# What a folder is searched for.
SUFFIXES = (".pdf", ".docx", ".html", ".htm", ".md", ".markdown", ".txt")

ProgressCallback = Callable[[Progress], None]
# None for a copy of a file that this run has indexed.
IndexOne = Callable[[Path, ProgressCallback], Indexed | None]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: 0 when every file was indexed, 1 when one was not, 2 for a wrong setting or call."""
    parser = argparse.ArgumentParser(
        prog="index.py", description="Index documents, so that questions can be asked of them."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=_path,
        metavar="PATH",
        help="a document (PDF, DOCX, HTML, Markdown, text), or a folder searched for them",
    )
    parser.add_argument(
        "--user", default="local", type=parse_user_id, help="whose documents they become (default: local)"
    )
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # which may know less than file names hold
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        settings = load_settings()
        logs.configure(settings, level="WARNING")
        data_dir.prepare(settings)
        with _Indexing(settings, options.user) as indexing:
            return _index(list(_files(options.paths)), indexing.index)
    except AppError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _path(text: str) -> Path:
    if not text:  # of a variable that is not set, most likely; for pathlib it is the current folder
        raise argparse.ArgumentTypeError("must not be empty")
    return Path(text)


def _files(paths: list[Path]) -> Iterator[Path]:
    """Yield each file named, and each document below a folder named, once."""
    seen = set()
    for path in paths:
        folder = os.path.isdir(path)  # noqa: PTH112  pathlib's raises for what cannot be, such as a name too long
        for file in sorted(path.rglob("*")) if folder else [path]:
            if folder and (file.suffix.lower() not in SUFFIXES or not file.is_file()):
                continue
            real = Path(os.path.realpath(file))  # pathlib's raises for a link to itself
            if real not in seen:
                seen.add(real)
                yield real


def _index(files: list[Path], index: IndexOne) -> int:
    """Index the files one by one, with a progress bar, and print what came of it."""
    done: list[Indexed] = []
    failed: list[tuple[str, str]] = []
    copies = 0
    for number, file in enumerate(files, start=1):
        label = f"[{number}/{len(files)}] {file.name}"
        bar: tqdm[NoReturn] = tqdm(desc=label, unit="page", file=sys.stderr)
        with bar:
            try:
                indexed = index(file, _shower(bar))
                if indexed is None:
                    copies += 1
                else:
                    done.append(indexed)
            except DocumentError as error:
                failed.append((str(file), f"{error.reason}: {error.detail}"))
            except AppError as error:
                failed.append((str(file), error.detail))
    for path, reason in failed:
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(_summary(done, failed, copies))
    return 1 if failed or not files else 0


def _summary(done: list[Indexed], failed: list[tuple[str, str]], copies: int) -> str:
    """Say in one line what was stored, how many copies of it were met, and which files failed and why."""
    if not done and not failed:
        return "no document found"
    pages, chunks = sum(one.pages for one in done), sum(one.chunks for one in done)
    stored = f"{_many(len(done), 'file')}, {_many(pages, 'page')}, {_many(chunks, 'chunk')} stored"
    if copies:
        stored += f"; {copies} {'copy' if copies == 1 else 'copies'} left out"
    if not failed:
        return stored
    reasons = "; ".join(f"{Path(path).name} ({reason})" for path, reason in failed)
    return f"{stored}; {len(failed)} failed: {reasons}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shower(bar: tqdm[NoReturn]) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.total is not None and progress.done is not None:
            bar.total = progress.total
            bar.update(progress.done - bar.n)
            bar.refresh()

    return show


class _Indexing:
    """Indexes in this process, or, when a running server's worker owns the embedded store, through its queue."""

    def __init__(self, settings: Settings, user_id: str) -> None:
        self._settings = settings
        self._user_id = user_id
        self._loop = asyncio.new_event_loop()
        self._queue: JobQueue | None = None
        self._services: Services | None = None
        self._indexed: set[str] = set()

    def __enter__(self) -> _Indexing:
        from client.files.store import open_file_store
        from client.sql.database import Database
        from client.sql.uploads import UploadRepository
        from documents.service import DocumentService

        settings = self._settings
        self._open()
        self._uploads = UploadRepository(Database(settings))
        self._library = DocumentService(self._uploads, open_file_store(settings), self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        if self._services is not None:
            self._services.close()
        if self._queue is not None:
            self._loop.run_until_complete(self._queue.close())
        self._uploads.close()
        self._loop.close()

    def _open(self) -> None:
        """Open the store, or find the queue of the worker that has it. What is no worker is waited for."""
        from queues.wiring import open_services

        settings, said = self._settings, False
        while True:
            with suppress(StoreInUse):
                self._services = open_services(settings, owner=settings.qdrant_url is None)
                return
            self._queue = self._loop.run_until_complete(_queue_of_a_worker(settings))
            if self._queue is not None:
                print("a server is running on the embedded store: its worker indexes", file=sys.stderr)
                return
            if not said:
                print(
                    f"waiting for the embedded store in {settings.qdrant_dir}: another index.py is at it, or a worker "
                    "of a Valkey that VALKEY_URL does not name here",
                    file=sys.stderr,
                )
            said = True
            time.sleep(WAIT_SECONDS)

    def index(self, file: Path, report: ProgressCallback) -> Indexed | None:
        """Take a file into the list of uploads and index it, unless it is a copy of one indexed before in this run.

        Raises DocumentError and other AppErrors.
        """
        try:
            if file.exists() and not file.is_file():  # to open a pipe would be to wait for whoever writes to it
                raise DocumentError("unsupported", "it is neither a file nor a folder")
            with file.open("rb") as opened:
                taken = self._loop.run_until_complete(
                    self._library.accept(
                        opened, name=file.name, user_id=self._user_id, upload_id=_upload_id(file, self._user_id)
                    )
                )
        except FileNotFoundError:
            raise DocumentError("not_found", "there is no such file") from None
        except OSError as error:
            raise DocumentError("broken", f"the file cannot be read: {error.strerror}") from None
        upload = taken.upload
        if upload.upload_id in self._indexed and not taken.queued:
            return None
        self._indexed.add(upload.upload_id)
        if not taken.queued:
            # It came from another place or over HTTP, and the model that embeds may be another since then.
            reindexing = self._library.reindex(upload.upload_id, user_id=self._user_id)
            upload = self._loop.run_until_complete(reindexing)
        if self._services is not None:
            from queues.jobs.indexing import index_upload

            task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
            return index_upload(task, self._services, report, job_id=None)
        if self._queue is None or upload.job_id is None:
            raise AppError("the file was not queued")
        return self._loop.run_until_complete(_follow(self._queue, upload.job_id, report))


def _upload_id(file: Path, user_id: str) -> str:
    """Name the upload by the place of the file and by its user, so that indexing it again replaces it."""
    place = str(file) if user_id == "local" else f"{file}\n{user_id}"
    try:
        place.encode()
    except UnicodeEncodeError:  # bytes of a name that are not UTF-8 stand in it as lone surrogates
        # The NUL, which no path has, keeps it apart from a file whose name is spelled so.
        place = place.encode(errors="backslashreplace").decode() + "\0"
    return str(uuid.uuid5(_NAMESPACE, place))


async def _queue_of_a_worker(settings: Settings) -> JobQueue | None:
    """Open the queue of this store's service; None when no worker takes documents from it."""
    from client.rq_client import JobQueue
    from client.valkey.embedded import running_url

    url = running_url(settings)
    if url is None:
        return None
    queue = JobQueue(
        url,
        job_timeout_seconds=settings.job_timeout_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        ingestion_timeout_seconds=settings.ingestion_timeout_seconds,
    )
    with suppress(QueueUnavailable):
        if await _taken(queue):
            return queue
    await queue.close()
    return None


async def _taken(queue: JobQueue) -> bool:
    """Tell whether a worker takes documents."""
    return any(state.workers for state in await queue.states() if state.name == "rag_documents")


async def _follow(queue: JobQueue, job_id: str, report: ProgressCallback) -> Indexed:
    """Follow a worker that indexes, to its end. Raises AppError."""
    submitted_at = time.monotonic()
    job = await queue.fetch(job_id)
    while not job.status.terminal:
        overdue = job.status is JobStatus.QUEUED and time.monotonic() - submitted_at > PICKUP_SECONDS
        if overdue and not await _taken(queue):
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
    sys.exit(main())
