"""What is counted and traced of each job, under every kind of worker: its times, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from client.llm.deadline import current_deadline
from client.rq.records import QUEUES
from client.rq.submit import messaging_attributes
from client.valkey.counts import store_counts_of_job
from errors import AppError, JobCancelled, JobStopped, JobTimedOut, StoreUnavailable
from observability import logs, metrics, tracing
from observability.spans import Attributes
from queues.context import JobContext, error_code
from schemas import Answer
from settings import get_settings

JobKind = Literal["chat", "index", "remove", "build", "webhook"]
INTERNAL = "internal"
# A job that another worker has, or that goes back to its queue, has not ended.
_NOT_ENDED = {"taken over", "handed back"}


@contextmanager
def measured(kind: JobKind, job: JobContext) -> Iterator[None]:
    """Count the job that the block runs, and store the counts if this process does not do so anyway.

    The span around the block, if there is one, is told how the job ended.
    """
    started = time.monotonic()
    queued = job.seconds_queued()
    outcome, code = "finished", ""
    try:
        yield
    except BaseException as error:
        outcome, code = _end_of(error, job)
        raise
    finally:
        if job.job_id:
            if queued is not None:
                metrics.observe(metrics.JOB_SECONDS, queued, kind, "queue", outcome)
            metrics.observe(metrics.JOB_SECONDS, time.monotonic() - started, kind, "run", outcome)
            if kind == "chat" and outcome not in {"finished", *_NOT_ENDED}:
                metrics.count(metrics.ANSWERS, outcome, code)
            tracing.current_span().set({"rag.job.outcome": outcome, "rag.job.failure": code or None})
            store_counts_of_job(job.valkey)


@contextmanager
def traced(job: JobContext) -> Iterator[None]:
    """Trace the attempt at a job that the block makes, as part of the trace that submitted the job."""
    tracing.configure_once(get_settings)
    if not tracing.enabled() or not job.job_id:
        yield
        return
    origin, name = job.origin, f"process {job.queue}"
    parent, link = origin.traceparent, origin.attempt_traceparent
    with tracing.span(name, _span_of(job), kind="consumer", root=True, parent=parent, link=link) as span:
        job.enter_span(span)
        with logs.context(trace_id=span.trace_id):
            yield


def _span_of(job: JobContext) -> Attributes:
    return {
        **messaging_attributes("process", job.queue, job.job_id),
        "rag.request_id": job.request_id,
        "rag.job.seconds_queued": job.seconds_queued(),
    }


def count_answer(answer: Answer) -> None:
    """Count an answer by its outcome, and the times of its stages."""
    for stage, seconds in answer.times.items():
        if stage != "queue":
            metrics.observe(metrics.JOB_SECONDS, seconds, "chat", stage, "finished")
    metrics.count(metrics.ANSWERS, _outcome_of(answer), "")


def count_lost_job(queue: str, code: str) -> None:
    """Count a job that failed without a run that could count it, such as one whose workers died."""
    if queue == QUEUES["chat"]:
        metrics.count(metrics.ANSWERS, "failed", code)


def _outcome_of(answer: Answer) -> str:
    if answer.incomplete is not None:
        return "cut"
    if answer.answered:
        return "answered"
    return "unsupported" if answer.unsupported else "refused"


def _end_of(error: BaseException, job: JobContext) -> tuple[str, str]:
    """Return how a job ends that raises this error, and the code of its failure."""
    if isinstance(error, asyncio.CancelledError):  # a question is cancelled when its deadline is stopped, or is over
        try:
            current_deadline().check()
        except AppError as reason:
            error = reason
    if isinstance(error, JobCancelled):
        return "cancelled", ""
    if isinstance(error, JobStopped | asyncio.CancelledError):
        return "taken over", ""
    if isinstance(error, StoreUnavailable) and job.on_store_outage == "hand back":
        return "handed back", ""
    if type(error).__name__ == "JobTimeoutException":  # RQ's own
        return "failed", error_code(JobTimedOut)
    return "failed", error_code(type(error)) if isinstance(error, AppError) else INTERNAL
