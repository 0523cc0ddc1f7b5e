"""Measure answers on questions whose right pages are known: `python main.py eval FILE`"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from errors import DocumentError, InvalidRequest
from queues.wiring import Services, open_services
from rag.answer.pipeline import answer_query
from rag.eval.metrics import Outcome, Question, pages_found, read_questions, summarise
from rag.eval.report import figures, html_report
from rag.ingest.indexing import index_document
from schemas import MAX_K, Answer, Document, Indexed, Progress, Query
from settings import Settings, load_settings

# Pages counted by hit@10 must be asked for.
RANKED = 10


def main(arguments: Sequence[str]) -> int:
    """Run the questions of a file, print the figures and write the report. 1 when a floor was not reached."""
    options = _parser().parse_args(arguments)
    questions = _read(options.file)
    settings = load_settings()
    with _services(settings, options.index) as use:
        outcomes = run(questions, use, k=options.k, within=options.within)
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


def run(questions: Sequence[Question], use: Services, *, k: int, within: bool = False) -> list[Outcome]:
    """Ask each question and keep what came of it. `within`: search only the upload that the question names."""
    outcomes = []
    for question in questions:
        names = (question.upload,) if within and question.upload else None
        query = Query(query=question.question, k=k, names=names)
        started = time.perf_counter()
        answer = _answer(query, use)
        seconds = time.perf_counter() - started
        found = use.retriever.retrieve(query.model_copy(update={"k": max(k, RANKED)}))
        outcomes.append(
            Outcome(question=question, found=pages_found(found.ranked)[:MAX_K], answer=answer, seconds=seconds)
        )
    return outcomes


def index_into(paths: Sequence[Path], use: Services) -> list[Indexed]:
    """Index PDFs and folders of PDFs into the store of these services."""
    files = [file for path in paths for file in (sorted(path.rglob("*.pdf")) if path.is_dir() else [path])]
    done = []
    for file in files:
        document = Document(upload_id=str(uuid.uuid4()), path=str(file.resolve()), name=file.name)
        try:
            done.append(index_document(document, use.store, _silent, limits=use.limits))
        except DocumentError as error:
            print(f"left out: {file}: {error.detail}", file=sys.stderr)
    return done


@contextmanager
def temporary_services(settings: Settings, paths: Sequence[Path], *, quoting: bool = False) -> Iterator[Services]:
    """Open an embedded store of its own that holds just these PDFs, gone at the end; `quoting` uses no chat model."""
    with tempfile.TemporaryDirectory(prefix="rag-eval-") as folder:
        use = open_services(settings, folder=Path(folder), owner=True)
        try:
            index_into(paths, use)
            yield replace(use, chat=None) if quoting else use
        finally:
            use.close()


@contextmanager
def _services(settings: Settings, paths: Sequence[Path]) -> Iterator[Services]:
    if paths:
        with temporary_services(settings, paths) as use:
            yield use
        return
    use = open_services(settings)
    try:
        yield use
    finally:
        use.close()


def _answer(query: Query, use: Services) -> Answer:
    return answer_query(
        query, retriever=use.retriever, chat=use.chat, report=_silent, embedding_model=use.embedding_model
    )


def _read(path: Path) -> list[Question]:
    try:
        questions = read_questions(path.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise InvalidRequest([(str(path), f"cannot be read: {error.strerror}")]) from None
    if not questions:
        raise InvalidRequest([(str(path), "holds no question")])
    return questions


def _silent(_progress: Progress) -> None:
    pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py eval", description="Measure answers on questions whose right pages are known."
    )
    parser.add_argument("file", type=Path, help="JSON Lines: question, upload, pages, answer (or `unanswerable`)")
    parser.add_argument(
        "--index", nargs="+", type=Path, default=[], metavar="PATH",
        help="PDFs or folders to search, in a store of their own; else what is indexed is searched",
    )  # fmt: skip
    parser.add_argument("--k", type=int, default=6, help="how many passages an answer may stand on (default: 6)")
    parser.add_argument("--within", action="store_true", help="search only the upload that the question names")
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report with a plot to this file")
    parser.add_argument("--floor", type=float, help="exit with 1 when page hit@5 is below this share")
    return parser
