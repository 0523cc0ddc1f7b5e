"""The queues. All knowledge of how RQ lays out jobs in Valkey, for those who submit and read them.

Jobs are written as RQ 2.12 writes them, so that stock workers run them. Reading takes one round trip, and never
unpickles more than plain data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from rq.job import Job
from rq.job import JobStatus as RqStatus

from client.rq.backlog import RETRY_AFTER_SECONDS, count, reserve
from client.rq.cancel import cancel
from client.rq.dependencies import release_dependents, release_stranded
from client.rq.event_stream import PAGE_EVENTS, JobNotifier, events_key, parse_events
from client.rq.fair_queue import record_fields
from client.rq.idempotency import IdempotencyStore, IdempotentRequest
from client.rq.ids import id_created_at, new_id
from client.rq.listing import JobIndex
from client.rq.outbox import Callback, write_outbox_entry
from client.rq.records import FIELDS, FUNCTIONS, KINDS, QUEUES, REMOVE, Kind, decode_text, read_job
from client.rq.serializer import PlainSerializer
from client.rq.status import QueueState, read_states
from client.rq.submit import submit
from client.valkey.connection import none_for_wrong_type, valkey_call
from client.valkey.conversations import jobs_key
from errors import JobExpired, JobNotFound, TooManyJobs, rate_limit_headers
from schemas import Event, JobStatus, JobView, Priority

# One try and one retry of 1 s each, under the deadline of `talking`: with redis-py's defaults a Valkey that swallows
# packets held an enqueue for 59 s.
SOCKET_TIMEOUT_SECONDS = 1.0
MAX_CONNECTIONS = 64
# Jobs that wait for others are looked at in pages, so many in one go.
STRANDED_PAGE = 500
MAX_STRANDED_PAGES = 20
# The queues whose jobs a user asks for, and whose waiting jobs are counted.
COUNTED = (QUEUES["chat"], QUEUES["document"])
# The rate of a queue is taken from the jobs that ended in so many seconds.
RATE_SECONDS = 60.0
# How long a call that cancels waits for the worker of a running job to stop it.
STOP_SECONDS = 1.0


class JobQueue:
    """The queues of one Valkey server. Connects on first use; safe for many tasks of one event loop."""

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
        self.pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=2 * SOCKET_TIMEOUT_SECONDS,  # for a connection that others have, when there are many
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self._valkey = redis.Redis(connection_pool=self.pool)
        self.notifier = JobNotifier(self._valkey)
        self.job_index = JobIndex(self._valkey, ttl_seconds=result_ttl_seconds)
        self.idempotency = IdempotencyStore(self._valkey)
        self._stranded_skip = 0

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

        `payload` is plain data, the only argument of the job's function: `function`, or the usual one of its kind. A
        job whose id exists already is left as it is.
        `after`: jobs that have to end first, well or not. `conversation_id`: the owner's previous job in that
        conversation has to end first, too.
        `callback`: a URL to notify of the job's end, in addition to the owner's endpoints.
        `idempotency`: a repeated request returns the job of the first one.
        `max_waiting`: the job is refused when more of the owner's jobs than that would wait.
        Raises IdempotencyConflict, JobExpired, TooManyJobs, QueueUnavailable.
        """
        if idempotency is not None:
            job_id = await self.idempotency.reserve(idempotency, new_id())
            if self._outlived(minted := id_created_at(job_id)):  # it may have run, and its result is no longer kept
                raise self._missing(job_id, minted)
        job = self._job(kind, payload, function=function, job_id=job_id)
        await self._reserve_slots(owner, [job], kind, max_waiting)
        conversation = None if conversation_id is None else jobs_key(owner, conversation_id)
        await self._submit(
            [job], kind, priority=priority, owner=owner, after=after, conversation=conversation, callbacks=[callback]
        )
        return _submitted(job, kind)

    async def find_earlier(self, idempotency: IdempotentRequest) -> str | None:
        """Return the id of the job that a request made before gave; None for a new one, and for one cut short.

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

        `job_ids` gives them ids made before. `max_waiting` as in `submit`: all are taken, or all refused. Raises
        TooManyJobs, QueueUnavailable.
        """
        ids = job_ids or [new_id() for _ in payloads]
        jobs = [self._job(kind, payload, job_id=job_id) for payload, job_id in zip(payloads, ids, strict=True)]
        await self._reserve_slots(owner, jobs, kind, max_waiting)
        told: Sequence[Callback | None] = callbacks or [None] * len(jobs)
        await self._submit(jobs, kind, priority=priority, owner=owner, callbacks=told)
        return [_submitted(job, kind) for job in jobs]

    async def count_waiting(self, owner: str) -> int:
        """Count the owner's questions and documents that wait. Raises QueueUnavailable."""
        async with valkey_call():
            return await count(self._valkey, owner, COUNTED)

    async def reserve_slots(self, owner: str, job_ids: Sequence[str], kind: Kind, *, max_waiting: int) -> None:
        """Reserve places for jobs to come with these ids. Raises TooManyJobs when more than `max_waiting` would wait.

        For what is submitted in several calls and yet as a whole; a single call can be told `max_waiting` itself.
        """
        async with valkey_call():
            places = reserve(self._valkey, owner, job_ids, queue=QUEUES[kind], most=max_waiting, queues=COUNTED)
            if await places:
                return
        raise too_many_jobs(max_waiting)

    async def _reserve_slots(self, owner: str, jobs: Sequence[Job], kind: Kind, max_waiting: int | None) -> None:
        if max_waiting is not None:
            await self.reserve_slots(owner, [job.id for job in jobs], kind, max_waiting=max_waiting)

    async def _submit(
        self,
        jobs: Sequence[Job],
        kind: Kind,
        *,
        priority: Priority,
        owner: str,
        callbacks: Sequence[Callback | None],
        after: Sequence[str] = (),
        conversation: str | None = None,
    ) -> None:
        async with valkey_call():
            pipeline = self._valkey.pipeline(transaction=True)
            pipeline.sadd("rq:queues", _queue_key(QUEUES[kind]))
            for place, (job, callback) in enumerate(zip(jobs, callbacks, strict=True)):
                if job.func_name != REMOVE:
                    write_outbox_entry(pipeline, job.id, owner=owner, callback=callback, new=True)
                # A reply that got lost makes redis-py send this again. The script then finds the id taken, which is
                # what was wanted: its answer does not matter.
                submit(
                    pipeline,
                    job,
                    record_fields(job.to_dict(), owner, priority),
                    after=after,
                    conversation=conversation,
                    ttl_seconds=self._result_ttl_seconds,
                    again=place > 0,
                )
            self.job_index.add(pipeline, owner, jobs)
            await pipeline.execute()

    async def release_stranded(self, *, waiting_seconds: float) -> int:
        """Run questions that have waited so long for jobs that have ended; return how many. Raises QueueUnavailable.

        Where very many wait, each call goes on where the one before it stopped.
        """
        queue, before, released = QUEUES["chat"], time.time() - waiting_seconds, 0
        for _ in range(MAX_STRANDED_PAGES):
            async with valkey_call():
                found, self._stranded_skip = await release_stranded(
                    self._valkey, queue, before=before, skip=self._stranded_skip, limit=STRANDED_PAGE
                )
            released += found
            if not self._stranded_skip:
                break
        return released

    async def fetch(self, job_id: str, *, owner: str | None = None) -> JobView:
        """Read a job; when `owner` is given, only one of theirs. Raises JobNotFound, JobExpired, QueueUnavailable."""
        minted = id_created_at(job_id)
        async with valkey_call():
            pipeline = self._valkey.pipeline(transaction=False)
            pipeline.hmget(Job.key_for(job_id), *FIELDS)
            pipeline.xrevrange(_results_key(job_id), count=1)
            values, results = none_for_wrong_type(await pipeline.execute(raise_on_error=False))
            if values is None:
                raise self._missing(job_id, minted)
            job = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
            if "status" not in job or decode_text(job.get("origin")) not in KINDS:
                raise self._missing(job_id, minted)
            view = read_job(job_id, job, results[0][1] if results else {})
            if owner is not None and view.owner != owner:
                raise self._missing(job_id, minted)
            return await self._placed(view) if view.status is JobStatus.QUEUED else view

    async def _placed(self, job: JobView) -> JobView:
        """Add to a waiting job its place in the queue and, from how many jobs ended of late, how long it may wait."""
        name = QUEUES[job.kind]
        pipeline = self._valkey.pipeline(transaction=False)
        pipeline.lpos(_queue_key(name), job.job_id)
        # The registry's scores are when each job will be forgotten: its end and the retention.
        since = time.time() - RATE_SECONDS + self._result_ttl_seconds
        pipeline.zcount(f"rq:finished:{name}", since, "+inf")
        index, ended = await pipeline.execute()
        if index is None:
            return job
        wait = (index + 1) * RATE_SECONDS / ended if ended else None
        return job.model_copy(update={"position": index + 1, "expected_wait_seconds": wait and round(wait, 1)})

    async def fetch_events(self, job_id: str, after: str) -> tuple[JobView, list[Event]]:
        """Read a job, and its events after the one with the id `after`, oldest first; at most PAGE_EVENTS.

        The job is read before its events, so that when it has ended no event is still to come.
        """
        job = await self.fetch(job_id)
        async with valkey_call():
            entries = await self._valkey.xrange(events_key(job_id), min=f"({after}", count=PAGE_EVENTS)
        return job, parse_events(entries or ())

    async def wait(
        self, job_id: str, seconds: float, *, owner: str | None = None, until: Callable[[JobView], bool]
    ) -> JobView:
        """Read a job as soon as `until` holds of it, or when the time is up. Woken by events, without polling.

        The time is also up when this process is told to end.
        `owner`: as for `fetch`.
        """
        give_up_at = time.monotonic() + seconds
        async with self.notifier.subscribe(job_id) as watch:
            while True:
                job = await self.fetch(job_id, owner=owner)
                left = give_up_at - time.monotonic()
                if until(job) or left <= 0 or self.notifier.closing:
                    return job
                await watch.wait(left)

    async def cancel(self, job_id: str, *, owner: str | None = None) -> JobView:
        """Cancel a job and read it: one that waits never runs, one that runs is stopped, one that has ended stays so.

        A running job may take its worker a moment to stop, so that it can still be `started` here.
        """
        job = await self.fetch(job_id, owner=owner)
        if job.status.terminal:
            return job
        async with valkey_call():
            await cancel(self._valkey, job_id, queue=QUEUES[job.kind], ttl_seconds=self._result_ttl_seconds)
        cancelled = await self.wait(job_id, STOP_SECONDS, until=lambda seen: seen.status.terminal)
        if cancelled.status.terminal:  # a stock worker leaves waiting what waits for a job that it stops
            async with valkey_call():
                await release_dependents(self._valkey, job_id)
        return cancelled

    async def states(self) -> list[QueueState]:
        """Look at each queue: how many jobs wait, and who listens. Raises QueueUnavailable."""
        async with valkey_call():
            return await read_states(self._valkey, list(QUEUES.values()))

    async def close(self) -> None:
        """Close the connections."""
        await self.notifier.close()
        await self._valkey.aclose()
        await self._valkey.connection_pool.disconnect()

    def _job(
        self, kind: Kind, payload: dict[str, Any], *, function: str | None = None, job_id: str | None = None
    ) -> Job:
        function = function or FUNCTIONS[kind]
        job = Job.create(
            function,
            args=(payload,),
            id=job_id or new_id(),
            origin=QUEUES[kind],
            connection=cast("Any", self._valkey),  # kept, never used: the job is only laid out here
            timeout=self._timeouts.get(kind, self._job_timeout_seconds),
            result_ttl=self._result_ttl_seconds,
            failure_ttl=self._result_ttl_seconds,
            status=RqStatus.QUEUED,
            description=function.rpartition(".")[2],  # else the whole call, question and all, in every log
            serializer=PlainSerializer,
        )
        job.enqueued_at = job.created_at
        return job

    def may_have_expired(self, job_id: str) -> bool:
        """Tell whether a job with this id may have ended and been forgotten. Raises JobNotFound for no id of ours."""
        return self._outlived(id_created_at(job_id))

    def _outlived(self, minted: datetime | None) -> bool:
        """Tell whether a job made then may have ended and been forgotten."""
        return minted is not None and (datetime.now(UTC) - minted).total_seconds() > self._result_ttl_seconds

    def _missing(self, job_id: str, minted: datetime | None) -> JobNotFound | JobExpired:
        if self._outlived(minted):
            return JobExpired(
                f"job {job_id} is no longer kept: results can be read for {self._result_ttl_seconds} s "
                "(RESULT_TTL_SECONDS). Ask again"
            )
        return JobNotFound(f"there is no job {job_id}: check the id that POST /chat gave you")


def _submitted(job: Job, kind: Kind) -> JobView:
    return JobView(job_id=job.id, kind=kind, status=JobStatus.QUEUED, created_at=job.created_at)


def too_many_jobs(most: int) -> TooManyJobs:
    """Say that no more jobs of an owner may wait."""
    return TooManyJobs(
        f"{most} of your jobs may wait at a time (MAX_QUEUED_JOBS): come again once some of them have begun",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        headers=rate_limit_headers(
            "queued-jobs", f'q={most};qu="concurrent-requests"', remaining=0, reset_seconds=RETRY_AFTER_SECONDS
        ),
    )


def _queue_key(name: str) -> str:
    return f"rq:queue:{name}"


def _results_key(job_id: str) -> str:
    return f"rq:results:{job_id}"
