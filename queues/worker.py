"""The jobs. Plain data in, plain data out; a stock RQ worker imports this module in a fork for each one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rq import get_current_job
from rq.job import Job
from rq.timeouts import JobTimeoutException

from client.webhook_records import DeliveryTask
from client.webhook_store import connect
from errors import AppError, JobTimedOut
from queues.deliveries import attempt_delivery
from queues.services import services
from rag.answer import answer_query
from rag.ingestion import index_pdf
from schemas import Document, Progress, Query
from settings import get_settings

PROGRESS_SECONDS = 0.25


def process_query(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a question. Takes a Query and returns an Answer, both as plain data."""
    with _run() as report:
        query = Query.model_validate(payload)
        use = services()
        answer = answer_query(query, searcher=use.store, chat=use.chat, terms=use.lexicon.terms, report=report)
        return answer.model_dump(mode="json")


def process_pdf(payload: dict[str, Any]) -> dict[str, Any]:
    """Index a document. Takes a Document and returns an Indexed, both as plain data."""
    with _run() as report:
        document = Document.model_validate(payload)
        return index_pdf(document, services().store, report).model_dump(mode="json")


def deliver_webhook(payload: dict[str, Any]) -> dict[str, Any]:
    """Try to deliver a webhook once. Takes a DeliveryTask as plain data; returns what became of it."""
    job, settings = get_current_job(), get_settings()
    valkey = connect(settings.queue_url) if job is None else job.connection
    return {"status": attempt_delivery(DeliveryTask.model_validate(payload), valkey, settings)}


@contextmanager
def _run() -> Iterator[Callable[[Progress], None]]:
    """Give a job a way to report progress, and keep on it, as a sentence, why it failed."""
    job = get_current_job()
    try:
        yield _reporter(job)
    except AppError as error:
        _keep(job, failure={"code": _code(error), "detail": error.detail})
        raise
    except JobTimeoutException:
        timed_out = JobTimedOut(f"the job ran longer than {job.timeout if job else 0} s (JOB_TIMEOUT_SECONDS)")
        _keep(job, failure={"code": _code(timed_out), "detail": timed_out.detail})
        raise
    except Exception:
        _keep(job, failure={"code": "internal", "detail": "the job failed inside; the worker's log says why"})
        raise


def _reporter(job: Job | None) -> Callable[[Progress], None]:
    """Return a function that writes progress to the job, at most four times a second but never missing a stage."""
    last = Progress(stage="")
    written_at = 0.0

    def report(progress: Progress) -> None:
        nonlocal last, written_at
        now = time.monotonic()
        if progress.stage != last.stage or now - written_at >= PROGRESS_SECONDS:
            _keep(job, progress=progress.model_dump(mode="json", exclude_none=True))
            last, written_at = progress, now

    return report


def _keep(job: Job | None, **values: dict[str, Any]) -> None:
    if job is not None:
        job.meta.update(values)
        job.save_meta()  # type: ignore[no-untyped-call]


def _code(error: AppError) -> str:
    """Turn a class name into a code: NothingIndexed becomes nothing_indexed."""
    name = type(error).__name__
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).removeprefix("_")
