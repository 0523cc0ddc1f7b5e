"""Measure answers on questions whose right pages are known: `main.py eval FILE`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from cli.running_worker import has_worker, open_queue_with_worker
from client.rq_client import JobQueue
from documents.discovery import find_documents
from errors import AppError, DocumentError, InvalidRequest
from observability import commands
from queues.wiring import Services, close_loop, open_services
from rag.answer.pipeline import answer_query
from rag.eval.metrics import Outcome, Question, pages_found, read_questions, summarise
from rag.eval.report import figures, html_report
from rag.ingest.extraction import file_errors
from rag.ingest.indexing import index_document
from rag.ingest.media_types import detect
from schemas import MAX_K, Answer, Document, Indexed, JobStatus, Progress, Query
from settings import Settings, load_settings

# The least number of passages to search for, so that hit@10 can be counted.
MIN_RANKED = 10
# How long a job is waited for before the workers are looked at.
WAIT_SECONDS = 15.0


def main(arguments: Sequence[str]) -> int:
    """Ask the questions of a file, print the figures and write the report. Returns 1 when hit@5 is below the floor."""
    options = _parser().parse_args(arguments)
    questions = _read(options.file)
    if options.report is not None:
        with _writing(options.report):  # before the questions take minutes
            options.report.open("a").close()
    settings = load_settings()
    outcomes = None
    if not options.index and settings.qdrant_url is None:
        outcomes = asyncio.run(_run_by_worker(questions, settings, k=options.k, within=options.within))
    if outcomes is None:
        with _open_services(settings, options.index) as services:
            outcomes = asyncio.run(run(questions, services, k=options.k, within=options.within))
    summary = summarise(outcomes)
    width = max(len(name) for name, _ in figures(summary))
    for name, value in figures(summary):
        print(f"{name:<{width}}  {value}")
    if options.report is not None:
        with _writing(options.report):
            options.report.write_text(
                html_report(f"Evaluation of {options.file.name}", summary, outcomes), encoding="utf-8"
            )
        print(f"{'report':<{width}}  {options.report}")
    if options.floor is not None and (summary.hit[5] or 0.0) < options.floor:
        print(f"page hit@5 is below the floor of {options.floor:.2f}", file=sys.stderr)
        return 1
    return 0


async def run(questions: Sequence[Question], services: Services, *, k: int, within: bool = False) -> list[Outcome]:
    """Ask each question and return the outcomes. `within` searches only the upload that a question names."""
    try:
        return await _ask_all(questions, _InProcess(services), k=k, within=within)
    finally:
        await close_loop()


async def _run_by_worker(
    questions: Sequence[Question], settings: Settings, *, k: int, within: bool
) -> list[Outcome] | None:
    """Have the worker of a running server answer; None without one. Raises AppError.

    The worker has the embedded store open: a search costs milliseconds there, and 0.7 s here, where it waits its turn.
    """
    queue = await open_queue_with_worker(settings, "rag_queries")
    if queue is None:
        return None
    print("a running server owns the embedded store: its worker answers the questions", file=sys.stderr)
    try:
        return await _ask_all(questions, _ByWorker(queue), k=k, within=within)
    finally:
        await queue.close()


class _Asking(Protocol):
    async def answer(self, query: Query) -> Answer: ...
    async def pages(self, query: Query) -> tuple[tuple[str, int], ...]: ...


@dataclass(frozen=True)
class _InProcess:
    services: Services

    async def answer(self, query: Query) -> Answer:
        retriever, chat, judge = self.services.retriever, self.services.chat, self.services.judge
        return await answer_query(query, retriever=retriever, chat=chat, judge=judge, report=_ignore)

    async def pages(self, query: Query) -> tuple[tuple[str, int], ...]:
        found = await self.services.retriever.retrieve(query.model_copy(update={"k": max(query.k, MIN_RANKED)}))
        return pages_found(found.ranked)


@dataclass(frozen=True)
class _ByWorker:
    queue: JobQueue

    async def answer(self, query: Query) -> Answer:
        job = await self.queue.submit("chat", query.model_copy(update={"cache": False}).payload())
        while not job.status.terminal:
            job = await self.queue.wait(job.job_id, WAIT_SECONDS, until=lambda job: job.status.terminal)
            if job.status is JobStatus.QUEUED and not await has_worker(self.queue, "rag_queries"):
                raise AppError(f"no worker takes questions: run `{commands.script('main.py')} worker`")
        if job.failure is not None:
            raise AppError(job.failure.detail)
        return Answer.model_validate(job.result)

    async def pages(self, query: Query) -> tuple[tuple[str, int], ...]:
        found = await self.answer(query.model_copy(update={"only": "passages", "k": MAX_K}))
        return tuple(dict.fromkeys((source.name, source.page) for source in found.sources))


async def _ask_all(questions: Sequence[Question], asking: _Asking, *, k: int, within: bool) -> list[Outcome]:
    bar = tqdm(questions, desc="asking", unit=" questions", file=sys.stderr, disable=None)
    return [await _ask(question, asking, k=k, within=within) for question in bar]


async def _ask(question: Question, asking: _Asking, *, k: int, within: bool) -> Outcome:
    names = (question.upload,) if within and question.upload else None
    query = Query(query=question.question, k=k, names=names)
    started = time.perf_counter()
    answer = await asking.answer(query)
    seconds = time.perf_counter() - started
    pages = await asking.pages(query)
    return Outcome(question=question, pages=pages[:MAX_K], answer=answer, seconds=seconds)


def index_into(paths: Sequence[Path], services: Services) -> list[Indexed]:
    """Index documents, and the documents in folders, into the store of these services.

    A file that cannot be indexed is reported on standard error and left out.
    """
    converts = services.converter is not None
    discovery = find_documents(paths, converts=converts)
    if discovery.skipped:
        print(discovery.skipped_summary, file=sys.stderr)
    indexed = []
    for file in discovery.files:
        try:
            document = _document(file, converts=converts)
            made = index_document(
                document, services.store, _ignore, limits=services.limits, converter=services.converter
            )
            indexed.append(made)
        except DocumentError as error:
            print(f"left out: {file}: {error.detail}", file=sys.stderr)
    return indexed


@contextmanager
def temporary_services(settings: Settings, paths: Sequence[Path], *, quoting: bool = False) -> Iterator[Services]:
    """Open a temporary embedded store with the documents of `paths` alone; `quoting`: without a chat model."""
    with tempfile.TemporaryDirectory(prefix="rag-eval-") as folder:
        services = open_services(settings, folder=Path(folder), owner=True)
        try:
            index_into(paths, services)
            yield replace(services, chat=None) if quoting else services
        finally:
            services.close()


@contextmanager
def _open_services(settings: Settings, paths: Sequence[Path]) -> Iterator[Services]:
    """Open the store of the settings, or a temporary one when documents are named."""
    if paths:
        with temporary_services(settings, paths) as services:
            yield services
        return
    services = open_services(settings)
    try:
        yield services
    finally:
        services.close()


def _document(file: Path, *, converts: bool) -> Document:
    """Return a file as a document of a new upload. Raises DocumentError."""
    with file_errors(), file.open("rb") as opened:
        media_type = detect(opened, file.name, converts=converts)
    return Document(upload_id=str(uuid.uuid4()), path=str(file), name=file.name, media_type=media_type)


def _read(path: Path) -> list[Question]:
    """Read a file of questions. Raises InvalidRequest for an unreadable, wrong or empty file."""
    try:
        questions = read_questions(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise InvalidRequest([(str(path), f"cannot be read: {error.strerror}")]) from None
    if not questions:
        raise InvalidRequest([(str(path), "holds no question")])
    return questions


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failure to write the report into InvalidRequest, which names the file."""
    try:
        yield
    except OSError as error:
        raise InvalidRequest([(str(path), f"cannot be written: {error.strerror}")]) from None


def _ignore(_progress: Progress) -> None:
    pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py eval", description="Measure answers on questions whose right pages are known."
    )
    parser.add_argument("file", type=Path, help="JSON Lines: question, upload, pages, answer (or `unanswerable`)")
    parser.add_argument(
        "--index", nargs="+", type=Path, default=[], metavar="PATH",
        help="documents, or folders of documents, to search in a temporary store; by default the indexed documents are "
        "searched",
    )  # fmt: skip
    parser.add_argument("--k", type=int, default=6, help="how many passages an answer may cite (default: 6)")
    parser.add_argument("--within", action="store_true", help="search only the upload that the question names")
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report with a plot to this file")
    parser.add_argument("--floor", type=float, help="exit with 1 when page hit@5 is below this share")
    return parser
