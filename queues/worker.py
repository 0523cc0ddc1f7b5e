"""The job functions: plain data in, plain data out. RQ's own workers import this module in a fork for each job.

A function whose name ends in `_async` is the same job as a coroutine. RagWorker runs the coroutine in its event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from client.llm.retries import MAX_CALLS
from client.rq.build_task import BuildStep, BuildTask
from errors import StoreUnavailable
from observability import tracing
from queues import context, stock
from queues.context import JobContext
from queues.jobs import building, indexing
from queues.jobs.answering import answer_question
from queues.jobs.delivery import attempt_delivery
from queues.measuring import JobKind, count_answer, measured, traced
from queues.wiring import check_deployment, close_loop, get_services
from schemas import Indexed, Query, UploadTask
from settings import get_settings
from webhooks.models import DeliveryTask
from webhooks.store import connect

T = TypeVar("T")


def process_query(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a question. Takes a Query and returns an Answer, both as plain data."""
    with _reporting_job("chat", max_calls=MAX_CALLS) as job:
        return _outlasting_outages(job, lambda: asyncio.run(_answer_and_close(payload, job)))


async def process_query_async(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a question as `process_query` does, in the event loop of RagWorker."""
    with _reporting_job("chat", max_calls=MAX_CALLS) as job:
        return await _answer(payload, job)


def process_pdf(payload: dict[str, Any]) -> dict[str, Any]:
    """Index an upload, a PDF or another document. Takes an UploadTask and returns an Indexed, both as plain data."""
    with _reporting_job("index") as job:
        task = UploadTask.model_validate(payload)

        def index() -> Indexed:
            return indexing.index_upload(
                task,
                get_services(),
                job.report,
                job_id=job.job_id or None,
                outlasts_outage=lambda: job.on_store_outage != "fail",
                on_outage=job.wait_for_store,
            )

        indexed = _outlasting_outages(job, index)
        tracing.note_content({"user.id": task.user_id, "rag.document.name": indexed.name})
        return indexed.model_dump(mode="json")


def remove_upload(payload: dict[str, Any]) -> dict[str, Any]:
    """Delete an upload. Takes an UploadTask and returns a Removed, both as plain data."""
    with _reporting_job("remove") as job:
        task = UploadTask.model_validate(payload)
        removed = _outlasting_outages(job, lambda: indexing.remove_upload(task, get_services()))
        return removed.model_dump(mode="json")


def build_index(payload: dict[str, Any]) -> dict[str, Any]:
    """Do a step of building a version of the index. Takes a BuildTask and returns a BuildStep, both as plain data."""
    with _reporting_job("build") as job:
        task, services = BuildTask.model_validate(payload), get_services()

        def run() -> BuildStep:
            if not task.begin:
                return building.run_step(services, job.report, job_id=job.job_id or None)
            building.begin_build(services, again=task.again)
            return BuildStep()

        step = _outlasting_outages(job, run)
        if job.valkey is not None:
            if task.begin:
                building.start_steps(services, job.valkey)
            elif step.more:
                building.submit_next(services, job.valkey, job_id=job.job_id)
        return step.model_dump(mode="json")


def deliver_webhook(payload: dict[str, Any]) -> dict[str, Any]:
    """Try to deliver a webhook once. Takes a DeliveryTask as plain data; returns the status of the delivery."""
    with _running_job("webhook") as job:
        settings = get_settings()
        task = DeliveryTask.model_validate(payload)
        valkey = connect(settings.queue_url) if job.valkey is None else job.valkey
        return {"status": attempt_delivery(task, valkey, settings, origin=job.origin)}


async def _answer(payload: dict[str, Any], job: JobContext) -> dict[str, Any]:
    query = Query.model_validate(payload)
    answer = await answer_question(query, job, get_services(), get_settings())
    if query.only is None:
        count_answer(answer)
    return answer.payload()


async def _answer_and_close(payload: dict[str, Any], job: JobContext) -> dict[str, Any]:
    try:
        return await _answer(payload, job)
    finally:
        await close_loop()


def _outlasting_outages(job: JobContext, run: Callable[[], T]) -> T:
    """Run a job; where the job waits for the vector store inside, run it again once the store answers."""
    while True:
        try:
            return run()
        except StoreUnavailable as outage:
            if job.on_store_outage != "wait":
                raise
            job.wait_for_store(outage)


@contextmanager
def _running_job(kind: JobKind) -> Iterator[JobContext]:
    job = context.current_job() or stock.current_job()
    with traced(job), measured(kind, job), job.running():
        yield job


@contextmanager
def _reporting_job(kind: JobKind, *, max_calls: int | None = None) -> Iterator[JobContext]:
    with _running_job(kind) as job, job.reporting(max_calls=max_calls):
        check_deployment(job.valkey)
        yield job
