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
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from documents.discovery import find_documents
from errors import DocumentError, InvalidRequest
from queues.wiring import Services, close_loop, open_services
from rag.answer.pipeline import answer_query
from rag.eval.metrics import Outcome, Question, pages_found, read_questions, summarise
from rag.eval.report import figures, html_report
from rag.ingest.extraction import file_errors
from rag.ingest.indexing import index_document
from rag.ingest.media_types import detect
from schemas import MAX_K, Answer, Document, Indexed, Progress, Query
from settings import Settings, load_settings

# The least number of passages to search for, so that hit@10 can be counted.
MIN_RANKED = 10


def main(arguments: Sequence[str]) -> int:
    """Ask the questions of a file, print the figures and write the report. Returns 1 when hit@5 is below the floor."""
    options = _parser().parse_args(arguments)
    questions = _read(options.file)
    with _open_services(load_settings(), options.index) as services:
        outcomes = asyncio.run(run(questions, services, k=options.k, within=options.within))
    summary = summarise(outcomes)
    width = max(len(name) for name, _ in figures(summary))
    for name, value in figures(summary):
        print(f"{name:<{width}}  {value}")
    if options.report is not None:
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
        bar = tqdm(questions, desc="asking", unit=" questions", file=sys.stderr, disable=None)
        return [await _ask(question, services, k=k, within=within) for question in bar]
    finally:
        await close_loop()


async def _ask(question: Question, services: Services, *, k: int, within: bool) -> Outcome:
    names = (question.upload,) if within and question.upload else None
    query = Query(query=question.question, k=k, names=names)
    started = time.perf_counter()
    answer = await _answer(query, services)
    seconds = time.perf_counter() - started
    result = await services.retriever.retrieve(query.model_copy(update={"k": max(k, MIN_RANKED)}))
    return Outcome(question=question, pages=pages_found(result.ranked)[:MAX_K], answer=answer, seconds=seconds)


def index_into(paths: Sequence[Path], services: Services) -> list[Indexed]:
    """Index documents, and the documents in folders, into the store of these services.

    A file that cannot be indexed is reported on standard error and left out.
    """
    discovery = find_documents(paths)
    if discovery.skipped:
        print(discovery.skipped_summary, file=sys.stderr)
    indexed = []
    for file in discovery.files:
        try:
            indexed.append(index_document(_document(file), services.store, _ignore, limits=services.limits))
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


def _document(file: Path) -> Document:
    """Return a file as a document of a new upload. Raises DocumentError."""
    with file_errors(), file.open("rb") as opened:
        media_type = detect(opened, file.name)
    return Document(upload_id=str(uuid.uuid4()), path=str(file), name=file.name, media_type=media_type)


async def _answer(query: Query, services: Services) -> Answer:
    return await answer_query(
        query,
        retriever=services.retriever,
        chat=services.chat,
        judge=services.judge,
        report=_ignore,
    )


def _read(path: Path) -> list[Question]:
    """Read a file of questions. Raises InvalidRequest for an unreadable, wrong or empty file."""
    try:
        questions = read_questions(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise InvalidRequest([(str(path), f"cannot be read: {error.strerror}")]) from None
    if not questions:
        raise InvalidRequest([(str(path), "holds no question")])
    return questions


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
