"""A question put on the queue: the same steps for every route that asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import schemas
from auth.quotas import Quotas
from client.rq.idempotency import IdempotentRequest
from client.rq.outbox import Callback
from client.rq_client import JobQueue
from documents.service import DocumentService
from observability import logs
from schemas import Caller, Priority
from settings import Settings


@dataclass(frozen=True, slots=True)
class Asking:
    """What a route needs to put questions on the queue for a caller."""

    settings: Settings
    queue: JobQueue
    documents: DocumentService
    quotas: Quotas
    caller: Caller

    async def submit(
        self,
        query: schemas.Query,
        *,
        idempotency: IdempotentRequest | None = None,
        priority: Priority = Priority.NORMAL,
        wait_for_uploads: bool = False,
        after: Sequence[str] = (),
        callback: Callback | None = None,
        job_id: str | None = None,
    ) -> str:
        """Put a question on the queue within the caller's limits, and return its job's id.

        `wait_for_uploads`: the question waits for the uploads that it names. `after`, `job_id`: as for JobQueue.submit.
        A repeated request is answered before the limits and the uploads are checked: both may have changed meanwhile.
        """
        if idempotency is not None and (earlier_id := await self.queue.find_earlier(idempotency)) is not None:
            logs.add_context(job_id=earlier_id)
            return earlier_id
        await self.quotas.require_tokens(self.caller.user_id)
        uploads = query.upload_ids
        if uploads:
            owner = self.caller.visible_owner
            after = [*after, *await self.documents.prerequisite_jobs(uploads, user_id=owner, wait=wait_for_uploads)]
        job = await self.queue.submit(
            "chat",
            query.payload(),
            priority=priority,
            owner=self.caller.user_id,
            after=after,
            idempotency=idempotency,
            callback=callback,
            conversation_id=query.conversation_id,
            max_waiting=self.settings.max_queued_jobs,
            job_id=job_id,
        )
        logs.add_context(job_id=job.job_id)
        return job.job_id
