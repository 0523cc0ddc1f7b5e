"""Index PDFs and folders of PDFs: `python index.py PATH...`"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from errors import AppError, DocumentError, StoreInUse
from rag.ingestion import index_pdf
from schemas import Document, Indexed, JobStatus, Progress
from settings import Settings, load_settings

if TYPE_CHECKING:
    from client.rq_client import JobQueue

POLL_SECONDS = 0.1
# A handed-over file is given up when no worker has taken it for this long.
PICKUP_SECONDS = 60.0
_NAMESPACE = uuid.UUID("0c7a3a52-3f0f-5a9c-8a53-1d1c58a3b7f4")

IndexOne = Callable[[Document, Callable[[Progress], None]], Indexed]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line: 0 when every file was indexed, 1 when one was not, 2 for a wrong setting or call."""
    parser = argparse.ArgumentParser(prog="index.py", description="Index PDFs, so that questions can be asked of them.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a PDF, or a folder searched for PDFs")
    paths = parser.parse_args(arguments).paths
    logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = load_settings()
        with _Indexing(settings) as indexing:
            return _index(list(_documents(paths)), indexing.index)
    except AppError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _documents(paths: list[Path]) -> Iterator[Document]:
    """Yield a document for each file named, and for each PDF below a folder named, once."""
    seen = set()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if path.is_dir() and (file.suffix.lower() != ".pdf" or not file.is_file()):
                continue
            real = file.resolve()
            if real not in seen:
                seen.add(real)
                # The id follows from the place of the file, so that indexing it again replaces it.
                yield Document(upload_id=str(uuid.uuid5(_NAMESPACE, str(real))), path=str(real), name=file.name)


def _index(documents: list[Document], index: IndexOne) -> int:
    """Index the documents one by one, with a progress bar, and print what came of it."""
    done: list[Indexed] = []
    failed: list[tuple[str, str]] = []
    for number, document in enumerate(documents, start=1):
        label = f"[{number}/{len(documents)}] {document.name}"
        bar: tqdm[NoReturn] = tqdm(desc=label, unit="page", file=sys.stderr)
        with bar:
            try:
                done.append(index(document, _shower(bar)))
            except DocumentError as error:
                failed.append((document.path, f"{error.reason}: {error.detail}"))
            except AppError as error:
                failed.append((document.path, error.detail))
    for path, reason in failed:
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(_summary(done, failed))
    return 1 if failed or not documents else 0


def _summary(done: list[Indexed], failed: list[tuple[str, str]]) -> str:
    """Say in one line what was stored, and which files failed and why."""
    if not done and not failed:
        return "no PDF found"
    pages, chunks = sum(one.pages for one in done), sum(one.chunks for one in done)
    stored = f"{_many(len(done), 'file')}, {_many(pages, 'page')}, {_many(chunks, 'chunk')} stored"
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

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._queue: JobQueue | None = None

    def __enter__(self) -> _Indexing:
        from queues.services import open_services

        try:
            self._services = open_services(self._settings, owner=self._settings.qdrant_url is None)
        except StoreInUse:
            from client.rq_client import JobQueue

            self._queue = JobQueue(
                self._settings.queue_url,
                job_timeout_seconds=self._settings.job_timeout_seconds,
                result_ttl_seconds=self._settings.result_ttl_seconds,
            )
            print("a server is running on the embedded store: its worker indexes", file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        if self._queue is None:
            self._services.store.close()
        else:
            self._loop.run_until_complete(self._queue.close())
        self._loop.close()

    def index(self, document: Document, report: Callable[[Progress], None]) -> Indexed:
        """Index one document. Raises DocumentError and other AppErrors."""
        if self._queue is None:
            return index_pdf(document, self._services.store, report)
        return self._loop.run_until_complete(_hand_over(self._queue, document, report))


async def _hand_over(queue: JobQueue, document: Document, report: Callable[[Progress], None]) -> Indexed:
    """Have a worker index the document, following it to its end."""
    job = await queue.submit("document", document.model_dump(mode="json"))
    submitted_at = time.monotonic()
    while not job.status.terminal:
        if job.status is JobStatus.QUEUED and time.monotonic() - submitted_at > PICKUP_SECONDS:
            states = await queue.states()
            if not any(state.workers for state in states if state.name == "rag_documents"):
                raise AppError("no worker takes documents: run `python main.py worker`")
        await asyncio.sleep(POLL_SECONDS)
        job = await queue.fetch(job.job_id)
        if job.progress is not None:
            report(job.progress)
    if job.failure is not None:
        raise AppError(job.failure.detail)
    indexed = Indexed.model_validate(job.result)
    report(Progress(stage="indexing", done=indexed.pages, total=indexed.pages))
    return indexed


if __name__ == "__main__":
    sys.exit(main())
