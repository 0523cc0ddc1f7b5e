"""Submitting a job: its record, its outbox entry, its place on the queue or its dependencies, and its first event.

All of this is one script. So a job exists as a whole or not at all, its webhook cannot get lost between two steps, and
each job of a conversation finds the previous job.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from client.rq import fair_queue, outbox
from client.rq.event_writer import UNENDED_SECONDS
from client.rq.listing import EXTRA_SECONDS
from client.rq.new_job import NewJob
from client.rq.outbox import Callback
from client.rq.records import BUILD_INDEX, REMOVE_UPLOAD
from client.rq.scripts import load_script
from client.valkey import keys
from observability import tracing
from observability.spans import Span, Value
from schemas import Priority

# The last jobs of a conversation are remembered, up to this number.
MAX_CONVERSATION_JOBS: Final = 50

SUBMIT: Final = load_script("submit", fair_queue.LUA_CONSTANTS | {"MAX_CONVERSATION_JOBS": MAX_CONVERSATION_JOBS})


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to submit.

    `after`: jobs that have to end first. `conversation_id`: the previous job of that conversation has to end first,
    too. `callback`: a URL to notify of the job's end.
    """

    job: NewJob
    owner: str
    priority: Priority = Priority.NORMAL
    after: Sequence[str] = ()
    conversation_id: str | None = None
    callback: Callback | None = None

    def call(self, *, result_ttl_seconds: int) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of SUBMIT.

        The list of a conversation's jobs outlives the results by as long as a job may take to end.
        """
        job, owner = self.job, self.owner
        script_keys = [keys.job(job.id), keys.events(job.id), *outbox.entry_keys(job.id, owner)]
        script_keys += [keys.owner_jobs(owner), keys.ALL_JOBS]
        if self.conversation_id is not None:
            script_keys.append(keys.conversation_jobs(owner, self.conversation_id))
        notify = (
            ["", "", ""]
            if job.function in {REMOVE_UPLOAD, BUILD_INDEX}
            else outbox.entry_arguments(job.id, owner, self.callback)
        )
        return script_keys, [
            *(job.queue, job.id, UNENDED_SECONDS, result_ttl_seconds + UNENDED_SECONDS, *notify),
            *(repr(job.created_at.timestamp()), result_ttl_seconds + EXTRA_SECONDS),
            *(len(self.after), *self.after),
            *fair_queue.record_fields(job.record(), owner, self.priority),
        ]


def messaging_attributes(operation: str, queue: str, job_id: str | None) -> dict[str, Value | None]:
    """Return what OpenTelemetry's conventions for messaging want of a span that sends or processes a job."""
    return {
        "messaging.system": "rq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "messaging.message.id": job_id,
    }


def sending_span(queue: str, *, job_id: str | None = None, count: int | None = None) -> AbstractContextManager[Span]:
    """Return the block of the span in which jobs are put on their queue: the parent of their own spans."""
    return tracing.span(
        f"send {queue}",
        {**messaging_attributes("send", queue, job_id), "messaging.batch.message_count": count},
        kind="producer",
    )
