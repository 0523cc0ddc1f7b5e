"""The jobs. Plain data in, plain data out; a stock RQ worker imports this module in a fork for each one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rq import get_current_job
from rq.job import Job
from rq.timeouts import JobTimeoutException

from client.llm.deadline import job_deadline
from client.llm.retries import MAX_CALLS
from client.rq.event_stream import EventWriter
from errors import AppError, JobTimedOut
from observability import logs
from queues.jobs import indexing as documents
from queues.jobs.answering import answer_in_context
from queues.jobs.delivery import attempt_delivery
from queues.ragworker.execution import RagJob
from queues.stock import Hold, holding
from queues.wiring import services
from schemas import Answer, Progress, Query, UploadTask
from settings import get_settings
from webhooks.models import DeliveryTask
from webhooks.store import connect

log = logging.getLogger("queues")

PROGRESS_SECONDS = 0.25


def process_query(payload: dict[str, Any]) -> dict[str, Any]:
    """Answer a question. Takes a Query and returns an Answer, both as plain data."""
    with _run(max_calls=MAX_CALLS) as report:
        query = Query.model_validate(payload)
        logs.content(log, "asked", question=query.query)
        use = services()
        documents.require_ready(query, use)
        job = get_current_job()
        _require_tokens(query.user_id, job)
        waited = _waited_seconds(job)
        answer = answer_in_context(
            query,
            use,
            get_settings(),
            valkey=job.connection if job else None,
            job_id=job.id if job else "",
            report=report,
            say=lambda text: report.event("token", {"text": text}),
            void=report.begin_anew,
        )
        _count_tokens(answer, query.user_id, job)
        checked = answer.model_dump(mode="json", include={"sources", "answered", "unsupported", "links"})
        report.event("sources", checked)
        logs.content(log, "answered", answer=answer.text)
        return answer.model_copy(update={"times": waited | answer.times}).model_dump(mode="json")


def process_pdf(payload: dict[str, Any]) -> dict[str, Any]:
    """Index an upload, a PDF or another document. Takes an UploadTask and returns an Indexed, both as plain data."""
    with _run() as report:
        task = UploadTask.model_validate(payload)
        return documents.index_upload(task, services(), report, job_id=_job_id()).model_dump(mode="json")


def remove_upload(payload: dict[str, Any]) -> dict[str, Any]:
    """Delete an upload. Takes an UploadTask and returns a Removed, both as plain data."""
    with _run():
        return documents.remove_upload(UploadTask.model_validate(payload), services()).model_dump(mode="json")


def deliver_webhook(payload: dict[str, Any]) -> dict[str, Any]:
    """Try to deliver a webhook once. Takes a DeliveryTask as plain data; returns what became of it."""
    job, settings = get_current_job(), get_settings()
    with _told(job):
        valkey = connect(settings.queue_url) if job is None else job.connection
        return {"status": attempt_delivery(DeliveryTask.model_validate(payload), valkey, settings)}


def _require_tokens(user_id: str, job: Job | None) -> None:
    """Make sure that tokens of the day are left: many questions may have been taken in while there were."""
    most = get_settings().tokens_per_day
    if most is not None and job is not None:
        from auth.token_budget import require  # 40 ms that a stock worker would pay for each job

        require(job.connection, user_id=user_id, most=most)


def _count_tokens(answer: Answer, user_id: str, job: Job | None) -> None:
    """Count what an answer cost, where that has a limit."""
    most = get_settings().tokens_per_day
    if most is not None and job is not None and answer.usage is not None:
        from auth.token_budget import spend  # 40 ms that a stock worker would pay for each job

        spend(job.connection, user_id=user_id, tokens=answer.usage.total_tokens, most=most)


def _job_id() -> str | None:
    job = get_current_job()
    return job.id if job is not None else None


def _waited_seconds(job: Job | None) -> dict[str, float]:
    """Return how long a job was on its queue, as the time of the stage `queue`."""
    if job is None or job.enqueued_at is None:
        return {}
    return {"queue": round(max(0.0, (datetime.now(UTC) - job.enqueued_at).total_seconds()), 4)}


@contextmanager
def _run(*, max_calls: int | None = None) -> Iterator[_Reporter]:
    """Give a job a way to report progress, and keep on it, as a sentence, why it failed."""
    job = get_current_job()
    with _told(job) as hold, _reported(job, hold, max_calls=max_calls) as report:
        yield report


@contextmanager
def _told(job: Job | None) -> Iterator[Hold | None]:
    """Put the job's id on every line of the log. Under a worker that is not ours hold the job, and say how it ended."""
    if job is None:
        yield None
        return
    logs.configure_once(get_settings)
    started, outcome = time.monotonic(), "failed"
    with logs.bound(job_id=job.id, queue=job.origin):
        if isinstance(job, RagJob):  # RagWorker sees to all that
            yield None
            return
        try:
            with holding(job) as hold:
                yield hold
            outcome = "finished"
        finally:
            seconds = round(time.monotonic() - started, 3)
            log.info("job %s %s", job.id, outcome, extra=logs.fields(outcome=outcome, seconds=seconds))


@contextmanager
def _reported(job: Job | None, hold: Hold | None, *, max_calls: int | None) -> Iterator[_Reporter]:
    events = _events(job, hold)
    try:
        with job_deadline(job.timeout if job and job.timeout else None, max_calls=max_calls) as deadline:
            if hold is not None:
                hold.attach(deadline)
            yield _Reporter(job, events)
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
    finally:
        if events is not None:
            events.close()


def _events(job: Job | None, hold: Hold | None) -> EventWriter | None:
    """Begin the events of this attempt at a job."""
    if job is None:
        return None
    ttl = job.result_ttl if job.result_ttl is not None else get_settings().result_ttl_seconds
    begin = partial(getattr, job, "attempt") if isinstance(job, RagJob) else hold.begin if hold else None
    events = EventWriter(job.connection, job.id, result_ttl_seconds=ttl, begin=begin)
    events.start()
    logs.bind(attempt=events.attempt)
    return events


class _Reporter:
    """Writes progress to the job, at most four times a second but never missing a stage, and to its events."""

    def __init__(self, job: Job | None, events: EventWriter | None) -> None:
        self._job = job
        self._events = events
        self._last = Progress(stage="")
        self._written_at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._last.stage or now - self._written_at >= PROGRESS_SECONDS:
            seen = progress.model_dump(mode="json", exclude_none=True)
            _keep(self._job, progress=seen)
            self.event("progress", seen)
            self._last, self._written_at = progress, now

    def begin_anew(self) -> None:
        """Have the events say that the tokens so far are void."""
        if self._events is not None:
            self._events.start()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        """Append to the events of the job."""
        if self._events is not None:
            self._events.write(kind, data)


def _keep(job: Job | None, **values: dict[str, Any]) -> None:
    if job is not None:
        job.meta.update(values)
        job.save_meta()  # type: ignore[no-untyped-call]


def _code(error: AppError) -> str:
    """Turn a class name into a code: NothingIndexed becomes nothing_indexed."""
    name = type(error).__name__
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).removeprefix("_")
