"""The job queue: submit, read, watch and cancel jobs. The parts are in `client.rq`.

Jobs are written as RQ 2.12 writes them, so that stock workers run them. Reading a job takes one round trip and never
unpickles more than plain data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from redis.asyncio.client import Pipeline

from client.rq.backlog import RETRY_AFTER_SECONDS, count_waiting, reserve_slots
from client.rq.cancel import cancel
from client.rq.delete import delete_ended
from client.rq.dependencies import release_dependents, release_stranded
from client.rq.event_stream import PAGE_EVENTS, JobNotifier, parse_events
from client.rq.idempotency import IdempotencyStore, IdempotentRequest
from client.rq.ids import id_created_at, new_id
from client.rq.listing import JobIndex
from client.rq.new_job import NewJob
from client.rq.origin import present_origin
from client.rq.outbox import Callback
from client.rq.records import FUNCTIONS, QUEUES, Kind, add_reads, read_payload, read_replies
from client.rq.status import QueueState, read_states
from client.rq.submit import SUBMIT, Submission, sending_span
from client.valkey import keys
from client.valkey.condition import ValkeyCondition, read_condition
from client.valkey.connection import none_for_wrong_type, valkey_call
from client.valkey.deployment import as_id
from client.valkey.multiplexed import open_multiplexed
from client.valkey.store_outage import incomplete_uploads, outage_since
from errors import EventsUnreadable, JobExpired, JobNotFound, QueueUnavailable, TooManyJobs, rate_limit_headers
from schemas import Event, JobStatus, JobView, Priority
from settings import Settings

# Deferred jobs are read in pages of this size.
STRANDED_PAGE = 500
MAX_STRANDED_PAGES = 20
# An owner's limit counts the waiting jobs of these queues.
COUNTED_QUEUES = (QUEUES["chat"], QUEUES["document"])
# The number of jobs that ended in this time gives the rate of a queue.
RATE_SECONDS = 60.0
# How long `cancel` waits for the worker of a running job to stop it.
STOP_SECONDS = 1.0


class JobQueue:
    """The queues of one Valkey server. Connects on first use; safe for many tasks of one event loop.

    `ingestion_timeout_seconds` replaces `job_timeout_seconds` for document jobs; None: both are the same.
    """

    def __init__(
        self,
        url: str,
        *,
        job_timeout_seconds: int,
        result_ttl_seconds: int,
        ingestion_timeout_seconds: int | None = None,
    ) -> None:
        self._timeouts = {"document": ingestion_timeout_seconds or job_timeout_seconds}
        self._job_timeout_seconds = job_timeout_seconds
        self._result_ttl_seconds = result_ttl_seconds
        self.valkey = open_multiplexed(url)
        self.notifier = JobNotifier(self.valkey)
        self.job_index = JobIndex(self.valkey, ttl_seconds=result_ttl_seconds)
        self.idempotency = IdempotencyStore(self.valkey)
        self._stranded_skip = 0

    @classmethod
    def from_settings(cls, settings: Settings, url: str) -> JobQueue:
        """Return the queues at `url`, with the time-outs and the retention of the settings."""
        return cls(
            url,
            job_timeout_seconds=settings.job_timeout_seconds,
            result_ttl_seconds=settings.result_ttl_seconds,
            ingestion_timeout_seconds=settings.ingestion_timeout_seconds,
        )

    async def submit(
        self,
        kind: Kind,
        payload: dict[str, Any],
        *,
        priority: Priority = Priority.NORMAL,
        owner: str = "local",
        function: str | None = None,
        job_id: str | None = None,
        after: Sequence[str] = (),
        callback: Callback | None = None,
        idempotency: IdempotentRequest | None = None,
        conversation_id: str | None = None,
        max_waiting: int | None = None,
    ) -> JobView:
        """Put a job of `owner` on its queue in one atomic step and return it.

        `payload`: plain data, the only argument of the job's function. `function`: that function's dotted name; None:
        FUNCTIONS[kind]. `job_id`: an id made before; a job that exists under this id is left as it is.
        `after`: jobs that have to end first, well or not. `conversation_id`: the owner's previous job in that
        conversation has to end first, too.
        `callback`: a URL to notify of the job's end, in addition to the owner's endpoints.
        `idempotency`: a repeated request returns the job of the first request.
        `max_waiting`: the job is refused when more than this many of the owner's jobs would wait.
        Raises IdempotencyConflict, JobExpired, TooManyJobs, QueueUnavailable.
        """
        if idempotency is not None:
            job_id = await self.idempotency.reserve(idempotency, new_id())
            # The job of an earlier request may have run, and its result may have expired.
            if self._may_have_expired(created_at := id_created_at(job_id)):
                raise self._missing(job_id, created_at)
        job_id = job_id or new_id()
        with sending_span(QUEUES[kind], job_id=job_id):
            job = self._job(kind, payload, function=function, job_id=job_id)
            if max_waiting is not None:
                await self.reserve_slots(owner, [job.id], kind, max_waiting=max_waiting)
            submission = Submission(job, owner, priority, after, conversation_id, callback)
            await self._submit([submission])
        return _submitted(job, kind)

    async def find_earlier(self, idempotency: IdempotentRequest) -> str | None:
        """Return the id of the job of an earlier, equal request; None if that request left no job, or never came.

        Raises IdempotencyConflict, JobExpired, QueueUnavailable.
        """
        job_id = await self.idempotency.find(idempotency)
        if job_id is None:
            return None
        try:
            await self.fetch(job_id)
        except JobNotFound:
            return None
        return job_id

    async def submit_many(
        self,
        kind: Kind,
        payloads: Sequence[dict[str, Any]],
        *,
        priority: Priority = Priority.NORMAL,
        owner: str = "local",
        callbacks: Sequence[Callback] | None = None,
        job_ids: Sequence[str] | None = None,
        max_waiting: int | None = None,
    ) -> list[JobView]:
        """Put jobs on their queue, each in one atomic step, and return them in order.

        `job_ids`: ids that were made before. `max_waiting`: as for `submit`; all jobs are accepted or all refused.
        Raises TooManyJobs, QueueUnavailable.
        """
        ids = job_ids or [new_id() for _ in payloads]
        with sending_span(QUEUES[kind], count=len(ids)):
            jobs = [self._job(kind, payload, job_id=job_id) for payload, job_id in zip(payloads, ids, strict=True)]
            if max_waiting is not None:
                await self.reserve_slots(owner, ids, kind, max_waiting=max_waiting)
            job_callbacks: Sequence[Callback | None] = callbacks or [None] * len(jobs)
            await self._submit(
                [Submission(job, owner, priority, callback=each) for job, each in zip(jobs, job_callbacks, strict=True)]
            )
        return [_submitted(job, kind) for job in jobs]

    async def deployment(self) -> str | None:
        """Return the id of the deployment whose Valkey this is; None if it has none. Raises QueueUnavailable."""
        async with valkey_call():
            return as_id(cast("bytes | None", await self.valkey.get(keys.DEPLOYMENT)))

    async def count_waiting(self, owner: str) -> int:
        """Count the owner's questions and documents that wait. Raises QueueUnavailable."""
        async with valkey_call():
            return await count_waiting(self.valkey, owner, COUNTED_QUEUES)

    async def reserve_slots(self, owner: str, job_ids: Sequence[str], kind: Kind, *, max_waiting: int) -> None:
        """Reserve slots for jobs that will be submitted with these ids. Raises TooManyJobs if too many would wait.

        For jobs that are submitted in several calls but accepted as a whole. One call of `submit` or `submit_many` can
        be given `max_waiting` itself.
        """
        async with valkey_call():
            reserved = await reserve_slots(
                self.valkey, owner, job_ids, queue=QUEUES[kind], max_waiting=max_waiting, queues=COUNTED_QUEUES
            )
        if not reserved:
            raise too_many_jobs(max_waiting)

    async def _submit(self, submissions: Sequence[Submission]) -> None:
        calls = [submission.call(result_ttl_seconds=self._result_ttl_seconds) for submission in submissions]

        def fill(pipeline: Pipeline) -> None:
            for script_keys, arguments in calls:
                SUBMIT.add_to(pipeline, script_keys, arguments)

        # A call whose reply was lost is repeated. The script then finds the job, and does nothing.
        async with valkey_call():
            if len(calls) == 1:
                await SUBMIT.call_async(self.valkey, *calls[0])
            else:
                await SUBMIT.transaction_async(self.valkey, fill)

    async def release_stranded(self, *, waiting_seconds: float) -> int:
        """Enqueue questions that have waited this long for jobs that have ended; return how many.

        One call reads at most 10,000 deferred questions; the next call continues there. Raises QueueUnavailable.
        """
        queue, before, released = QUEUES["chat"], time.time() - waiting_seconds, 0
        for _ in range(MAX_STRANDED_PAGES):
            async with valkey_call():
                count, self._stranded_skip = await release_stranded(
                    self.valkey, queue, before=before, skip=self._stranded_skip, limit=STRANDED_PAGE
                )
            released += count
            if not self._stranded_skip:
                break
        return released

    async def fetch(self, job_id: str, *, owner: str | None = None) -> JobView:
        """Read a job; with `owner`, only a job of that owner.

        Raises JobNotFound, also for another owner's job, JobExpired, QueueUnavailable.
        """
        id_created_at(job_id)  # raises for a malformed id
        async with valkey_call():
            pipeline = self.valkey.pipeline(transaction=False)
            add_reads(pipeline, job_id)
            job = self._job_of(job_id, none_for_wrong_type(await pipeline.execute(raise_on_error=False)), owner)
            return await self._with_position(job) if job.status is JobStatus.QUEUED else job

    async def fetch_with_payload(self, job_id: str, *, owner: str | None = None) -> tuple[JobView, dict[str, object]]:
        """Read a job, without its position, and its payload; empty if unreadable. Raises as `fetch` does."""
        id_created_at(job_id)  # raises for a malformed id
        async with valkey_call():
            pipeline = self.valkey.pipeline(transaction=False)
            add_reads(pipeline, job_id)
            pipeline.hget(keys.job(job_id), "data")
            *replies, data = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
        return self._job_of(job_id, replies, owner), read_payload(data)

    def _job_of(self, job_id: str, replies: Sequence[Any], owner: str | None) -> JobView:
        """Return a job from the replies to `add_reads`. Raises as `fetch` does."""
        created_at = id_created_at(job_id)
        values, results = replies
        job = None if values is None else read_replies(job_id, values, results or ())
        if job is None or owner not in {None, job.owner}:
            raise self._missing(job_id, created_at)
        return job

    async def _with_position(self, job: JobView) -> JobView:
        """Add a waiting job's position, and how long it may wait at the rate at which jobs ended in the last minute."""
        name = QUEUES[job.kind]
        pipeline = self.valkey.pipeline(transaction=False)
        pipeline.lpos(keys.queue(name), job.job_id)
        # The registry's scores are expiries: the end of each job plus the retention.
        since = time.time() - RATE_SECONDS + self._result_ttl_seconds
        pipeline.zcount(keys.registry("finished", name), since, "+inf")
        index, ended = await pipeline.execute()
        if index is None:
            return job
        wait = (index + 1) * RATE_SECONDS / ended if ended else None
        return job.model_copy(update={"position": index + 1, "expected_wait_seconds": wait and round(wait, 1)})

    async def fetch_events(self, job_id: str, after: str, *, owner: str | None = None) -> tuple[JobView, list[Event]]:
        """Read a job, without its position, and up to PAGE_EVENTS of its events after the id `after`, oldest first.

        The job is read before its events: if it has ended, no event is missing. Raises EventsUnreadable, and what
        `fetch` raises.
        """
        id_created_at(job_id)  # raises for a malformed id
        async with valkey_call():
            pipeline = self.valkey.pipeline(transaction=False)
            add_reads(pipeline, job_id)
            pipeline.xrange(keys.events(job_id), min=f"({after}", count=PAGE_EVENTS)
            *replies, entries = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
        job = self._job_of(job_id, replies, owner)
        if entries is None:
            raise EventsUnreadable(
                f"the events of job {job_id} cannot be read: another program has changed them in Valkey; "
                f"GET /result/{job_id} returns how the job ended"
            )
        return job, parse_events(entries)

    async def wait(
        self, job_id: str, seconds: float, *, owner: str | None = None, until: Callable[[JobView], bool]
    ) -> JobView:
        """Return a job as soon as `until` is true for it, or when the time is up or this process is about to end.

        Events wake the call, so nothing is polled. `owner`: as for `fetch`. Raises what `fetch` raises; while Valkey is
        away, the call waits for its return, and raises QueueUnavailable only when the time is up.
        """
        end_at = time.monotonic() + seconds
        with self.notifier.subscribe(job_id) as subscription:
            first = True
            while True:
                try:
                    job = await self.fetch(job_id, owner=owner)
                    if until(job) or time.monotonic() >= end_at or self.notifier.closing:
                        return job
                    if first and job.status is JobStatus.STARTED:
                        subscription.poll_soon()
                    first = False
                except QueueUnavailable:
                    if time.monotonic() >= end_at or self.notifier.closing:
                        raise
                    self.notifier.wake_on_return(subscription)
                await subscription.wait(end_at - time.monotonic())

    async def cancel(self, job_id: str, *, owner: str | None = None) -> JobView:
        """Cancel a job and read it: a waiting job never runs, a running job is stopped, an ended job stays as it is.

        A worker may take a moment to stop a running job, so that the returned job can still be `started`.
        """
        job = await self.fetch(job_id, owner=owner)
        if job.status.terminal:
            return job
        async with valkey_call():
            await cancel(self.valkey, job_id, queue=QUEUES[job.kind], ttl_seconds=self._result_ttl_seconds)
        cancelled = await self.wait(job_id, STOP_SECONDS, until=lambda job: job.status.terminal)
        if cancelled.status.terminal:  # a stock worker does not release the dependents of a job that it stops
            async with valkey_call():
                await release_dependents(self.valkey, job_id)
        return cancelled

    async def delete(self, job_id: str, *, owner: str | None = None) -> bool:
        """Cancel a job and delete all of it; False while its worker runs or its webhooks wait. Raises as `fetch`."""
        job = await self.cancel(job_id, owner=owner)
        async with valkey_call():
            return await delete_ended(self.valkey, job_id, queue=QUEUES[job.kind])

    async def states(self) -> list[QueueState]:
        """Read each queue: how many jobs wait, and which workers listen. Raises QueueUnavailable."""
        async with valkey_call():
            return await read_states(self.valkey, list(QUEUES.values()))

    async def condition(self) -> ValkeyCondition:
        """Return the state of the server. Raises QueueUnavailable, also for a server that takes no jobs."""
        async with valkey_call():
            return await read_condition(self.valkey)

    async def store_away_since(self) -> datetime | None:
        """Return since when a worker finds the vector store away; None while all reach it. Raises QueueUnavailable."""
        async with valkey_call():
            return await outage_since(self.valkey)

    async def incomplete_uploads(self) -> int:
        """Return how many uploads lack chunks in the vector store, as far as workers know. Raises QueueUnavailable."""
        async with valkey_call():
            return await incomplete_uploads(self.valkey)

    async def close(self) -> None:
        """Close the connections."""
        await self.notifier.close()
        await self.valkey.aclose()
        await self.valkey.connection_pool.disconnect()

    def _job(
        self, kind: Kind, payload: dict[str, Any], *, function: str | None = None, job_id: str | None = None
    ) -> NewJob:
        return NewJob(
            id=job_id or new_id(),
            function=function or FUNCTIONS[kind],
            payload=payload,
            queue=QUEUES[kind],
            created_at=datetime.now(UTC),
            timeout_seconds=self._timeouts.get(kind, self._job_timeout_seconds),
            ttl_seconds=self._result_ttl_seconds,
            origin=present_origin(),
        )

    def may_have_expired(self, job_id: str) -> bool:
        """Return True if a job with this id may have ended and expired. Raises JobNotFound for a malformed id."""
        return self._may_have_expired(id_created_at(job_id))

    def _may_have_expired(self, created_at: datetime | None) -> bool:
        return created_at is not None and (datetime.now(UTC) - created_at).total_seconds() > self._result_ttl_seconds

    def _missing(self, job_id: str, created_at: datetime | None) -> JobNotFound | JobExpired:
        if self._may_have_expired(created_at):
            return JobExpired(
                f"job {job_id} is no longer kept: results can be read for {self._result_ttl_seconds} s "
                "(RESULT_TTL_SECONDS). Ask again"
            )
        return JobNotFound(f"there is no job {job_id}: check the id that POST /chat gave you")


def _submitted(job: NewJob, kind: Kind) -> JobView:
    return JobView(job_id=job.id, kind=kind, status=JobStatus.QUEUED, created_at=job.created_at)


def too_many_jobs(limit: int) -> TooManyJobs:
    """Return the error for an owner who may not submit more jobs: `limit` jobs may wait."""
    return TooManyJobs(
        f"{limit} of your jobs may wait at a time (MAX_QUEUED_JOBS): try again when some of them have started",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        headers=rate_limit_headers(
            "queued-jobs", f'q={limit};qu="concurrent-requests"', remaining=0, reset_seconds=RETRY_AFTER_SECONDS
        ),
    )
